// Connections that the rules have let through need not be judged again: the generation of the rules is kept in the connection
// mark, and a change that may block a connection raises it in the same transaction, so that all are judged again by their next
// packet. A packet that is still judged by the rules before the change leaves their generation behind, which is no good any more.
//
// The numbers come round. Before they begin anew, and when a table takes the place of another, generation 0 judges each packet
// by itself and marks none, until no connection has a mark of before.
import type { Work } from "../clock/slices.ts";
import { clearConnectionMarks } from "../netlink/conntrack.ts";
import {
  matchConnectionMarkValue,
  matchState,
  STATE,
  setConnectionMark,
} from "../netlink/nftables/conntrack.ts";
import type { Expression } from "../netlink/nftables/expr/expression.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";

/** Bit of the connection mark of those whose beginning was not seen. */
export const MID_STREAM_MARK = 0x40_0000;
/** Bits of the generation. The first says that there is a generation, so that the kernel can list who has one. */
const MASK = 0xff80_0000;
const MARKED = 0x8000_0000;
const SHIFT = 23;
const LAST = 256;

/** The first generation that lets marked connections through. */
export const FIRST = 1;

const markOf = (generation: number) => (MARKED | ((generation - 1) << SHIFT)) >>> 0;

/** The generation after this one; 0 behind the last, and behind 0. */
export function following(generation: number): number {
  return generation === 0 || generation === LAST ? 0 : generation + 1;
}

/**
 * Match packets of connections that were let through in this generation, and whose beginning was seen. The first packet of a
 * connection that another one expects (RELATED) has the mark of that one, without having been judged.
 */
export function admitted(generation: number): Expression[] {
  return [
    ...matchState(STATE.established | STATE.new),
    ...matchConnectionMarkValue(markOf(generation), (MASK | MID_STREAM_MARK) >>> 0),
  ];
}

/** Mark the connection of a packet as let through. */
export function setAdmitted(generation: number): Expression[] {
  return setConnectionMark(markOf(generation), MASK);
}

/** Forget which connections were let through; only in generation 0. Throws NetlinkError. */
export function forgetAdmitted(nf: NetlinkSocket): Work {
  return clearConnectionMarks(nf, MARKED, MASK);
}
