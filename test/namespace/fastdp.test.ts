// Our eBPF programs and the original's own datagrams: what it sent we have to take, and what it sends we have to send.
// The host in the middle of the recorded chain 1–2–3 is ours; hosts 1 and 3 are sockets.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { ipv4Octets, parseIPv4 } from "../../lib/address/ipv4.ts";
import { formatMac } from "../../lib/address/mac.ts";
import { GobReader } from "../../lib/gob/decoder.ts";
import { map, string } from "../../lib/gob/type.ts";
import { makeBridge } from "../../lib/host/reconcile/bridge.ts";
import { parseFeatures } from "../../lib/mesh/features.ts";
import { linkByName } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import { NEW_NEIGHBOUR } from "../../lib/overlay/datapath/maps.ts";
import { encodeHeartbeat } from "../../lib/overlay/fastdp/heartbeat.ts";
import { networkIdentifier } from "../../lib/overlay/vxlan.ts";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import {
  AF_INET,
  AF_PACKET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  SOCK_RAW,
  sendDatagram,
  sockaddrIn,
  sockaddrLinkLayer,
} from "../../lib/sys/socket.ts";
import { eventually, Hosts, must } from "../support/hosts.ts";
import { capture, hex, plainMessages, type RecordedDatagram } from "../support/vectors.ts";

const PORT = 6784;
const VXLAN = 8;
const HEARTBEAT = VXLAN + 14 + 1376;
const recorded = await capture("plain-fastdp");

/** Short ids by number of the host, from the features that the routers exchanged. */
const ids = new Map(
  recorded.connections
    .flatMap(({ client, server }) => [client, server])
    .map((side) => {
      const { peer } = parseFeatures(
        new GobReader(plainMessages(side)[0] ?? new Uint8Array()).read(map(string, string)),
      );
      return [Number(peer.name.slice(-1)), peer.shortId];
    }),
);
const id = (host: number) => ids.get(host) ?? 0;

const sentBy = (from: number, to: number) =>
  recorded.datagrams.filter(
    ({ src, dst }) => src.startsWith(`10.99.0.${from}:`) && dst === `10.99.0.${to}:${PORT}`,
  );
const isHeartbeat = ({ bytes }: RecordedDatagram) => bytes.length === HEARTBEAT;
const vni = ({ bytes }: RecordedDatagram) =>
  ((bytes[4] ?? 0) << 16) | ((bytes[5] ?? 0) << 8) | (bytes[6] ?? 0);
const frame = ({ bytes }: RecordedDatagram) => bytes.subarray(VXLAN);

let hosts: Hosts;
let datapath: Datapath;
/** Sockets of hosts 1 and 3, where the original's routers were; and a raw one of a pod on our own host. */
const sockets = new Map<number, number>();
let podSocket: number;
let podLink: number;

