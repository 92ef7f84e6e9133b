// What each function of lib/netlink asks the kernel, to the bit; what it makes of the kernel's answers, and of its refusals.
// The bytes are those that the namespace tests have proved against the kernel: a change of them has to be meant.
import { describe, expect, test } from "bun:test";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import {
  address6List,
  addressAdd,
  addressDelete,
  addressList,
  encodeAddress,
} from "../../lib/netlink/address.ts";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import { type BridgeMode, bridgeSet } from "../../lib/netlink/link/bridge.ts";
import { bridgePortSet } from "../../lib/netlink/link/bridgeport.ts";
import { linkDelete, linksDelete } from "../../lib/netlink/link/delete.ts";
import { encodeKind, encodeSettings, ifinfomsg } from "../../lib/netlink/link/message.ts";
import { vxlanStopLearning } from "../../lib/netlink/link/vxlan.ts";
import {
  decodeLink,
  linkAdd,
  linkByIndex,
  linkByName,
  linkList,
  linkSet,
  linkState,
} from "../../lib/netlink/link.ts";
import { linkCounters } from "../../lib/netlink/linkstats.ts";
import { decodeEvent } from "../../lib/netlink/monitor.ts";
import { encodeNeighbour, hasFailed, neighbourList, neighbourSet } from "../../lib/netlink/neighbour.ts";
import { netnsId } from "../../lib/netlink/netnsid.ts";
import { decodePacket, groupMessages } from "../../lib/netlink/nflog.ts";
import { pathTo } from "../../lib/netlink/path.ts";
import {
  encodeRoute,
  encodeRule,
  routeAdd,
  routeDelete,
  routeList,
  routeReplace,
  ruleAdd,
  ruleDelete,
  ruleList,
} from "../../lib/netlink/route.ts";
import type { NetlinkSocket } from "../../lib/netlink/socket.ts";
import {
  bpfFilterAttach,
  bpfFilterDelete,
  bpfFilterList,
  bpfFilterReplace,
  clsactDelete,
  clsactEnsure,
  clsactReplace,
  encodeClsact,
} from "../../lib/netlink/trafficcontrol.ts";
import { encodePolicy, policyDelete, policyList, policySet } from "../../lib/netlink/xfrm/policy.ts";
import { encodeState, stateAdd, stateDelete, stateList } from "../../lib/netlink/xfrm/state.ts";
import { scriptedSocket } from "../support/rtsocket.ts";

const [ENOENT, ESRCH, EEXIST, ENODEV, EINVAL, EPERM, EADDRNOTAVAIL, EHOSTUNREACH] = [
  2, 3, 17, 19, 22, 1, 99, 113,
];
const CIDR = parseCidr("10.32.0.1/12");
const A = parseIPv4("10.99.0.1");
const B = parseIPv4("10.99.0.2");
const ROUTE = { destination: parseCidr("10.40.0.0/16"), gateway: parseIPv4("10.32.0.9"), link: 5 };
const FAR = { ...ROUTE, table: 1_000 };
const RULE = { priority: 100, mark: 7, table: 200 };
const STATE = { source: A, destination: B, spi: 0x12345678, reqid: 6784, key: new Uint8Array(36).fill(7) };
const POLICY = { direction: "in", source: undefined, destination: B, port: 6784, priority: 6785 } as const;

type Case = readonly [name: string, act: (nl: NetlinkSocket) => unknown, asked: string];

