// Matches on the connection that a packet belongs to.
import type { Family } from "../../address/ip.ts";
import { bitwise } from "./expr/bitwise.ts";
import { cmp } from "./expr/cmp.ts";
import {
  ct,
  ctSet,
  IP_CT_DIR_ORIGINAL,
  IP_CT_DIR_REPLY,
  NFT_CT_DIRECTION,
  NFT_CT_MARK,
  NFT_CT_PROTO_SRC,
  NFT_CT_PROTOCOL,
  NFT_CT_SRC_IP,
  NFT_CT_SRC_IP6,
  NFT_CT_STATE,
  NFT_CT_STATUS,
} from "./expr/ct.ts";
import { hostOrder } from "./expr/data.ts";
import type { Expression } from "./expr/expression.ts";
import { matchSctpMidStream, matchTcpMidStream } from "./transport.ts";

/** Bits of a packet's state; INVALID and UNTRACKED packets belong to no connection. */
export const STATE = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;

/**
 * A field of a connection. The opener is the address that opened it, before source NAT; the target is the address that it
 * was opened to, after destination NAT. They are the same for packets of both directions, and for ICMP errors about them.
 */
export type ConnectionField = "opener" | "target" | "protocol" | "target port";

const SOURCE_ADDRESS = { 4: NFT_CT_SRC_IP, 6: NFT_CT_SRC_IP6 } as const;

/** Return the length of a field in registers, in bytes. */
export function connectionFieldLength(field: ConnectionField, family: Family): number {
  return family === 6 && (field === "opener" || field === "target") ? 16 : 4;
}

/** Load a field; ends the rule for packets that belong to no connection. */
export function loadConnectionField(field: ConnectionField, family: Family, register: number): Expression {
  switch (field) {
    case "opener":
      return ct(SOURCE_ADDRESS[family], register, IP_CT_DIR_ORIGINAL);
    case "target":
      return ct(SOURCE_ADDRESS[family], register, IP_CT_DIR_REPLY);
    case "protocol":
      return ct(NFT_CT_PROTOCOL, register);
    case "target port":
      return ct(NFT_CT_PROTO_SRC, register, IP_CT_DIR_REPLY);
  }
}

/** Match packets in one of these states (a sum of STATE). */
export function matchState(states: number): Expression[] {
  return [ct(NFT_CT_STATE), bitwise(hostOrder(states)), cmp(new Uint8Array(4), false)];
}

/** Match packets of established connections, and those related to one. */
export function matchEstablished(): Expression[] {
  return matchState(STATE.established | STATE.related);
}

/** Bits of a connection's status: IPS_SRC_NAT and IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h) */
const NAT = { source: 0x10, any: 0x30 } as const;

/** Match packets whose connection has addresses translated (its opener's alone, where given); or has not. */
export function matchTranslated(translated = true, which: keyof typeof NAT = "any"): Expression[] {
  return [ct(NFT_CT_STATUS), bitwise(hostOrder(NAT[which])), cmp(new Uint8Array(4), !translated)];
}

/** Match packets from the target of their connection to its opener. */
export function matchReply(): Expression[] {
  return [ct(NFT_CT_DIRECTION), cmp(Uint8Array.of(IP_CT_DIR_REPLY))];
}

/** Match packets whose connection has this bit of the connection mark. */
export function matchConnectionMark(bit: number): Expression[] {
  return [ct(NFT_CT_MARK), bitwise(hostOrder(bit)), cmp(new Uint8Array(4), false)];
}

/** Match packets whose connection has this value in these bits of the connection mark. */
export function matchConnectionMarkValue(value: number, mask: number): Expression[] {
  return [ct(NFT_CT_MARK), bitwise(hostOrder(mask)), cmp(hostOrder(value))];
}

/** Set bits of the connection mark to a value. */
export function setConnectionMark(value: number, mask = value): Expression[] {
  return [ct(NFT_CT_MARK), bitwise(hostOrder(~mask >>> 0), hostOrder(value)), ctSet(NFT_CT_MARK)];
}

/**
 * Match packets in the middle of a connection whose beginning conntrack has not seen: it tracks them all the same, and
 * takes their sender for the opener (nf_conntrack_tcp_loose; for SCTP, sctp_new in net/netfilter).
 */
export function matchMidStream(): Expression[][] {
  return [matchTcpMidStream(), matchSctpMidStream()].map((packets) => [...matchState(STATE.new), ...packets]);
}
