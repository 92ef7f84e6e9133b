// bun conntrackfill.ts fill|flush: fill the table of tracked connections of this network namespace with connections that the kernel
// does not evict, and print how many; or delete all connections. The limit is the machine's, the count the namespace's.
import { readFileSync } from "node:fs";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import { NetlinkError, NLM_F_ACK } from "../../lib/netlink/message.ts";
import { nfgenmsg, nfnlType } from "../../lib/netlink/nfnetlink.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";

/** Of more than so many connections it takes too long. */
const MOST = 600_000;
const BATCH = 500;
/** linux/netfilter/nfnetlink_conntrack.h */
const [SUBSYSTEM, NEW, DELETE] = [1, 0, 2];
const [TUPLE_ORIG, TUPLE_REPLY, STATUS, TIMEOUT] = [1, 2, 3, 7];
const [TUPLE_IP, TUPLE_PROTO] = [1, 2];
const [V4_SRC, V4_DST] = [1, 2];
const [PROTO_NUM, SRC_PORT, DST_PORT] = [1, 2, 3];
/** IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED. */
const LASTING = 2 | 4 | 8;
const NLM_F_CREATE = 0x400;
const AF_INET = 2;
const UDP = 17;
const LIFETIME_S = 600;
/** 198.18.0.0/15 is for benchmarks (RFC 2544). */
const [FROM, TO] = [0xc6120000, 0xc6130001];
const PORTS = 50_000;

type End = readonly [address: number, port: number];

const tuple = (encoder: AttributeEncoder, type: number, [from, fromPort]: End, [to, toPort]: End) =>
  encoder.nested(type, (outer) =>
    outer
      .nested(TUPLE_IP, (ip) => ip.u32be(V4_SRC, from).u32be(V4_DST, to))
      .nested(TUPLE_PROTO, (protocol) =>
        protocol.u8(PROTO_NUM, UDP).u16be(SRC_PORT, fromPort).u16be(DST_PORT, toPort),
      ),
  );

/** A place in the bytes that is filled in: encoding each connection would take most of the time. */
const [ADDRESS, PORT] = [0x01020304, 0x0506];

function encoded(): Buffer {
  const [from, to]: [End, End] = [
    [ADDRESS, PORT],
    [TO, 9],
  ];
  const encoder = new AttributeEncoder().raw(nfgenmsg(AF_INET));
  tuple(encoder, TUPLE_ORIG, from, to);
  tuple(encoder, TUPLE_REPLY, to, from);
  return Buffer.from(encoder.u32be(STATUS, LASTING).u32be(TIMEOUT, LIFETIME_S).done());
}

const TEMPLATE = encoded();
const both = (mark: Uint8Array) => [TEMPLATE.indexOf(mark), TEMPLATE.lastIndexOf(mark)];
const [ADDRESSES, PORT_PLACES] = [both(Buffer.from([1, 2, 3, 4])), both(Buffer.from([5, 6]))];

function connection(i: number, isLast: boolean) {
  const body = Buffer.from(TEMPLATE);
  for (const at of ADDRESSES) body.writeUInt32BE(FROM + Math.floor(i / PORTS), at);
  for (const at of PORT_PLACES) body.writeUInt16BE(1_024 + (i % PORTS), at);
  return {
    operation: "track a connection",
    type: nfnlType(SUBSYSTEM, NEW),
    flags: NLM_F_CREATE | (isLast ? NLM_F_ACK : 0),
    body,
  };
}

function fill(nl: NetlinkSocket): number {
  const max = Number(readFileSync("/proc/sys/net/netfilter/nf_conntrack_max", "utf8"));
  if (!(max <= MOST)) return 0;
  for (let made = 0; ; made += BATCH) {
    try {
      nl.batch(Array.from({ length: BATCH }, (_, i) => connection(made + i, i === BATCH - 1)));
    } catch (error) {
      if (error instanceof NetlinkError && made + BATCH >= max / 2) return made;
      throw error;
    }
  }
}

const nl = new NetlinkSocket(NETLINK_NETFILTER);
if (process.argv[2] === "fill") console.log(fill(nl));
else
  nl.request({
    operation: "forget all connections",
    type: nfnlType(SUBSYSTEM, DELETE),
    flags: NLM_F_ACK,
    body: new AttributeEncoder().raw(nfgenmsg(0)).done(),
  });
nl.close();
