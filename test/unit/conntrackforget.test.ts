// Forgetting the connections of a UDP port, and reading traces: the kernel's messages by their layout (linux/netfilter/nfnetlink_conntrack.h, nf_tables.h).
import { describe, expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { AttributeEncoder, decodeAttributes } from "../../lib/netlink/attributes.ts";
import { forgetUdpConnections } from "../../lib/netlink/conntrack.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import { TraceReader } from "../../lib/netlink/nftables/trace.ts";
import type { NetlinkSocket, Request } from "../../lib/netlink/socket.ts";

const [ENOENT, EPERM] = [2, 1];
const NESTED = 0x8000;
/** nfnetlink_conntrack.h */
const CTA = { original: 1, reply: 2, zone: 18, ip: 1, protocol: 2, source: 1, number: 1, port: 3 } as const;
const [CT_GET, CT_DELETE] = [0x101, 0x102];
/** nf_tables.h; the type of a policy's verdict is 1. */
const TRACE = { type: 4, id: 6, networkHeader: 8, policy: 16 } as const;
/** struct nfgenmsg of IPv4. */
const HEAD = Uint8Array.of(2, 0, 0, 0);

/** A connection to a port, whose answers come from an address. */
function connection(protocol: number, port: number, target: readonly number[], zone?: number) {
  const attributes = new AttributeEncoder()
    .raw(HEAD)
    .nested(CTA.original, (tuple) =>
      tuple.nested(CTA.protocol, (of) => of.u8(CTA.number, protocol).u16be(CTA.port, port)),
    )
    .nested(CTA.reply, (tuple) =>
      tuple.nested(CTA.ip, (of) => of.bytes(CTA.source, Uint8Array.from(target))),
    );
  if (zone !== undefined) attributes.u16be(CTA.zone, zone);
  return { type: 0x100, flags: 0, body: attributes.done() };
}

function forget(found: readonly ReturnType<typeof connection>[], errno?: number) {
  const [dumped, sent, asked]: [Request[], Request[], number[][]] = [[], [], []];
  const nl = {
    dump(request: Request) {
      dumped.push(request);
      return found;
    },
    request(request: Request) {
      sent.push(request);
      if (errno !== undefined) throw new NetlinkError("forget", errno);
    },
  } as unknown as NetlinkSocket;
  forgetUdpConnections(nl, 53, (target) => asked.push([...target]) > 0 && target[3] !== 9);
  return { dumped, sent, asked };
}

describe("connections of a UDP port", () => {
  test("are forgotten by their own tuple, in their zone, where their target is meant", () => {
    const { dumped, sent, asked } = forget([
      connection(17, 53, [10, 32, 0, 1]),
      connection(17, 53, [10, 32, 0, 2], 7),
      connection(17, 53, [10, 32, 0, 9]),
      // A kernel before 5.8 sends all.
      connection(6, 53, [10, 32, 0, 3]),
      connection(17, 54, [10, 32, 0, 4]),
    ]);
    expect(dumped.map(({ type }) => type)).toEqual([CT_GET]);
    expect(asked).toEqual([
      [10, 32, 0, 1],
      [10, 32, 0, 2],
      [10, 32, 0, 9],
    ]);
    const told = sent.map(({ type, body = new Uint8Array() }) => {
      const attributes = decodeAttributes(body.subarray(4));
      const tuple = attributes.get(CTA.original);
      const of = tuple?.nested.get(CTA.protocol)?.nested;
      return {
        ...{ type, head: [...body.subarray(0, 4)], zone: attributes.get(CTA.zone)?.u16be },
        ...{ protocol: of?.get(CTA.number)?.payload[0], port: of?.get(CTA.port)?.u16be },
        isNested: (new DataView(body.buffer, body.byteOffset).getUint16(6, true) & NESTED) !== 0,
      };
    });
    const each = { type: CT_DELETE, head: [...HEAD], protocol: 17, port: 53, isNested: true };
    expect(told).toEqual([
      { ...each, zone: undefined },
      { ...each, zone: 7 },
    ]);
  });

  test("may have ended meanwhile; any other refusal is told", () => {
    const two = [connection(17, 53, [10, 32, 0, 1]), connection(17, 53, [10, 32, 0, 2])];
    expect(forget(two, ENOENT).sent.length).toBe(2);
    expect(() => forget(two, EPERM)).toThrow("forget");
  });
});

describe("a traced packet", () => {
  /** NFT_MSG_TRACE with an id, a type, and a network header of so many bytes from an address. */
  const message = (length: number, source: readonly number[], attributes: AttributeEncoder) => {
    const header = new Uint8Array(length);
    header.set(source.slice(0, Math.max(0, length - 12)), Math.min(12, length));
    return { type: (10 << 8) | 17, body: attributes.bytes(TRACE.networkHeader, header).done() };
  };
  const policy = (verdict = 0) =>
    new AttributeEncoder().raw(HEAD).u32be(TRACE.id, 1).u32be(TRACE.type, 1).u32be(TRACE.policy, verdict);

  test("goes forth or back by the source in its header, of 20 bytes at least", () => {
    const reader = () => new TraceReader({ source: parseIPv4("10.32.0.1") });
    const forth = (length: number, source: readonly number[]) =>
      reader().read(message(length, source, policy()))?.forth;
    expect(forth(20, [10, 32, 0, 1])).toBe(true);
    expect(forth(20, [10, 32, 0, 2])).toBe(false);
    expect(forth(60, [10, 32, 0, 2])).toBe(false);
    // Cut: nothing is known of it.
    expect(forth(19, [10, 32, 0, 2])).toBe(true);
  });

  test("that is accepted is no drop", () => {
    const reader = new TraceReader({ source: parseIPv4("10.32.0.1") });
    expect(reader.read(message(20, [10, 32, 0, 1], policy(1)))).toBeUndefined();
  });
});
