// What the kernel's programs do with frames of neighbours: passed on along the tree of their source and no other way, in
// packets that are not to be fragmented; by tables that change.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { internetChecksum } from "../../lib/address/checksum.ts";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { Assembler, R0, R1 } from "../../lib/bpf/assembler.ts";
import { BpfMap, type MapDefinition, U32, U64 } from "../../lib/bpf/map.ts";
import { loadProgram, mapIdsOf } from "../../lib/bpf/program.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { linkAdd, linkByName, linkSet } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import { networkIdentifier, putVxlanHeader, VXLAN_HEADER } from "../../lib/overlay/vxlan.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import {
  AF_INET,
  AF_PACKET,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendDatagram,
  sockaddrIn,
} from "../../lib/sys/socket.ts";
import { eventually, Hosts } from "../support/hosts.ts";

const PORT = 6784;
const [SELF, SOURCE, FAR] = [1, 2, 4];
const ETH_P_IP = 0x0008;
const IP_DF = 0x4000;
const BUFFER = new Uint8Array(65_536);

let hosts: Hosts;
let nl: NetlinkSocket;
let datapath: Datapath;
let capture: number;
const senders = new Map<number, number>();
const opened: number[] = [];
const address = (host: number) => parseIPv4(hosts.host(host).ip);
const within = <T>(host: number, fn: () => T): T => inNetns(`/run/netns/${hosts.host(host).netns}`, fn);

beforeAll(async () => {
  hosts = await Hosts.create("fwd", 4);
  nl = within(1, () => new NetlinkSocket(NETLINK_ROUTE));
  within(1, () => {
    linkAdd(nl, { kind: "bridge", name: "weave" });
    linkSet(nl, "weave", linkByName(nl, "weave")?.index ?? 0, { up: true });
    const config = { name: nameFromNumber(1n), port: PORT - 1, mtu: () => 1_376, self: SELF, fastdp: true };
    datapath = new Datapath(nl, config, (keeper) => keeper.reconcile(() => true));
  });
  expect(datapath.withoutFastdp).toBeUndefined();
  for (const host of [2, 3, 4])
    senders.set(
      host,
      within(host, () => openSocket("sender", AF_INET, SOCK_DGRAM, 0)),
    );
  capture = within(4, () => openSocket("capture", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, ETH_P_IP));
  opened.push(capture, ...senders.values());
}, 300_000);

afterAll(() => {
  for (const fd of opened) closeSync(fd);
  datapath?.remove();
  nl?.close();
  hosts?.disposeSync();
});

/** A broadcast frame of peer SOURCE, by way of a host; `mark` tells it from others. */
function send(host: number, mark: number, destination = SELF, first = 0xff): void {
  const bytes = new Uint8Array(VXLAN_HEADER + 60);
  putVxlanHeader(new DataView(bytes.buffer), 0, networkIdentifier(SOURCE, destination));
  bytes.fill(first, VXLAN_HEADER, VXLAN_HEADER + 6);
  bytes.set([2, 0, 0, 0, 0, 9], VXLAN_HEADER + 6);
  bytes.set([0x88, 0xb5, mark], VXLAN_HEADER + 12);
  const [fd = -1, to] = [senders.get(host), Uint8Array.from(hosts.host(1).ip.split(".").map(Number))];
  sendDatagram("frame", fd, bytes, sockaddrIn(to, PORT));
}

const seen: { mark: number; df: boolean; id: number }[] = [];

/** The frames that came to host 4 until the one of this mark, which does come. */
async function arrived(last: number): Promise<number[]> {
  await eventually(
    `frame ${last} arrives`,
    () => {
      for (;;) {
        const packet = receiveDatagram("capture", capture, BUFFER, false);
        if (!packet) return seen.at(-1)?.mark;
        const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
        // Ethernet, IP without options, UDP, VXLAN.
        if (packet[23] !== 17 || view.getUint16(36) !== PORT) continue;
        const id = view.getUint32(46) >>> 8;
        seen.push({ mark: packet[50 + 14] ?? 0, df: (view.getUint16(20) & IP_DF) !== 0, id });
      }
    },
    (mark) => mark === last,
  );
  return seen.map(({ mark }) => mark);
}