const CASES: readonly Case[] = [
  [
    "address add",
    (nl) => addressAdd(nl, "weave", 5, CIDR),
    "20 605 020c000005000000080002000a200001080001000a200001080004000a2fffff",
  ],
  [
    "address delete",
    (nl) => addressDelete(nl, "weave", 5, CIDR),
    "21 5 020c000005000000080002000a200001080001000a200001",
  ],
  [
    "address of /31",
    (nl) => addressAdd(nl, "weave", 5, parseCidr("10.0.0.0/31")),
    "20 605 021f000005000000080002000a000000080001000a000000",
  ],
  ["address list", (nl) => addressList(nl), "22 301 02[7]"],
  ["address list, IPv6", (nl) => address6List(nl, 5), "22 301 0a[7]"],
  ["link delete", (nl) => linkDelete(nl, "weave"), "17 5 [16]0a0003007765617665000000"],
  ["link get by index", (nl) => linkByIndex(nl, 5), "18 5 [4]05[11]08001d0008000000"],
  ["link get by name", (nl) => linkByName(nl, "weave"), "18 5 [16]0a000300776561766500000008001d0008000000"],
  ["link list", (nl) => linkList(nl), "18 301 [16]08001d0008000000"],
  [
    "link add",
    (nl) => linkAdd(nl, { kind: "bridge", name: "weave", index: 9, up: true }),
    "16 60d [4]0900000001000000010000000a0003007765617665000000100012000a0001006272696467650000",
  ],
  [
    "link set, all",
    (nl) =>
      linkSet(nl, "x", 5, {
        name: "y",
        mtu: 1376,
        address: "02:00:00:00:00:01",
        master: 7,
        up: true,
        arp: false,
        queue: 1000,
        alias: "net/c/eth0",
        netnsFd: 8,
      }),
    "16 5 [4]0500000081000000810000000a00010002[4]0100000800040060050000060003007900000008000d00e80300000e0014006e65742f632f65746830000008000a000700000008001c0008000000",
  ],
  ["link set down", (nl) => linkSet(nl, "x", 5, { up: false, arp: true }), "16 5 [4]05[7]81000000"],
  // 0 and nothing are settings, too: no bridge, no queue, no alias.
  [
    "link set, none",
    (nl) => linkSet(nl, "x", 5, { mtu: 0, queue: 0, alias: "", master: 0, netnsFd: 0 }),
    "16 5 [4]05[11]080004[5]08000d[5]0400140008000a[5]08001c[5]",
  ],
  ["link set name", (nl) => linkSet(nl, "x", 5, { name: "z" }), "16 5 [4]05[11]060003007a000000"],
  [
    "bridge set",
    (nl) =>
      bridgeSet(nl, "weave", 5, {
        ageingTime: 30_000,
        stp: true,
        vlanFiltering: false,
        multicastSnooping: true,
      }),
    "16 5 [4]05[11]340012000a00010062726964676500002400020008000400307500000800050001000000050007[5]0500170001000000",
  ],
  [
    "bridge set, one",
    (nl) => bridgeSet(nl, "weave", 5, { vlanFiltering: true }),
    "16 5 [4]05[11]1c0012000a00010062726964676500000c0002000500070001000000",
  ],
  [
    "bridge port set",
    (nl) => bridgePortSet(nl, "v", 5, { hairpin: true, group_fwd_mask: 8, blocked: false }),
    "19 5 0700000005[11]1c000c800500010003000000050004000100000006001f0008000000",
  ],
  [
    "bridge port block",
    (nl) => bridgePortSet(nl, "v", 5, { blocked: true, backup_port: 3 }),
    "19 5 0700000005[11]14000c8005000100040000000800220003000000",
  ],
  [
    "vxlan",
    (nl) => vxlanStopLearning(nl, "vxlan-6784", 5),
    "16 5 [4]05[11]1c0012000900010076786c616e0000000c000200050007[5]",
  ],
  ["counters", (nl) => linkCounters(nl), "94 301 [8]01000000"],
  [
    "neighbour set",
    (nl) => neighbourSet(nl, 5, A, "02:00:00:00:00:01"),
    "28 505 02000000050000008[4]80001000a6300010a00020002[4]010000",
  ],
  ["neighbour list", (nl) => neighbourList(nl), "30 301 02[11]"],
  ["namespace id", (nl) => netnsId(nl, 9), "90 5 [4]0800030009000000"],
  ["route get", (nl) => pathTo(nl, B), "26 5 022[11]80001000a630002"],
  ["route get from", (nl) => pathTo(nl, B, A), "26 5 02202[10]80001000a630002080002000a630001"],
  [
    "route add",
    (nl) => routeAdd(nl, ROUTE),
    "24 605 02100000fe030001[4]080001000a280000080005000a2000090800040005000000",
  ],
  [
    "route add to a far table",
    (nl) => routeAdd(nl, FAR),
    "24 605 021[4]30001[4]080001000a280000080005000a200009080004000500000008000f00e8030000",
  ],
  [
    "route replace",
    (nl) => routeReplace(nl, { destination: parseCidr("0.0.0.0/0"), link: 5 }),
    "24 505 02000000fe03fd01[4]0800040005000000",
  ],
  [
    "route add, the kernel's",
    (nl) => routeAdd(nl, { destination: CIDR, link: 5, connected: A }),
    "24 605 020c0000fe02fd01[4]080001000a200000080007000a6300010800040005000000",
  ],
  [
    "route delete",
    (nl) => routeDelete(nl, ROUTE),
    "25 5 02100000fe030001[4]080001000a280000080005000a2000090800040005000000",
  ],
  ["route list", (nl) => routeList(nl), "26 301 02[11]"],
  ["route list of a link", (nl) => routeList(nl, { table: 254, link: 5 }), "26 301 02[11]0800040005000000"],
  [
    "route list of a link and protocol",
    (nl) => routeList(nl, { table: 254, link: 5, protocol: 3 }),
    "26 301 02[4]03[6]0800040005000000",
  ],
  ["rule add", (nl) => ruleAdd(nl, RULE), "32 605 02000000c8000001[4]080006006400000008000a0007000000"],
  [
    "rule add to a far table",
    (nl) => ruleAdd(nl, { priority: 7, table: 300 }),
    "32 605 02[6]01[4]080006000700000008000f002c010000",
  ],
  ["rule delete", (nl) => ruleDelete(nl, RULE), "33 5 02000000c8000001[4]080006006400000008000a0007000000"],
  ["rule list", (nl) => ruleList(nl), "34 301 02[11]"],
  [
    "qdisc ensure",
    (nl) => clsactEnsure(nl, "v", 5),
    "36 605 [4]05[5]fffff1ffffff[4]0b000100636c736163740000",
  ],
  ["qdisc delete", (nl) => clsactDelete(nl, "v", 5), "37 5 [4]05[5]fffff1ffffff[4]0b000100636c736163740000"],
  [
    "qdisc replace, none",
    (nl) => clsactReplace(nl, "v", 5),
    "38 301 [4]05[15]; 36 605 [4]05[5]fffff1ffffff[4]0b000100636c736163740000",
  ],
  [
    "filter replace",
    (nl) => bpfFilterReplace(nl, "v", 5, "ingress", { fd: 9, name: "p" }),
    "44 505 [4]0500000001000000f2ffffff0003010008000100627066001c0002000800060009000000060007007[4]800080001000000",
  ],
  [
    "filter attach",
    (nl) => bpfFilterAttach(nl, "v", 5, "ingress", { fd: 9, name: "p" }),
    "36 601 [4]05[5]fffff1ffffff[4]0b000100636c736163740000; 44 505 [4]0500000001000000f2ffffff0003010008000100627066001c0002000800060009000000060007007[4]800080001000000",
  ],
  [
    "filter delete",
    (nl) => bpfFilterDelete(nl, "v", 5, "egress"),
    "45 5 [4]0500000001000000f3ffffff000301000800010062706600",
  ],
  ["filter list", (nl) => bpfFilterList(nl, 5, "egress"), "46 301 [4]05[7]f3ffffff[4]"],
  [
    "association add",
    (nl) => stateAdd(nl, STATE),
    "16 5 [56]0a630002[12]12345678320000000a630001[12]{32}[80]801a0000020000008[7]01c00170008[20]01000070001200726663343130362867636d286165732929[47]200100008[4]70707070707070707070707070707070707070707070707070707070707070707070707",
  ],
  [
    "association delete",
    (nl) => stateDelete(nl, STATE),
    "17 5 0a630002[12]123456780200320014000d000a630001[12]",
  ],
  ["association list", (nl) => stateList(nl), "18 301 "],
  [
    "policy set",
    (nl) => policySet(nl, { ...POLICY, action: { spi: undefined, reqid: 6784 } }),
    "25 5 0a630002[28]1a80ffff[4]0200200011[11]{32}[64]811a[14]440005000a630002[16]3200000002[19]801a[6]{12}",
  ],
  [
    "policy set to block",
    (nl) => policySet(nl, { ...POLICY, source: A, direction: "out", action: "block" }),
    "25 5 0a630002[12]0a630001[12]1a80ffff[4]0200202011[11]{32}[64]811a[6]0101[6]",
  ],
  [
    "policy delete",
    (nl) => policyDelete(nl, { ...POLICY, source: A }),
    "20 5 0a630002[12]0a630001[12]1a80ffff[4]0200202011[19]",
  ],
  ["policy list", (nl) => policyList(nl), "21 301 "],
];

