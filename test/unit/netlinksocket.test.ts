// A netlink socket whose other end is scripted: refusals, interruptions and answers out of place.
import { describe, expect, test } from "bun:test";
import {
  decodeMessages,
  encodeMessage,
  HEADER_LENGTH,
  type Message,
  NetlinkError,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
} from "../../lib/netlink/message.ts";
import { NETLINK_NETFILTER, NetlinkSocket, type Request, type Wire } from "../../lib/netlink/socket.ts";

const OBJECT = 20;
const EINVAL = 22;
const EBUSY = 16;

/** What is put on the wire for each request that was sent; nothing more comes after that. */
function scripted(
  answer: (requests: readonly Message[], attempt: number) => readonly Uint8Array[],
  sequence?: number,
) {
  const waiting: Uint8Array[] = [];
  let attempt = 0;
  const wire: Wire = {
    send: (_what, datagram) => waiting.push(...answer(decodeMessages(datagram), attempt++)),
    receive(_what, _buffer, wait) {
      const next = waiting.shift();
      if (!next && wait) throw new Error("the kernel would never answer");
      return next;
    },
    netnsCookie: () => undefined,
    close() {},
  };
  const socket = new NetlinkSocket(NETLINK_NETFILTER, wire, sequence);
  return { socket, waiting, attempts: () => attempt };
}

const acknowledge = (sequence: number, errno = 0) =>
  encodeMessage({
    type: NLMSG_ERROR,
    flags: 0,
    sequence,
    body: new Uint8Array(new Int32Array([-errno]).buffer),
  });
const done = (sequence: number, flags = 0) =>
  encodeMessage({ type: NLMSG_DONE, flags, sequence, body: new Uint8Array(4) });
const object = (sequence: number, number: number, flags = 0) =>
  encodeMessage({ type: OBJECT, flags, sequence, body: Uint8Array.of(number, 0, 0, 0) });
const request = (operation: string, flags = 0): Request => ({
  operation,
  type: 16,
  flags,
  body: new Uint8Array(4),
});
const joined = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
const numbers = (messages: readonly Message[]) => messages.map(({ body }) => body[0]);

test("messages of any length follow each other in a datagram, each at a multiple of four bytes", () => {
  const bodies = Array.from({ length: 8 }, (_, length) => new Uint8Array(length).fill(length + 1));
  const datagram = joined(
    ...bodies.map((body, sequence) => encodeMessage({ type: OBJECT, flags: 0, sequence, body })),
  );
  const read = decodeMessages(datagram);
  expect(read.map(({ sequence, body }) => [sequence, body])).toEqual(
    bodies.map((body, sequence) => [sequence, body]),
  );
  // The last one may go without its padding.
  expect(decodeMessages(datagram.subarray(0, -1))).toHaveLength(bodies.length);
});

test("sequence numbers begin again after the last of 32 bits, also in the middle of a batch", () => {
  const asked: number[] = [];
  const { socket } = scripted(
    (requests) => {
      asked.push(...requests.map(({ sequence }) => sequence));
      return requests.map(({ sequence }, i) => acknowledge(sequence, i === 3 ? EINVAL : 0));
    },
    2 ** 32 - 3,
  );
  socket.request(request("one"));
  const batch = ["two", "three", "four", "five"].map((operation) => request(operation, NLM_F_ACK));
  expect(() => socket.batch(batch)).toThrow("five: ");
  socket.request(request("six"));
  expect(asked).toEqual([2 ** 32 - 2, 2 ** 32 - 1, 0, 1, 2, 3]);
});

