// Connections of conntrack (linux/netfilter/nfnetlink_conntrack.h): marks, liberal TCP tracking, deletion.
import type { Work } from "../clock/slices.ts";
import { ENOENT, unlessErrno } from "../sys/errno.ts";
import { AttributeEncoder, decodeAttributes } from "./attributes.ts";
import { type Message, NLM_F_ACK } from "./message.ts";
import { NFGENMSG, nfgenmsg, nfnlType } from "./nfnetlink.ts";
import type { NetlinkSocket, Request } from "./socket.ts";

const NFNL_SUBSYS_CTNETLINK = 1;
/** enum cntl_msg_types */
const IPCTNL_MSG_CT_NEW = 0;
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
/** enum ctattr_type */
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_PROTOINFO = 4;
const CTA_MARK = 8;
const CTA_ZONE = 18;
const CTA_MARK_MASK = 21;
const CTA_FILTER = 25;
/** enum ctattr_tuple, ctattr_ip, ctattr_l4proto, ctattr_filter */
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
const CTA_FILTER_ORIG_FLAGS = 1;
/** CTA_FILTER_F_CTA_PROTO_NUM and CTA_FILTER_F_CTA_PROTO_DST_PORT (net/netfilter/nf_internals.h). */
const BY_PROTOCOL_AND_PORT = (1 << 3) | (1 << 5);
/** enum ctattr_protoinfo, ctattr_protoinfo_tcp; struct nf_ct_tcp_flags { flags, mask }, IP_CT_TCP_FLAG_BE_LIBERAL of both. */
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY = 5;
const LIBERAL = Uint8Array.of(8, 8);
const AF_INET = 2;
const IPPROTO_UDP = 17;
const NLA_F_NESTED = 0x8000;

/** Connections that are changed between two steps. */
const STEP = 256;
/** Rounds until the marks are given up. */
const MAX_ROUNDS = 10;

const LIST = {
  operation: "list connections",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET),
};

/** Return the connections, of both families, that have this bit of the mark. Throws NetlinkError. */
function marked(nl: NetlinkSocket, bit: number): Message[] {
  const body = new AttributeEncoder().raw(nfgenmsg(0)).u32be(CTA_MARK, bit).u32be(CTA_MARK_MASK, bit).done();
  return nl.dump({ ...LIST, body });
}

/** Return a request on a listed connection; `add` appends the attributes to change. */
function about(
  { body }: Message,
  operation: string,
  type: number,
  add: (request: AttributeEncoder) => void = () => {},
): Request {
  const connection = decodeAttributes(body.subarray(NFGENMSG));
  const request = new AttributeEncoder()
    .raw(nfgenmsg(body[0] ?? 0))
    .bytes(CTA_TUPLE_ORIG | NLA_F_NESTED, connection.need(CTA_TUPLE_ORIG).payload);
  add(request);
  const zone = connection.get(CTA_ZONE)?.payload;
  if (zone) request.bytes(CTA_ZONE, zone);
  return { operation, type: nfnlType(NFNL_SUBSYS_CTNETLINK, type), body: request.done() };
}

/** Change connections, STEP at a time; skip those that have ended. Throws NetlinkError. */
function* changeAll(
  nl: NetlinkSocket,
  connections: readonly Message[],
  operation: string,
  add: (request: AttributeEncoder) => void,
): Work {
  for (let at = 0; at < connections.length; at += STEP) {
    yield;
    const part = connections.slice(at, at + STEP);
    const last = part.length - 1;
    const requests = part.map((each, i) => ({
      ...about(each, operation, IPCTNL_MSG_CT_NEW, add),
      flags: i === last ? NLM_F_ACK : 0,
    }));
    unlessErrno([ENOENT], () => nl.batch(requests));
  }
}

/** Set IP_CT_TCP_FLAG_BE_LIBERAL on all TCP connections: packets outside the window stay valid. Throws NetlinkError. */
export function* loosenTcpConnections(nl: NetlinkSocket): Work {
  const connections = nl.dump({ ...LIST, body: new AttributeEncoder().raw(nfgenmsg(0)).done() });
  const isTcp = ({ body }: Message) =>
    decodeAttributes(body.subarray(NFGENMSG)).get(CTA_PROTOINFO)?.nested.get(CTA_PROTOINFO_TCP) !== undefined;
  yield* changeAll(nl, connections.filter(isTcp), "loosen a connection", (request) =>
    request.nested(CTA_PROTOINFO, (info) =>
      info.nested(CTA_PROTOINFO_TCP, (tcp) =>
        tcp.bytes(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, LIBERAL).bytes(CTA_PROTOINFO_TCP_FLAGS_REPLY, LIBERAL),
      ),
    ),
  );
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
    yield* changeAll(nl, found, "set the mark of a connection", (request) =>
      request.u32be(CTA_MARK, 0).u32be(CTA_MARK_MASK, mask),
    );
  }
  throw new Error("connections keep being marked while their marks are cleared");
}

/** Return the IPv4 connections that were opened to a UDP port: the kernel filters them (Linux 5.8), and so do we. */
function toUdpPort(nl: NetlinkSocket, port: number): Message[] {
  const body = new AttributeEncoder()
    .raw(nfgenmsg(AF_INET))
    .nested(CTA_FILTER, (filter) => filter.u32(CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_PORT))
    .nested(CTA_TUPLE_ORIG, (tuple) =>
      tuple.nested(CTA_TUPLE_PROTO, (protocol) =>
        protocol.u8(CTA_PROTO_NUM, IPPROTO_UDP).u16be(CTA_PROTO_DST_PORT, port),
      ),
    )
    .done();
  return nl.dump({ ...LIST, body }).filter(({ body }) => {
    const tuple = decodeAttributes(body.subarray(NFGENMSG)).get(CTA_TUPLE_ORIG)?.nested;
    const protocol = tuple?.get(CTA_TUPLE_PROTO)?.nested;
    return (
      protocol?.get(CTA_PROTO_NUM)?.payload[0] === IPPROTO_UDP &&
      protocol.get(CTA_PROTO_DST_PORT)?.u16be === port
    );
  });
}

/** Return the source of the answers of a connection, its target after translation, in octets. */
function answersFrom({ body }: Message): Uint8Array | undefined {
  const reply = decodeAttributes(body.subarray(NFGENMSG)).get(CTA_TUPLE_REPLY)?.nested;
  return reply?.get(CTA_TUPLE_IP)?.nested.get(CTA_IP_V4_SRC)?.payload;
}

/**
 * Forget the IPv4 connections that were opened to a UDP port, those alone whose target `isMeant` accepts (the octets of its
 * address): else, as UDP connections do not end, packets would follow a translation that no longer holds. Throws NetlinkError.
 */
export function forgetUdpConnections(
  nl: NetlinkSocket,
  port: number,
  isMeant: (target: Uint8Array) => boolean,
): void {
  for (const message of toUdpPort(nl, port)) {
    const target = answersFrom(message);
    if (!target || !isMeant(target)) continue;
    const request = about(message, "forget a connection", IPCTNL_MSG_CT_DELETE);
    unlessErrno([ENOENT], () => nl.request(request));
  }
}
