// Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h): their marks.
import type { Work } from "../clock/slices.ts";
import { ENOENT, isErrno } from "../sys/errno.ts";
import { AttributeEncoder, decodeAttributes } from "./attributes.ts";
import { type Message, NLM_F_ACK } from "./message.ts";
import { NFGENMSG, nfgenmsg, nfnlType } from "./nfnetlink.ts";
import type { NetlinkSocket, Request } from "./socket.ts";

const NFNL_SUBSYS_CTNETLINK = 1;
/** enum cntl_msg_types */
const IPCTNL_MSG_CT_NEW = 0;
const IPCTNL_MSG_CT_GET = 1;
/** enum ctattr_type */
const CTA_TUPLE_ORIG = 1;
const CTA_MARK = 8;
const CTA_ZONE = 18;
const CTA_MARK_MASK = 21;
const NLA_F_NESTED = 0x8000;

/** Connections that are changed between two steps. */
const STEP = 256;
/** Rounds until the marks are given up. */
const MAX_ROUNDS = 10;

/** Return the connections, of both families, that have this bit of the mark. Throws NetlinkError. */
function marked(nl: NetlinkSocket, bit: number): Message[] {
  const body = new AttributeEncoder().raw(nfgenmsg(0)).u32be(CTA_MARK, bit).u32be(CTA_MARK_MASK, bit).done();
  return nl.dump({
    operation: "list connections",
    type: nfnlType(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET),
    body,
  });
}

/** Return the message that clears the bits of `mask` in the mark of a connection. */
function clearing({ body }: Message, mask: number, flags: number): Request {
  const connection = decodeAttributes(body.subarray(NFGENMSG));
  const request = new AttributeEncoder()
    .raw(nfgenmsg(body[0] ?? 0))
    .bytes(CTA_TUPLE_ORIG | NLA_F_NESTED, connection.need(CTA_TUPLE_ORIG).payload)
    .u32be(CTA_MARK, 0)
    .u32be(CTA_MARK_MASK, mask);
  const zone = connection.get(CTA_ZONE)?.payload;
  if (zone) request.bytes(CTA_ZONE, zone);
  return {
    operation: "set the mark of a connection",
    type: nfnlType(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW),
    flags,
    body: request.done(),
  };
}

/**
 * Clear the bits of `mask` in the marks of all connections that have `bit` of them, until none has it. Whatever sets it must
 * have stopped before. Throws NetlinkError, or an Error where there are still some after many rounds.
 */
export function* clearConnectionMarks(nl: NetlinkSocket, bit: number, mask: number): Work {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    // A connection that another one expects takes its mark over, so one that was marked still makes more.
    const found = marked(nl, bit);
    if (found.length === 0) return;
    for (let at = 0; at < found.length; at += STEP) {
      yield;
      const part = found.slice(at, at + STEP);
      const last = part.length - 1;
      try {
        nl.batch(part.map((each, i) => clearing(each, mask, i === last ? NLM_F_ACK : 0)));
      } catch (error) {
        // Connections end meanwhile.
        if (!isErrno(error, ENOENT)) throw error;
      }
    }
  }
  throw new Error("connections keep being marked while their marks are cleared");
}