beforeAll(async () => {
  hosts = await Hosts.create("fdp", 3);
  const middle = `/run/netns/${hosts.host(2).netns}`;
  const pod = await hosts.pod("pod");
  const name = pod.split("/").at(-1) ?? "";
  // The kernel's own frames, as its solicitations of IPv6 routers, would come among those that are compared.
  for (const netns of [name, hosts.host(2).netns])
    await must(["ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
  const nl = inNetns(middle, () => new NetlinkSocket(NETLINK_ROUTE));
  inNetns(middle, () => makeBridge(nl, { address: "00:00:00:00:00:02", mtu: 1376 }));
  await must([
    "ip",
    "-n",
    name,
    "link",
    "add",
    "eth0",
    "mtu",
    "1376",
    "type",
    "veth",
    "peer",
    "name",
    "p0",
    "netns",
    hosts.host(2).netns,
  ]);
  await must(["ip", "-n", name, "link", "set", "eth0", "up"]);
  await must(["ip", "-n", hosts.host(2).netns, "link", "set", "p0", "up"]);
  await must(["ip", "-n", hosts.host(2).netns, "link", "set", "p0", "master", "weave"]);
  datapath = inNetns(
    middle,
    () =>
      new Datapath(
        nl,
        { name: "00:00:00:00:00:02", port: PORT - 1, mtu: () => 1376, self: id(2), fastdp: true },
        (keeper) => keeper.reconcile(() => true),
      ),
  );
  const at = (host: number) => parseIPv4(`10.99.0.${host}`);
  datapath.apply({
    routes: new Map([1, 3].map((host) => [id(host), at(host)])),
    hops: new Map([
      [id(2), { vxlan: [1, 3].map((host) => ({ shortId: id(host), address: at(host) })), sleeve: false }],
      [id(1), { vxlan: [{ shortId: id(3), address: at(3) }], sleeve: false }],
      [id(3), { vxlan: [{ shortId: id(1), address: at(1) }], sleeve: false }],
    ]),
    neighbours: new Set([at(1), at(3)]),
  });
  for (const host of [1, 3]) {
    const fd = inNetns(`/run/netns/${hosts.host(host).netns}`, () =>
      openSocket("test", AF_INET, SOCK_DGRAM, 0),
    );
    bindSocket("test", fd, sockaddrIn(new Uint8Array(4), PORT));
    sockets.set(host, fd);
  }
  [podSocket, podLink] = inNetns(pod, () => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const index = linkByName(inside, "eth0")?.index ?? 0;
    const fd = openSocket("test", AF_PACKET, SOCK_RAW, 0x0300);
    bindSocket("test", fd, sockaddrLinkLayer(index, 3));
    return [fd, index];
  });
});

afterAll(() => {
  for (const fd of [...sockets.values(), podSocket]) closeSync(fd);
  hosts.disposeSync();
});

const socket = (host: number) => sockets.get(host) ?? -1;
const buffer = new Uint8Array(65_536);

function send(host: number, datagram: RecordedDatagram): void {
  sendDatagram("test", socket(host), datagram.bytes, sockaddrIn(ipv4Octets(parseIPv4("10.99.0.2")), PORT));
}

/** Waits for something to come in that satisfies a test; other things on the wire are passed over. */
function received(fd: number, matches: (bytes: Uint8Array) => boolean): Promise<Uint8Array | undefined> {
  const look = () => {
    for (;;) {
      const bytes = receiveDatagram("test", fd, buffer, false)?.slice();
      if (!bytes || matches(bytes)) return bytes;
    }
  };
  return eventually("a datagram", look, (bytes) => bytes !== undefined);
}

function drain(fd: number): void {
  while (receiveDatagram("test", fd, buffer, false));
}

const same = (wanted: Uint8Array) => (bytes: Uint8Array) => hex(bytes) === hex(wanted);

test("there is something recorded of each kind", () => {
  expect([...ids.keys()].sort()).toEqual([1, 2, 3]);
  for (const [from, to] of [
    [1, 2],
    [2, 1],
    [2, 3],
    [3, 2],
  ] as const) {
    expect(sentBy(from, to).some(isHeartbeat)).toBe(true);
    expect(sentBy(from, to).some((datagram) => !isHeartbeat(datagram))).toBe(true);
  }
});

describe("heartbeats", () => {
  test.each([
    [1, 2],
    [2, 1],
    [2, 3],
    [3, 2],
  ] as const)("from %d to %d: ours are the same bytes", (from, to) => {
    const heartbeat = sentBy(from, to).find(isHeartbeat);
    if (!heartbeat) throw new Error("not recorded");
    const uid = new DataView(heartbeat.bytes.buffer, heartbeat.bytes.byteOffset).getBigUint64(
      VXLAN + 14,
      false,
    );
    expect(hex(encodeHeartbeat(networkIdentifier(id(from), id(to)), uid, 1376))).toBe(hex(heartbeat.bytes));
  });

  test.each([1, 3])("from %d: noted, and not handed to the bridge", async (from) => {
    const heartbeat = sentBy(from, 2).find(isHeartbeat);
    if (!heartbeat) throw new Error("not recorded");
    const uid = new DataView(heartbeat.bytes.buffer, heartbeat.bytes.byteOffset).getBigUint64(
      VXLAN + 14,
      false,
    );
    // Nobody else's are noted.
    datapath.expectHeartbeats(uid + 1n);
    send(from, heartbeat);
    datapath.expectHeartbeats(uid);
    const noted = await eventually(
      "the heartbeat",
      () => {
        send(from, heartbeat);
        return datapath.heartbeat(uid);
      },
      (found) => found !== undefined,
    );
    expect(noted).toMatchObject({
      size: 1390,
      length: 1390,
      sender: parseIPv4(`10.99.0.${from}`),
    });
    expect(datapath.heartbeat(uid + 1n)).toBeUndefined();
    datapath.forgetHeartbeats(uid);
    send(from, heartbeat);
    expect(datapath.heartbeat(uid)).toBeUndefined();
  });
});

describe("frames", () => {
  const podFrames = (from: number, to: number) =>
    sentBy(from, to).filter((datagram) => !isHeartbeat(datagram));

  test("for us are handed over as they are, and their source learned", async () => {
    const frames = podFrames(1, 2).filter((datagram) => vni(datagram) === networkIdentifier(id(1), id(2)));
    expect(frames.length).toBeGreaterThan(0);
    for (const datagram of frames) {
      drain(podSocket);
      send(1, datagram);
      expect(await received(podSocket, same(frame(datagram)))).toBeDefined();
      const source = formatMac(frame(datagram).subarray(6, 12));
      const learned = datapath.macs().find(([mac]) => mac === source)?.[1];
      expect(learned?.peer).toBe(id(1));
      // The programs' clock is ours: what was seen just now is not old, and is forgotten when it is.
      const ageMs = Number(monotonicNow() - (learned?.seen ?? 0n)) / 1e6;
      expect(ageMs).toBeGreaterThanOrEqual(0);
      expect(ageMs).toBeLessThan(60_000);
    }
  });

  test("of addresses not seen for long are forgotten, and those of peers that are gone; those of peers renumbered stay", async () => {
    const known = () => datapath.macs().map(([mac]) => mac);
    const before = known();
    datapath.forgetMacs(0n);
    expect(known()).toEqual(before);
    const macsAt = (wanted: number) => datapath.macs().filter(([, { peer }]) => peer === wanted).length;
    const count = macsAt(id(1));
    expect(count).toBeGreaterThan(0);
    datapath.renumberMacs(new Map([[id(1), 4000]]));
    expect([macsAt(id(1)), macsAt(4000)]).toEqual([0, count]);
    datapath.renumberMacs(new Map([[4000, undefined]]));
    expect(macsAt(4000)).toBe(0);
    datapath.forgetMacs(monotonicNow());
    expect(datapath.macs()).toEqual([]);
  });

  test("for the peer behind us are passed on just as the original passed them on", async () => {
    const relayed = podFrames(1, 2).filter((datagram) => vni(datagram) === networkIdentifier(id(1), id(3)));
    const passedOn = podFrames(2, 3).map(({ bytes }) => hex(bytes));
    expect(relayed.length).toBeGreaterThan(0);
    for (const datagram of relayed) {
      expect(passedOn).toContain(hex(datagram.bytes));
      send(1, datagram);
      expect(await received(socket(3), same(datagram.bytes))).toBeDefined();
    }
  });

  test("to all are handed over and passed on along the sender's tree", async () => {
    const broadcast = podFrames(1, 2).find((datagram) => (frame(datagram)[0] ?? 0) === 0xff);
    if (!broadcast) throw new Error("not recorded");
    const onward = podFrames(2, 3).find(
      (datagram) =>
        vni(datagram) === networkIdentifier(id(1), id(3)) && hex(frame(datagram)) === hex(frame(broadcast)),
    );
    if (!onward) throw new Error("not recorded");
    drain(podSocket);
    send(1, broadcast);
    expect(await received(podSocket, same(frame(broadcast)))).toBeDefined();
    expect(await received(socket(3), same(onward.bytes))).toBeDefined();
  });

  test("of our own pods leave as the original sent them", async () => {
    const own = podFrames(2, 1).filter(
      (datagram) => vni(datagram) === networkIdentifier(id(2), id(1)) && (frame(datagram)[0] ?? 0) !== 0xff,
    );
    expect(own.length).toBeGreaterThan(0);
    for (const datagram of own) {
      sendDatagram("test", podSocket, frame(datagram), sockaddrLinkLayer(podLink, 0x0800));
      expect(await received(socket(1), same(datagram.bytes))).toBeDefined();
    }
  });

  test.each<[string, number, number]>([
    ["of our own id", 2, 2],
    ["for a peer that there is no way to", 1, 0xfff],
    ["of a peer back to where it came from", 3, 1],
  ])("%s go nowhere", async (_what, source, destination) => {
    const some = podFrames(1, 2)[0];
    if (!some) throw new Error("not recorded");
    const forged = some.bytes.slice();
    const identifier = networkIdentifier(id(source) || source, id(destination) || destination);
    forged.set([identifier >> 16, (identifier >> 8) & 255, identifier & 255], 4);
    for (const fd of [podSocket, socket(1), socket(3)]) drain(fd);
    send(1, { ...some, bytes: forged });
    // What comes after it arrives; it does not.
    const after = podFrames(1, 2).find((datagram) => vni(datagram) === networkIdentifier(id(1), id(3)));
    if (!after) throw new Error("not recorded");
    send(1, after);
    const next = await received(socket(3), (bytes) => bytes.length !== HEARTBEAT);
    expect(hex(next ?? new Uint8Array())).toBe(hex(after.bytes));
    // The kernel of the pod's end may have reported its multicast groups, by IGMP, which goes to all.
    for (let back = receiveDatagram("test", socket(1), buffer, false); back !== undefined; ) {
      expect(hex(frame({ ...some, bytes: back }))).not.toBe(hex(frame({ ...some, bytes: forged })));
      back = receiveDatagram("test", socket(1), buffer, false);
    }
  });

  test("of hosts that are no neighbours are dropped", async () => {
    const some = podFrames(1, 2).find((datagram) => vni(datagram) === networkIdentifier(id(1), id(3)));
    if (!some) throw new Error("not recorded");
    drain(socket(3));
    const stranger = parseIPv4("10.99.0.1");
    datapath.apply({
      routes: new Map([[id(3), parseIPv4("10.99.0.3")]]),
      hops: new Map(),
      neighbours: new Set(),
    });
    const ours = podFrames(1, 2).find((datagram) => vni(datagram) === networkIdentifier(id(1), id(2)));
    if (!ours) throw new Error("not recorded");
    drain(podSocket);
    send(1, some);
    send(1, ours);
    await Bun.sleep(100);
    expect(receiveDatagram("test", socket(3), buffer, false)).toBeUndefined();
    for (let seen = receiveDatagram("test", podSocket, buffer, false); seen; ) {
      expect(hex(seen)).not.toBe(hex(frame(ours)));
      seen = receiveDatagram("test", podSocket, buffer, false);
    }
    expect(datapath.neighbour(stranger)).toEqual(NEW_NEIGHBOUR);
  });
});