describe("a dump", () => {
  const dump = (answer: Parameters<typeof scripted>[0]) => {
    const script = scripted(answer);
    return { ...script, result: () => numbers(script.socket.dump(request("link list"))) };
  };
  const sequenceOf = ([first]: readonly Message[]) => first?.sequence ?? 0;

  test.each(["the first", "the last", "the end"])(
    "that was interrupted is taken again, whichever message says so: %s",
    (which) => {
      const { result, attempts } = dump((sent, attempt) => {
        const sequence = sequenceOf(sent);
        const flag = (name: string) => (attempt < 2 && which === name ? NLM_F_DUMP_INTR : 0);
        return [
          joined(
            object(sequence, attempt, flag("the first")),
            object(sequence, 100 + attempt, flag("the last")),
          ),
          done(sequence, flag("the end")),
        ];
      });
      expect(result()).toEqual([2, 102]);
      expect(attempts()).toBe(3);
    },
  );

  test("that is interrupted again and again is given up", () => {
    const { result, attempts } = dump((sent) => [done(sequenceOf(sent), NLM_F_DUMP_INTR)]);
    expect(result).toThrow(
      new NetlinkError("link list", EBUSY, "the dump kept being interrupted by changes"),
    );
    expect(attempts()).toBe(10);
  });

  test("that ends with an error throws it, and what is left of it is not taken for the next one's", () => {
    const { result } = dump((sent, attempt) => {
      const sequence = sequenceOf(sent);
      if (attempt === 0) return [acknowledge(sequence, EINVAL), object(sequence, 7), done(sequence)];
      return [object(sequence - 1, 8), joined(object(sequence, 9), done(sequence))];
    });
    expect(result).toThrow(new NetlinkError("link list", EINVAL));
    expect(result()).toEqual([9]);
  });
});

describe("a batch", () => {
  const REQUESTS = [
    request("begin"),
    ...["a", "b", "c", "d"].map((name) => request(`add ${name}`, NLM_F_ACK)),
    request("end"),
  ];

  test("of which the n-th message is refused: the error says which, and the next batch is not mixed up with it", () => {
    for (let n = 1; n <= 4; n++) {
      const { socket, waiting } = scripted((sent, attempt) =>
        sent
          .slice(1, -1)
          .map(({ sequence }, i) => acknowledge(sequence, attempt === 0 && i + 1 >= n ? EINVAL : 0)),
      );
      expect(() => socket.batch(REQUESTS)).toThrow(new NetlinkError(`add ${"abcd"[n - 1]}`, EINVAL));
      expect(waiting).toEqual([]);
      socket.batch(REQUESTS);
      expect(waiting).toEqual([]);
    }
  });

  test("that could not even be read is answered once, for its first message: that is waited for, and no more", () => {
    const { socket } = scripted((sent) => [acknowledge(sent[0]?.sequence ?? 0, EINVAL)]);
    expect(() => socket.batch(REQUESTS)).toThrow(new NetlinkError("begin", EINVAL));
  });

  test("of which some may be refused: the others are waited for, and it is told which; any other refusal is thrown", () => {
    for (const refused of ["a", "abcd", "d", ""]) {
      const { socket, waiting } = scripted((sent) =>
        sent.map(({ sequence }, i) => acknowledge(sequence, refused.includes("abcd"[i] ?? "") ? EBUSY : 0)),
      );
      const requests = ["a", "b", "c", "d"].map((name) => request(`add ${name}`));
      expect(socket.attempts(requests, EBUSY)).toEqual(["a", "b", "c", "d"].map((n) => !refused.includes(n)));
      expect(waiting).toEqual([]);
      if (refused)
        expect(() => socket.attempts(requests, EINVAL)).toThrow(new NetlinkError(`add ${refused[0]}`, EBUSY));
    }
  });

  test("refused for a message that asked for no answer: it is named all the same", () => {
    const { socket } = scripted((sent) =>
      sent.map(({ sequence }, i) => acknowledge(sequence, i === 3 ? EINVAL : 0)).slice(1, -1),
    );
    expect(() => socket.batch(REQUESTS.map((each, i) => (i === 3 ? { ...each, flags: 0 } : each)))).toThrow(
      new NetlinkError("add c", EINVAL),
    );
  });
});

test("a message cut anywhere is refused, not read beyond its end", () => {
  const whole = joined(object(1, 5), done(1));
  for (let length = 1; length < whole.length; length++) {
    const cut = whole.slice(0, length);
    const { socket } = scripted(() => [cut]);
    expect(() => socket.dump(request("link list"))).toThrow();
  }
  expect(whole.length).toBe(2 * (HEADER_LENGTH + 4));
});
