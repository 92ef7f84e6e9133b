// A netlink socket whose kernel takes notes of requests and answers as it is told.
import {
  decodeMessages,
  encodeMessage,
  NLM_F_DUMP,
  NLMSG_DONE,
  NLMSG_ERROR,
} from "../../lib/netlink/message.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";

export interface Asked {
  readonly type: number;
  readonly flags: number;
  readonly body: Uint8Array;
}

/** `answer` returns the bodies of what the kernel lists, or an errno. */
export function scriptedSocket(answer: (asked: Asked) => readonly Uint8Array[] | number = () => []) {
  const asked: Asked[] = [];
  const waiting: Uint8Array[] = [];
  const nl = new NetlinkSocket(NETLINK_ROUTE, {
    send(_what, datagram) {
      for (const { type, flags, sequence, body } of decodeMessages(datagram.slice())) {
        const request = { type, flags, body };
        asked.push(request);
        const found = answer(request);
        const end = (kind: number, code: number) =>
          encodeMessage({
            type: kind,
            flags: 0,
            sequence,
            body: new Uint8Array(new Int32Array([-code]).buffer),
          });
        if (typeof found === "number") waiting.push(end(NLMSG_ERROR, found));
        else {
          for (const each of found)
            waiting.push(encodeMessage({ type: type + 1, flags: 0, sequence, body: each }));
          waiting.push(end((flags & NLM_F_DUMP) === NLM_F_DUMP ? NLMSG_DONE : NLMSG_ERROR, 0));
        }
      }
    },
    receive(_what, _buffer, wait) {
      const next = waiting.shift();
      if (!next && wait) throw new Error("the kernel would never answer");
      return next;
    },
    netnsCookie: () => undefined,
    close() {},
  });
  return { nl, asked };
}
