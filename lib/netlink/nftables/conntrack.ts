// Expressions about the connection that a packet belongs to (linux/netfilter/nf_tables.h: nft_ct_keys).
import type { Family } from "../../address/ip.ts";
import {
  compare,
  type Expression,
  expression,
  hostOrder,
  mask,
  meta,
  PAYLOAD_TRANSPORT,
  payload,
  REGISTER,
} from "./step.ts";

const KEY = { state: 0, direction: 1, mark: 3, protocol: 10, protoSource: 11 } as const;
const SOURCE_ADDRESS = { 4: 19, 6: 21 } as const;
const ORIGINAL = 0;
const REPLY = 1;

/** Bits of a packet's state; INVALID and UNTRACKED packets belong to no connection. */
export const STATE = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;

/**
 * A field of a connection. The opener is the address that opened it, before source NAT; the target is the address that it
 * was opened to, after destination NAT. They are the same for packets of both directions, and for ICMP errors about them.
 */
export type ConnectionField = "opener" | "target" | "protocol" | "target port";

/** Its length in registers, in bytes. */
export function connectionFieldLength(field: ConnectionField, family: Family): number {
  return family === 6 && (field === "opener" || field === "target") ? 16 : 4;
}

function load(key: number, register = REGISTER, direction?: number): Expression {
  return expression("ct", (data) => {
    data.u32be(2, key).u32be(1, register);
    if (direction !== undefined) data.u8(3, direction);
  });
}

/** Loads a field; ends the rule for packets that belong to no connection. */
export function connectionField(field: ConnectionField, family: Family, register: number): Expression {
  switch (field) {
    case "opener":
      return load(SOURCE_ADDRESS[family], register, ORIGINAL);
    case "target":
      return load(SOURCE_ADDRESS[family], register, REPLY);
    case "protocol":
      return load(KEY.protocol, register);
    case "target port":
      return load(KEY.protoSource, register, REPLY);
  }
}

/** Matches packets in one of these states (a sum of STATE). */
export function connectionState(states: number): Expression[] {
  return [load(KEY.state), mask(hostOrder(states)), compare(new Uint8Array(4), false)];
}

/** Matches packets from the target of their connection to its opener. */
export function isReply(): Expression[] {
  return [load(KEY.direction), compare(Uint8Array.of(REPLY), true)];
}

/** Matches packets whose connection has this bit of the connection mark. */
export function connectionMarked(bit: number): Expression[] {
  return [load(KEY.mark), mask(hostOrder(bit)), compare(new Uint8Array(4), false)];
}

/** Sets a bit of the connection mark. */
export function markConnection(bit: number): Expression[] {
  return [
    load(KEY.mark),
    mask(hostOrder(~bit >>> 0), hostOrder(bit)),
    expression("ct", (data) => data.u32be(2, KEY.mark).u32be(4, REGISTER)),
  ];
}

const IPPROTO_TCP = 6;
const IPPROTO_SCTP = 132;
const TCP_FLAGS_AT = 13;
const TCP_SYN = 2;
const TCP_RST = 4;
const TCP_ACK = 16;
const SCTP_CHUNK_TYPE_AT = 12;
const SCTP_INIT = 1;

const ofProtocol = (number: number) => [meta("l4proto"), compare(Uint8Array.of(number), true)];

/**
 * Match packets in the middle of a connection whose beginning conntrack has not seen: it tracks them all the same, and
 * takes their sender for the opener (nf_conntrack_tcp_loose; for SCTP, sctp_new in net/netfilter).
 */
export function midStream(): Expression[][] {
  return [
    [
      ...connectionState(STATE.new),
      ...ofProtocol(IPPROTO_TCP),
      payload(PAYLOAD_TRANSPORT, TCP_FLAGS_AT, 1),
      mask(Uint8Array.of(TCP_SYN | TCP_ACK)),
      compare(Uint8Array.of(TCP_ACK), true),
    ],
    [
      ...connectionState(STATE.new),
      ...ofProtocol(IPPROTO_SCTP),
      payload(PAYLOAD_TRANSPORT, SCTP_CHUNK_TYPE_AT, 1),
      compare(Uint8Array.of(SCTP_INIT), false),
    ],
  ];
}

/** Matches TCP segments that reset a connection. */
export function tcpReset(): Expression[] {
  return [
    ...ofProtocol(IPPROTO_TCP),
    payload(PAYLOAD_TRANSPORT, TCP_FLAGS_AT, 1),
    compare(Uint8Array.of(TCP_RST), true),
  ];
}