/** "type flags body", a run of zero bytes as "..". */
const text = ({ type, flags, body }: { type: number; flags: number; body: Uint8Array }) =>
  `${type} ${flags.toString(16)} ${Buffer.from(body)
    .toString("hex")
    .replace(/(?:00){4,}/g, (zeros) => `[${zeros.length / 2}]`)
    .replace(/(?:ff){8,}/g, (ones) => `{${ones.length / 2}}`)}`;

test.each(CASES)("%s", (_name, act, wanted) => {
  const { nl, asked } = scriptedSocket();
  act(nl);
  expect(asked.map(text).join("; ")).toBe(wanted);
});

test("several links are removed as one group, which is told to be ours", () => {
  const { nl, asked } = scriptedSocket(({ type, body }) => (type === 19 && body[4] === 6 ? ENODEV : []));
  linksDelete(nl, [5, 6, 7]);
  expect(asked.map(({ type, body }) => [type, body[4]])).toEqual([
    [19, 5],
    [19, 6],
    [19, 7],
    [17, 0],
  ]);
  const groups = asked.map(({ body }) => new DataView(body.buffer, body.byteOffset).getUint32(20, true));
  expect(new Set(groups).size).toBe(1);
  const [group = 0] = groups;
  expect(group).toBeGreaterThanOrEqual(2 ** 30);
  expect(group).toBeLessThan(2 ** 31);
  const none = scriptedSocket(() => ENODEV);
  linksDelete(none.nl, [5]);
  expect(none.asked.length).toBe(1);
  for (const [value, leaving] of [
    [2 ** 30 - 1, false],
    [2 ** 30, true],
    [2 ** 31 - 1, true],
    [2 ** 31, false],
    [0, false],
  ] as const) {
    const body = new AttributeEncoder().raw(ifinfomsg(5)).u32(27, value).done();
    expect(decodeLink({ body }).leaving).toBe(leaving);
  }
});