const EMPTY: ForwardingTable = { routes: new Map(), hops: new Map(), neighbours: new Set() };

beforeEach(() => {
  datapath.apply(EMPTY);
  while (receiveDatagram("capture", capture, BUFFER, false));
  seen.length = 0;
});

describe("a broadcast", () => {
  const table = (from: number | undefined): ForwardingTable => ({
    routes: new Map(),
    hops: new Map([[SOURCE, { from, vxlan: [{ shortId: FAR, address: address(4) }], sleeve: false }]]),
    neighbours: new Set([address(2), address(3)]),
  });

  test("goes on where it came from the neighbour that it has to come from; from others it goes no further", async () => {
    datapath.apply(table(address(2)));
    for (const [host, mark] of [
      [3, 1],
      [2, 2],
      [3, 3],
      [3, 4],
      [2, 5],
    ] as const)
      send(host, mark);
    expect(await arrived(5)).toEqual([2, 5]);
    datapath.apply(table(address(3)));
    send(2, 6);
    send(3, 7);
    expect(await arrived(7)).toEqual([2, 5, 7]);
    expect(seen.map(({ id, df }) => [id, df])).toEqual(Array(3).fill([networkIdentifier(SOURCE, FAR), true]));
  });

  test("goes on from whomever it came where nobody is to pass it to us, and from strangers never", async () => {
    datapath.apply(table(undefined));
    send(3, 1);
    send(2, 2);
    expect(await arrived(2)).toEqual([1, 2]);
    datapath.apply({ ...table(undefined), neighbours: new Set([address(2)]) });
    send(3, 3);
    send(2, 4);
    expect(await arrived(4)).toEqual([1, 2, 4]);
  });
});

test("what is for another peer goes by the route, in packets that are not to be fragmented; without a route no more", async () => {
  const neighbours = new Set([address(2), address(3)]);
  datapath.apply({
    ...EMPTY,
    neighbours,
    routes: new Map([
      [FAR, address(4)],
      [SOURCE, address(2)],
    ]),
  });
  send(2, 1, FAR, 2);
  expect(await arrived(1)).toEqual([1]);
  expect(seen).toEqual([{ mark: 1, df: true, id: networkIdentifier(SOURCE, FAR) }]);
  datapath.apply({ ...EMPTY, neighbours, routes: new Map([[SOURCE, address(2)]]) });
  send(2, 2, FAR, 2);
  datapath.apply({ ...EMPTY, neighbours, routes: new Map([[FAR, address(4)]]) });
  send(2, 3, FAR, 2);
  expect(await arrived(3)).toEqual([1, 3]);
});

test("what is for another peer never goes back to the host that it came from, whatever the route says", async () => {
  datapath.apply({
    ...EMPTY,
    neighbours: new Set([address(2), address(4)]),
    routes: new Map([[FAR, address(4)]]),
  });
  for (const [host, mark] of [
    [4, 1],
    [2, 2],
    [4, 3],
    [2, 4],
  ] as const)
    send(host, mark, FAR, 2);
  expect(await arrived(4)).toEqual([2, 4]);
});

test("a frame that is larger than the kernel knows the path to be is answered, for its sender", async () => {
  const host = hosts.host(1);
  await host.must(["ip", "addr", "add", "10.32.0.1/24", "dev", "weave"]);
  const far = "02:00:00:00:00:44";
  await host.must(["ip", "neigh", "add", "10.32.0.4", "lladdr", far, "dev", "weave"]);
  await host.must(["ip", "route", "add", hosts.host(4).ip, "dev", "eth0", "mtu", "1200"]);
  datapath.apply({
    ...EMPTY,
    neighbours: new Set([address(4)]),
    routes: new Map([[FAR, address(4)]]),
  });
  datapath.maps.macs.set(far, { peer: FAR, seen: 0n });
  const { stdout } = await host.exec([
    "ping",
    "-n",
    "-M",
    "do",
    "-s",
    "1200",
    "-c",
    "1",
    "-W",
    "1",
    "10.32.0.4",
  ]);
  expect(stdout).toContain("From 10.32.0.4 icmp_seq=1 Frag needed and DF set (mtu = 1150)");
});