describe("refusals that say that all is as it should be, and others", () => {
  const refusing = (errno: number) => scriptedSocket(() => errno).nl;
  test.each<[string, number, (nl: NetlinkSocket) => unknown, unknown]>([
    ["address there", EEXIST, (nl) => addressAdd(nl, "x", 5, CIDR), false],
    ["no address", EADDRNOTAVAIL, (nl) => addressDelete(nl, "x", 5, CIDR), false],
    ["no link", ENODEV, (nl) => linkDelete(nl, "x"), false],
    ["no such link", ENODEV, (nl) => linkByName(nl, "x"), undefined],
    ["route there", EEXIST, (nl) => routeAdd(nl, ROUTE), false],
    ["no route", ESRCH, (nl) => routeDelete(nl, ROUTE), false],
    ["rule there", EEXIST, (nl) => ruleAdd(nl, RULE), false],
    ["no rule", ENOENT, (nl) => ruleDelete(nl, RULE), false],
    ["qdisc there", EEXIST, (nl) => clsactEnsure(nl, "x", 5), undefined],
    ["no qdisc", ENOENT, (nl) => clsactDelete(nl, "x", 5), undefined],
    ["no qdisc, in other words", EINVAL, (nl) => clsactDelete(nl, "x", 5), undefined],
    ["index taken", EEXIST, (nl) => stateAdd(nl, STATE), false],
    ["no association", ESRCH, (nl) => stateDelete(nl, STATE), undefined],
    ["no policy", ENOENT, (nl) => policyDelete(nl, POLICY), undefined],
    ["no way", EHOSTUNREACH, (nl) => pathTo(nl, B), undefined],
  ])("%s", (_what, errno, act, answer) => {
    expect(act(refusing(errno))).toEqual(answer);
    expect(() => act(refusing(EPERM))).toThrow("Operation not permitted");
  });

  test.each<[string, (nl: NetlinkSocket) => unknown]>([
    ["address add", (nl) => addressAdd(nl, "x", 5, CIDR)],
    ["address delete", (nl) => addressDelete(nl, "x", 5, CIDR)],
    ["link delete", (nl) => linkDelete(nl, "x")],
    ["route add", (nl) => routeAdd(nl, ROUTE)],
    ["route delete", (nl) => routeDelete(nl, ROUTE)],
    ["rule add", (nl) => ruleAdd(nl, RULE)],
    ["rule delete", (nl) => ruleDelete(nl, RULE)],
    ["association add", (nl) => stateAdd(nl, STATE)],
  ])("%s that is taken says so", (_what, act) => {
    expect(act(scriptedSocket().nl)).toBe(true);
  });
});

describe("answers", () => {
  const listing = (...bodies: Uint8Array[]) => scriptedSocket(() => bodies).nl;

  test("addresses, of one link or all; another family's are passed over", () => {
    const six = Uint8Array.of(10, 64, 0, 0, 5, 0, 0, 0);
    const ip6 = new AttributeEncoder()
      .raw(six)
      .bytes(1, Uint8Array.fromHex(`fd${"00".repeat(14)}01`))
      .done();
    // Point to point: the local address counts.
    const peer = new AttributeEncoder()
      .raw(Uint8Array.of(2, 32, 0, 0, 6, 0, 0, 0))
      .bytes(1, Uint8Array.of(10, 0, 0, 9))
      .bytes(2, Uint8Array.of(10, 0, 0, 1))
      .done();
    const bodies = [encodeAddress(5, CIDR, true), ip6, peer];
    expect(addressList(listing(...bodies))).toEqual([
      { index: 5, cidr: CIDR },
      { index: 6, cidr: parseCidr("10.0.0.1/32") },
    ]);
    expect(addressList(listing(...bodies), 6).map(({ index }) => index)).toEqual([6]);
    expect(address6List(listing(...bodies), 5)).toEqual(["fd00::1"]);
    expect(address6List(listing(...bodies), 6)).toEqual([]);
  });

  test("routes of the table and link that are asked for, and of no other kind", () => {
    const local = encodeRoute(ROUTE);
    local[7] = 2;
    const other = encodeRoute({ ...ROUTE, table: 200 });
    const elsewhere = encodeRoute({ destination: parseCidr("0.0.0.0/0"), link: 6 });
    const bodies = [encodeRoute(ROUTE), local, other, encodeRoute(FAR), elsewhere];
    const gateway = ROUTE.gateway;
    const own = { destination: ROUTE.destination, gateway, link: 5, table: 254, protocol: 3 };
    const all = {
      destination: { address: 0, prefix: 0 },
      gateway: undefined,
      link: 6,
      table: 254,
      protocol: 3,
    };
    expect(routeList(listing(...bodies))).toEqual([own, all]);
    expect(routeList(listing(...bodies), { table: 254, link: 5 })).toEqual([own]);
    expect(routeList(listing(...bodies), { link: 5, protocol: 2 })).toEqual([]);
    expect(routeList(listing(...bodies), { table: 200 })).toEqual([{ ...own, table: 200 }]);
    expect(routeList(listing(...bodies), { table: 1_000 })).toEqual([{ ...own, table: 1_000 }]);
    const connected = encodeRoute({ destination: CIDR, link: 5, connected: A });
    expect(routeList(listing(connected))).toMatchObject([{ protocol: 2, gateway: undefined }]);
    expect(ruleList(listing(encodeRule(RULE), encodeRule({ priority: 7, table: 300 })))).toEqual([
      RULE,
      { priority: 7, mark: undefined, table: 300 },
    ]);
  });

  test("neighbours, paths and ids of namespaces", () => {
    const silent = new AttributeEncoder()
      .raw(Uint8Array.of(2, 0, 0, 0, 5, 0, 0, 0, 0x20, 0, 0, 0))
      .bytes(1, Uint8Array.of(10, 99, 0, 2))
      .done();
    expect(neighbourList(listing(encodeNeighbour(5, A, "02:00:00:00:00:01"), silent))).toEqual([
      { link: 5, address: A, mac: "02:00:00:00:00:01", state: 0x80 },
      { link: 5, address: B, mac: undefined, state: 0x20 },
    ]);
    const path = new AttributeEncoder()
      .raw(new Uint8Array(12))
      .u32(4, 5)
      .bytes(5, Uint8Array.of(10, 99, 0, 2))
      .bytes(7, Uint8Array.of(10, 99, 0, 1))
      .done();
    expect(pathTo(listing(path), B)).toEqual({ link: 5, gateway: B, source: A });
    const id = (value: number) => new AttributeEncoder().raw(new Uint8Array(4)).u32(1, value).done();
    expect([0, 7, 0xffff_ffff].map((value) => netnsId(listing(id(value)), 9))).toEqual([0, 7, undefined]);
  });

  // linux/neighbour.h
  test.each<[string, number, boolean]>([
    ["NUD_INCOMPLETE", 0x01, false],
    ["NUD_REACHABLE", 0x02, false],
    ["NUD_STALE", 0x04, false],
    ["NUD_DELAY", 0x08, false],
    ["NUD_PROBE", 0x10, false],
    ["NUD_FAILED", 0x20, true],
    ["NUD_NOARP", 0x40, false],
    ["NUD_PERMANENT", 0x80, false],
  ])("neighbours of the state %s: %d has failed: %p; without an address each has", (_name, state, failed) => {
    const body = encodeNeighbour(5, A, "02:00:00:00:00:01");
    new DataView(body.buffer, body.byteOffset).setUint16(8, state, true);
    expect(neighbourList(listing(body)).map(hasFailed)).toEqual([failed]);
    expect(hasFailed({ mac: undefined, state })).toBe(true);
  });

  test("links, with all that is read of them", () => {
    const flags = (body: Uint8Array, value: number) => {
      new DataView(body.buffer).setUint32(8, value, true);
      return body;
    };
    const encoder = new AttributeEncoder().raw(ifinfomsg(9));
    encodeSettings(encoder, { name: "v", mtu: 1376, address: "02:00:00:00:00:01", master: 5, queue: 1000 });
    encoder.string(20, "net/c/eth0").u32(5, 3).u32(37, 8).u32(27, 0);
    encoder.nested(18, (info) =>
      info.string(1, "veth").nested(5, (port) => port.u8(1, 3).u8(4, 1).u8(8, 0).u16(31, 8).u32(34, 2)),
    );
    const body = flags(encoder.done(), 0x41);
    expect(decodeLink({ body })).toEqual({
      index: 9,
      name: "v",
      kind: "veth",
      alias: "net/c/eth0",
      mtu: 1376,
      address: "02:00:00:00:00:01",
      master: 5,
      peerIndex: 3,
      peerNetns: 8,
      up: true,
      arp: true,
      queue: 1000,
      carrier: true,
      leaving: false,
      vxlan: undefined,
      bridge: undefined,
      bridgePort: { hairpin: true, learning: false, group_fwd_mask: 8, backup_port: 2, blocked: false },
    });
    const states = [0, 1, 0x40, 0x41, 0x80];
    expect(
      states.map((value) => {
        const { up, carrier, arp } = decodeLink({ body: flags(body, value) });
        const { running, index } = linkState({ body } as never);
        return [up, carrier, arp, running, index];
      }),
    ).toEqual([
      [false, false, true, false, 9],
      [true, false, true, false, 9],
      [false, true, true, false, 9],
      [true, true, true, true, 9],
      [false, false, false, false, 9],
    ]);
    // A port without a carrier is blocked by the kernel itself.
    const port = (state: number, carrier: boolean) => {
      const encoder = new AttributeEncoder().raw(ifinfomsg(9));
      encoder
        .u32(10, 5)
        .nested(18, (info) => info.string(4, "bridge").nested(5, (data) => data.u8(1, state)));
      return decodeLink({ body: flags(encoder.done(), carrier ? 0x41 : 1) }).bridgePort?.blocked;
    };
    expect([0, 1, 2, 3, 4].map((state) => port(state, true))).toEqual([true, true, true, false, true]);
    expect([0, 3, 4].map((state) => port(state, false))).toEqual([false, false, false]);
    const kind = (name: string, fill: (data: AttributeEncoder) => void) =>
      decodeLink({ body: encodeKind(new AttributeEncoder().raw(ifinfomsg(9)), name, fill).done() });
    const vxlan = kind("vxlan", (data) => data.u8(7, 1).u16be(15, 6784).u8(25, 1));
    expect([vxlan.vxlan, vxlan.bridge, vxlan.bridgePort]).toEqual([
      { port: 6784, external: true, learning: true },
      undefined,
      undefined,
    ]);
    const mode: BridgeMode = { ageingTime: 30_000, stp: true, vlanFiltering: true, multicastSnooping: false };
    expect(kind("bridge", (data) => data.u32(4, 30_000).u32(5, 1).u8(7, 1).u8(23, 0)).bridge).toEqual(mode);
    expect(kind("bridge", () => {}).bridge).toEqual({});
    expect(linkByIndex(listing(body), 9)?.name).toBe("v");
    expect(linkByName(listing(body), "v")?.index).toBe(9);
    expect(linkList(listing(body, body)).length).toBe(2);
  });

  test("counters, each of its own", () => {
    const words = new BigUint64Array(8).map((_, i) => BigInt(100 + i));
    const header = Uint8Array.of(0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0);
    const body = new AttributeEncoder().raw(header).bytes(1, new Uint8Array(words.buffer)).done();
    const short = new AttributeEncoder().raw(header).bytes(1, new Uint8Array(63)).done();
    expect([...linkCounters(listing(body))]).toEqual([
      [
        5,
        {
          receivedPackets: 100,
          sentPackets: 101,
          receivedBytes: 102,
          sentBytes: 103,
          receivedDropped: 106,
          sentDropped: 107,
        },
      ],
    ]);
    expect(linkCounters(listing(short, new Uint8Array(11))).size).toBe(0);
  });

  test("programs on a link: which are ours; and qdiscs that are in the way", () => {
    const filter = (handle: number, info: number, kind: string, id?: number) => {
      const raw = new Uint8Array(20);
      const view = new DataView(raw.buffer);
      view.setUint32(8, handle, true);
      view.setUint32(16, info, true);
      const encoder = new AttributeEncoder().raw(raw).string(1, kind);
      return encoder
        .nested(2, (options) => {
          if (id !== undefined) options.u32(11, id).string(7, `p${id}`);
        })
        .done();
    };
    const INFO = (1 << 16) | 0x0300;
    const found = bpfFilterList(
      listing(
        filter(1, INFO, "bpf", 7),
        filter(2, INFO, "bpf", 8),
        filter(1, INFO + 0x10000, "bpf", 9),
        filter(1, INFO, "u32", 10),
        filter(1, INFO, "bpf"),
      ),
      5,
      "ingress",
    );
    expect(found).toEqual([
      { id: 7, name: "p7", ours: true },
      { id: 8, name: "p8", ours: false },
      { id: 9, name: "p9", ours: false },
    ]);
    const qdisc = (link: number, kind: string) => {
      const raw = encodeClsact(link).subarray(0, 20);
      return new AttributeEncoder().raw(raw).string(1, kind).done();
    };
    const types = (...qdiscs: Uint8Array[]) => {
      const { nl, asked } = scriptedSocket(({ type }) => (type === 38 ? qdiscs : []));
      clsactReplace(nl, "v", 5);
      return asked.map(({ type }) => type);
    };
    expect(types(qdisc(5, "clsact"))).toEqual([38]);
    expect(types(qdisc(6, "clsact"))).toEqual([38, 36]);
    expect(types(qdisc(6, "clsact"), qdisc(5, "ingress"))).toEqual([38, 37, 36]);
  });

  test("associations and policies; those of other families and protocols are passed over", () => {
    const other = (body: Uint8Array, at: number, value: number) => {
      const copy = body.slice();
      copy[at] = value;
      return copy;
    };
    const state = encodeState(STATE);
    const { key: _, ...found } = STATE;
    expect(stateList(listing(state, other(state, 76, 51), state.subarray(0, 100)))).toEqual([found]);
    const policy = encodePolicy({ ...POLICY, source: A, action: { spi: 0x100, reqid: 6784 } });
    const any = encodePolicy({ ...POLICY, direction: "out", action: "block" });
    expect(policyList(listing(policy, any, other(policy, 44, 6), other(policy, 160, 2)))).toEqual([
      { direction: "in", source: A, destination: B, port: 6784, priority: 6785, blocks: false, spi: 0x100 },
      {
        direction: "out",
        source: undefined,
        destination: B,
        port: 6784,
        priority: 6785,
        blocks: true,
        spi: undefined,
      },
    ]);
  });
});