test("an answer of that kind is taken from the kernel itself and neighbours, and from no stranger", async () => {
  datapath.apply({ ...EMPTY, neighbours: new Set([address(2)]) });
  const bridged = within(1, () => openSocket("bridged", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, ETH_P_IP));
  opened.push(bridged);
  const answer = (host: number, mark: number) => {
    const bytes = new Uint8Array(VXLAN_HEADER + 60);
    putVxlanHeader(new DataView(bytes.buffer), 0, networkIdentifier(SELF, FAR));
    bytes.fill(0xff, VXLAN_HEADER, VXLAN_HEADER + 6);
    bytes.set([2, 0, 0, 0, 0, 9], VXLAN_HEADER + 6);
    // IP without options, for br_netfilter with lengths and checksum; ICMP of type 3, code 4, and the mark.
    const ip = bytes.subarray(VXLAN_HEADER + 14, VXLAN_HEADER + 34);
    bytes.set([8, 0], VXLAN_HEADER + 12);
    ip.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 1, 0, 0, 10, 32, 0, 4, 10, 32, 0, 1]);
    new DataView(ip.buffer, ip.byteOffset).setUint16(10, internetChecksum(ip));
    bytes.set([3, 4, mark], VXLAN_HEADER + 34);
    const to = Uint8Array.from(hosts.host(1).ip.split(".").map(Number));
    sendDatagram("answer", senders.get(host) ?? -1, bytes, sockaddrIn(to, PORT));
  };
  const marks: number[] = [];
  for (const [host, mark] of [
    [3, 1],
    [2, 2],
    [3, 3],
    [2, 4],
  ] as const)
    answer(host, mark);
  await eventually(
    "the neighbour's answers arrive",
    () => {
      for (;;) {
        const packet = receiveDatagram("bridged", bridged, BUFFER, false);
        if (!packet) return marks.at(-1);
        if (packet[0] === 0xff && packet[34] === 3 && packet[35] === 4) marks.push(packet[36] ?? 0);
      }
    },
    (mark) => mark === 4,
  );
  expect(marks).toEqual([2, 4]);
});

test("maps are taken over where name, type, sizes and number of entries are the same, and else not", () => {
  const wanted: MapDefinition<number, bigint> = {
    name: "kept",
    type: "hash",
    key: U32,
    value: U64,
    maxEntries: 8,
  };
  const adopt = (definition: Partial<MapDefinition<number, bigint | number>>) => {
    const map = BpfMap.create({ ...wanted, ...definition } as MapDefinition<number, bigint>);
    const program = loadProgram(
      "keeps",
      new Assembler().loadMap(R1, map.fd).mov(R0, { imm: 0 }).exit().assemble(),
    );
    const adopted = BpfMap.adopt(wanted, mapIdsOf(program));
    const result = adopted !== undefined;
    adopted?.close();
    program.close();
    map.close();
    return result;
  };
  expect(adopt({})).toBe(true);
  expect(adopt({ name: "other" })).toBe(false);
  expect(adopt({ name: "kept2" })).toBe(false);
  expect(adopt({ type: "lruHash" })).toBe(false);
  expect(adopt({ value: U32 })).toBe(false);
  expect(adopt({ key: { ...U32, size: 8 } })).toBe(false);
  expect(adopt({ maxEntries: 9 })).toBe(false);
});

test("tells of a table that differs from the one before, not of the same", () => {
  let told = 0;
  datapath.onTable = () => told++;
  const table = (via: number) => ({ ...EMPTY, routes: new Map([[SOURCE, address(via)]]) });
  for (const via of [2, 2, 3, 3]) datapath.apply(table(via));
  datapath.onTable = () => {};
  expect(told).toBe(2);
});