describe("notifications", () => {
  const event = (type: number, body: Uint8Array, flags = 0) =>
    decodeEvent({ type, flags, sequence: 0, port: 77, body });
  const about = (kind: string, index: number | undefined, replaced = false) => ({
    kind,
    index,
    port: 77,
    replaced,
    link: undefined,
  });

  test("of addresses, routes, settings and traffic control", () => {
    expect(event(20, encodeAddress(5, CIDR, true))).toEqual(about("addresses", 5) as never);
    expect(event(21, encodeAddress(6, CIDR, true))).toEqual(about("addresses", 6) as never);
    expect(event(24, encodeRoute(ROUTE), 0x100)).toEqual(about("routes", 5, true) as never);
    expect(event(25, encodeRoute({ destination: CIDR }))).toEqual(about("routes", undefined) as never);
    for (const type of [36, 40, 44])
      expect(event(type, encodeClsact(5))).toEqual(about("trafficcontrol", 5) as never);
    const netconf = (index: number) => new AttributeEncoder().raw(new Uint8Array(4)).u32(1, index).done();
    expect(event(80, netconf(5))).toEqual(about("netconf", 5) as never);
    expect(event(80, netconf(0xffff_ffff), 0x100)).toEqual(about("netconf", undefined) as never);
    expect(event(28, encodeClsact(5))).toBeUndefined();
  });

  test("of links: gone, or only off their bridge", () => {
    const body = (family: number, group = 0) =>
      new AttributeEncoder()
        .raw(ifinfomsg(9, undefined, undefined, family))
        .string(3, "v")
        .u32(10, 5)
        .u32(27, group)
        .done();
    const link = { name: "v", master: 5, removed: false, leaving: false };
    const whole = { kind: "links", index: 9, port: 77, replaced: false };
    expect(event(16, body(0))).toEqual({ ...whole, link } as never);
    expect(event(17, body(0))).toEqual({ ...whole, link: { ...link, removed: true } } as never);
    expect(event(17, body(7))).toEqual({ ...whole, link } as never);
    expect(event(17, body(0, 2 ** 30))?.link?.leaving).toBe(true);
    expect(event(18, body(0))).toBeUndefined();
    expect(event(16, ifinfomsg(9))?.link).toEqual({
      name: "",
      master: undefined,
      removed: false,
      leaving: false,
    });
  });
});

describe("logged packets", () => {
  test("a group is bound, with what the rule says of each packet, after at most 20 ms", () => {
    expect(groupMessages(86).map((bytes) => Buffer.from(bytes).toString("hex"))).toEqual([
      "1c000000010401000000000000000000000000560500010001000000",
      // NFULA_CFG_TIMEOUT is big-endian, in hundredths of a second.
      "28000000010401000000000000000000000000560a0002000000ffff020000000800040000000002",
    ]);
  });

  const PACKET = (4 << 8) | 0;
  const message = (family: number, fill: (body: AttributeEncoder) => void, type = PACKET) => {
    const body = new AttributeEncoder().raw(Uint8Array.of(family, 0, 0, 86));
    fill(body);
    return decodePacket({ type, body: body.done() });
  };
  const payload = Uint8Array.of(0x45, 0, 0);

  test("are read with their prefix; other messages are none", () => {
    expect(message(2, (body) => body.bytes(9, payload).string(10, "ingress"))).toEqual({
      prefix: "ingress",
      payload,
      frame: undefined,
    });
    expect(message(2, (body) => body.bytes(9, payload))?.prefix).toBe("");
    expect(message(2, (body) => body.string(10, "x"))).toBeUndefined();
    expect(message(2, (body) => body.bytes(9, payload), PACKET + 1)).toBeUndefined();
  });

  test("of bridges have a frame: its sender, and the type of the outer tag", () => {
    const header = Uint8Array.fromHex(`ffffffffffff0200000000aa8100`);
    const frame = (fill: (body: AttributeEncoder) => void) =>
      message(7, (body) => {
        body.bytes(9, payload).bytes(1, Uint8Array.of(8, 0, 1, 0));
        fill(body);
      })?.frame;
    expect(frame(() => {})).toEqual({ source: undefined, type: 0x0800 });
    expect(frame((body) => body.bytes(16, header))).toEqual({ source: "02:00:00:00:00:aa", type: 0x0800 });
    expect(frame((body) => body.bytes(16, header.subarray(0, 13)))?.source).toBeUndefined();
    expect(
      frame((body) => body.bytes(21, header).nested(20, (tag) => tag.bytes(1, Uint8Array.of(0x88, 0xa8)))),
    ).toEqual({ source: "02:00:00:00:00:aa", type: 0x88a8 });
  });
});
