// The source address that an exposed host gives to packets, as their receivers see it; the packets that it drops; and the state
// after a change that fails.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { formatIPv4, parseCidr } from "../../lib/address/ipv4.ts";
import { formatMac, parseMac } from "../../lib/address/mac.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { Exposure } from "../../lib/host/expose.ts";
import { firewallTable } from "../../lib/host/firewall.ts";
import { tableReplace } from "../../lib/netlink/nftables/replace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import {
  AF_INET,
  AF_PACKET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendDatagram,
  setOption,
  sockaddrIn,
} from "../../lib/sys/socket.ts";
import { addVeth, eventually, Hosts, must } from "../support/hosts.ts";

const PORT = 9_999;
const OVERLAY = 9_998;
const VXLAN = 9_997;
const NAME = "02:00:00:00:00:01";
const ETH_P_IP = 0x0008;
const [SOL_SOCKET, SO_BROADCAST] = [1, 6];
const EXPOSED = parseCidr("10.32.0.1/12");
const BUFFER = new Uint8Array(65_536);

let hosts: Hosts;
let sender: number;
const captures = new Map<string, number>();
const opened: number[] = [];
const paths: string[] = [];
const within = <T>(path: string, fn: () => T): T => inNetns(path, fn);
const path = (host: number) => `/run/netns/${hosts.host(host).netns}`;

beforeAll(async () => {
  hosts = await Hosts.create("mas", 2);
  const host = hosts.host(1);
  await host.must(["ip", "link", "add", "weave", "type", "bridge"]);
  await host.must(["ip", "link", "set", "weave", "up"]);
  await host.must(["ip", "addr", "add", "10.32.0.1/12", "dev", "weave"]);
  await host.must(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
  for (const i of [1, 2]) {
    const pod = await hosts.pod(`pod${i}`);
    paths.push(pod);
    const netns = pod.split("/").at(-1) ?? "";
    await addVeth(["ip", "-n", host.netns], `p${i}`, netns, 1_376);
    await host.must(["ip", "link", "set", `p${i}`, "master", "weave", "up"]);
    const ip = (...args: string[]) => must(["ip", "-n", netns, ...args]);
    await ip("addr", "add", `10.32.0.${10 + i}/12`, "dev", "eth0");
    await ip("link", "set", "eth0", "up");
    await ip("route", "add", "default", "via", "10.32.0.1");
  }
  const [one = "", two = ""] = paths;
  expect(within(path(1), enableBridgeNetfilter)).toBeUndefined();
  using nf = within(path(1), () => new NetlinkSocket(NETLINK_NETFILTER));
  const exposed = [{ cidr: EXPOSED, masquerade: true }];
  const overlays = { sleeve: OVERLAY, vxlan: VXLAN, name: NAME };
  tableReplace(nf, firewallTable({ exposed, controlPort: undefined, overlays, local: [] }));
  sender = within(one, () => openSocket("sender", AF_INET, SOCK_DGRAM, 0));
  setOption("broadcasts", sender, SOL_SOCKET, SO_BROADCAST, 1);
  const capture = () => openSocket("capture", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, ETH_P_IP);
  captures.set("pod", within(two, capture)).set("outside", within(path(2), capture));
  opened.push(sender, ...captures.values());
}, 300_000);

afterAll(() => {
  for (const fd of opened) closeSync(fd);
  hosts?.disposeSync();
});

/** Where a packet of the first pod to this address comes from, as those see it who get it. */
async function sourceOf(destination: string, seenBy: string): Promise<string> {
  const to = Uint8Array.from(destination.split(".").map(Number));
  let source: string | undefined;
  await eventually(
    `a packet to ${destination} arrives`,
    () => {
      // The first may be lost while addresses are asked for.
      sendDatagram("packet", sender, Uint8Array.of(1), sockaddrIn(to, PORT));
      for (;;) {
        const packet = receiveDatagram("capture", captures.get(seenBy) ?? -1, BUFFER, false);
        if (!packet) return source;
        const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
        if (packet[23] !== 17 || view.getUint16(36) !== PORT) continue;
        if (packet.subarray(30, 34).join(".") === destination) source = formatIPv4(view.getUint32(26));
      }
    },
    (found) => found !== undefined,
  );
  return source ?? "";
}

test.each([
  ["outside the network: the host's", "10.99.0.2", "outside", "10.99.0.1"],
  ["another pod: its own", "10.32.0.12", "pod", "10.32.0.11"],
  ["a multicast group: its own", "224.0.0.251", "pod", "10.32.0.11"],
  ["another multicast group: its own", "239.1.2.3", "pod", "10.32.0.11"],
  ["everybody: its own", "255.255.255.255", "pod", "10.32.0.11"],
])("a pod's packet to %s address is the source", async (_what, destination, seenBy, source) => {
  expect(await sourceOf(destination, seenBy)).toBe(source);
});

/** Open a socket of the host that receives datagrams to this port. */
function receiver(port: number): number {
  return within(path(1), () => {
    const fd = openSocket("receiver", AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    opened.push(fd);
    bindSocket("receiver", fd, sockaddrIn(new Uint8Array(4), port));
    return fd;
  });
}

test("a pod's packets to a port of the overlay reach other pods, but neither its host nor other hosts", async () => {
  const own = new Map([OVERLAY, PORT].map((port) => [port, receiver(port)]));
  const seen = new Set<string>();
  const listen = () => {
    for (const [port, fd] of own) if (receiveDatagram("own", fd, BUFFER, false)) seen.add(`host ${port}`);
    for (const [who, fd] of captures)
      for (let packet = receiveDatagram("capture", fd, BUFFER, false); packet; ) {
        const port = new DataView(packet.buffer, packet.byteOffset, packet.length).getUint16(36);
        if (packet[23] === 17 && (port === PORT || port === OVERLAY)) seen.add(`${who} ${port}`);
        packet = receiveDatagram("capture", fd, BUFFER, false);
      }
    return [...seen].sort();
  };
  listen();
  seen.clear();
  const wanted = [`host ${PORT}`, `outside ${PORT}`, `pod ${OVERLAY}`, `pod ${PORT}`];
  const arrived = await eventually(
    "all others arrive",
    () => {
      for (const to of [
        [10, 32, 0, 1],
        [10, 99, 0, 1],
        [10, 99, 0, 2],
        [10, 32, 0, 12],
      ])
        for (const port of [OVERLAY, PORT])
          sendDatagram("packet", sender, Uint8Array.of(1), sockaddrIn(Uint8Array.from(to), port));
      return listen();
    },
    (found) => wanted.every((each) => found.includes(each)),
  );
  expect(arrived).toEqual(wanted);
});

test("masqueraded packets of the host's other networks to overlays are dropped; peers behind it get through", async () => {
  const host = hosts.host(1);
  const netns = (await hosts.pod("other")).split("/").at(-1) ?? "";
  await addVeth(["ip", "-n", host.netns], "other", netns, 1_500);
  await host.must(["ip", "addr", "add", "172.17.0.1/24", "dev", "other"]);
  await host.must(["ip", "link", "set", "other", "up"]);
  const ip = (...args: string[]) => must(["ip", "-n", netns, ...args]);
  const [masqueraded, routed] = ["172.17.0.2", "172.17.0.3"];
  for (const address of [masqueraded, routed]) await ip("addr", "add", `${address}/24`, "dev", "eth0");
  await ip("link", "set", "eth0", "up");
  await ip("route", "add", "default", "via", "172.17.0.1");
  await host.must(["nft", "-f", "-"], {
    stdin: `table ip other { chain post {
      type nat hook postrouting priority 100;
      ip saddr ${masqueraded} masquerade
      ip saddr 10.99.0.1 udp sport 7777 masquerade to :7778
    }
    }`,
  });
  const socket = (at: string, address: string, port: number) =>
    within(at, () => {
      const fd = openSocket("sender", AF_INET, SOCK_DGRAM, 0);
      opened.push(fd);
      bindSocket("sender", fd, sockaddrIn(Uint8Array.from(address.split(".").map(Number)), port));
      return fd;
    });
  const senders = [
    ...[masqueraded, routed].map((address) => socket(`/run/netns/${netns}`, address, 7_000)),
    socket(path(1), "10.99.0.1", 7_777),
  ];
  const names = new Map([
    ["own", parseMac(NAME)],
    ["other", parseMac("02:00:00:00:00:02")],
  ]);
  const seen = new Set<string>();
  const listen = () => {
    const fd = captures.get("outside") ?? -1;
    for (let packet = receiveDatagram("capture", fd, BUFFER, false); packet; ) {
      const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
      const [from, to] = [view.getUint16(34), view.getUint16(36)];
      const name = packet[23] === 17 ? formatMac(packet.slice(42, 48)) : "";
      const whose = [...names].find(([, each]) => formatMac(each) === name)?.[0];
      if (whose) seen.add(`${formatIPv4(view.getUint32(26))}:${from} ${to} ${whose}`);
      packet = receiveDatagram("capture", fd, BUFFER, false);
    }
    return [...seen].sort();
  };
  const wanted = [
    ...[...names.keys()].map((name) => `10.99.0.1:7000 ${PORT} ${name}`),
    `10.99.0.1:7000 ${OVERLAY} other`,
    ...["10.99.0.1:7778", "172.17.0.3:7000"].flatMap((from) =>
      [VXLAN, OVERLAY, PORT].flatMap((port) => [...names.keys()].map((name) => `${from} ${port} ${name}`)),
    ),
  ].sort();
  const arrived = await eventually(
    "all others arrive",
    () => {
      for (const from of senders)
        for (const port of [VXLAN, OVERLAY, PORT])
          for (const name of names.values())
            sendDatagram("packet", from, name, sockaddrIn(Uint8Array.of(10, 99, 0, 2), port));
      return listen();
    },
    (found) => wanted.every((each) => found.includes(each)),
  );
  expect(arrived).toEqual(wanted);
});

/** Return ICMP's 'fragmentation needed' with an MTU of 600, which quotes a datagram from source to destination. */
function tooBig(source: readonly number[], destination: readonly number[], port: number): Uint8Array {
  const message = new Uint8Array(8 + 20 + 8);
  const view = new DataView(message.buffer);
  message.set([3, 4]);
  view.setUint16(6, 600);
  message.set([0x45, 0, 1_400 >> 8, 1_400 & 255], 8);
  message.set([64, 17], 16);
  message.set([...source, ...destination], 20);
  view.setUint16(28, port);
  view.setUint16(30, port);
  let sum = 0;
  for (let at = 0; at < message.length; at += 2) sum += view.getUint16(at);
  view.setUint16(2, ~((sum & 0xffff) + (sum >> 16)));
  return message;
}

test("a pod's 'fragmentation needed' counts for paths within the network, not for paths between hosts", async () => {
  const [one = ""] = paths;
  const icmp = within(one, () => openSocket("icmp", AF_INET, SOCK_RAW, 1));
  opened.push(icmp);
  const port = OVERLAY + 10;
  receiver(port);
  const [host, other, pod] = [
    [10, 99, 0, 1],
    [10, 99, 0, 2],
    [10, 32, 0, 12],
  ] as const;
  const tell = (to: readonly number[], source: readonly number[], destination: readonly number[]) =>
    sendDatagram("icmp", icmp, tooBig(source, destination, port), sockaddrIn(Uint8Array.from(to), 0));
  const mtuTo = async (address: string) =>
    /mtu (\d+)/.exec(await hosts.host(1).must(["ip", "route", "get", address]))?.[1];
  await eventually(
    "the host takes the MTU for the path to a pod",
    () => {
      tell(host, host, other);
      tell([10, 32, 0, 1], [10, 32, 0, 1], other);
      tell(host, host, pod);
      return mtuTo("10.32.0.12");
    },
    (mtu) => mtu === "600",
  );
  expect(await mtuTo("10.99.0.2")).toBeUndefined();
  // Nor is it forwarded to other hosts.
  const about = new Set<string>();
  await eventually(
    "one that quotes a packet to a pod is forwarded",
    () => {
      tell(other, other, host);
      tell(other, other, pod);
      const fd = captures.get("outside") ?? -1;
      for (let packet = receiveDatagram("capture", fd, BUFFER, false); packet; ) {
        if (packet[23] === 1 && packet[34] === 3) about.add(packet.subarray(58, 62).join("."));
        packet = receiveDatagram("capture", fd, BUFFER, false);
      }
      return about;
    },
    (found) => found.has(pod.join(".")),
  );
  expect([...about]).toEqual([pod.join(".")]);
});

describe("a change of what is exposed of which the kernel refuses a part", () => {
  const [first, second] = ["10.32.0.1/12", "10.40.0.1/12"].map(parseCidr) as [typeof EXPOSED, typeof EXPOSED];

  test("leaves what was exposed, takes back what was done, and succeeds when it is tried again", () => {
    using route = within(path(1), () => new NetlinkSocket(NETLINK_ROUTE));
    let refusing = false;
    const asked: string[] = [];
    const exposure: Exposure = new Exposure(route, {
      check() {},
      apply() {
        const { wanted, unwanted } = exposure.desired;
        asked.push(
          `${wanted.map(({ address }) => formatIPv4(address))} not ${unwanted.map(({ address }) => formatIPv4(address))}`,
        );
        if (refusing && asked.length % 2 === 1) throw new Error("EPERM");
        return [];
      },
    } as ConstructorParameters<typeof Exposure>[1]);
    const before = [{ cidr: first, masquerade: true }];
    exposure.start(before);
    refusing = true;
    for (const change of [
      () => exposure.expose(second, true),
      () => exposure.expose(first, false),
      () => exposure.hide(first),
    ]) {
      expect(change).toThrow("EPERM");
      expect([exposure.exposed, exposure.desired]).toEqual([before, { wanted: [first], unwanted: [] }]);
    }
    expect(asked).toEqual([
      "10.32.0.1,10.40.0.1 not ",
      "10.32.0.1 not 10.40.0.1",
      "10.32.0.1 not ",
      "10.32.0.1 not ",
      " not 10.32.0.1",
      "10.32.0.1 not ",
    ]);
    refusing = false;
    exposure.expose(second, true);
    expect(exposure.hide(first)).toBe(true);
    expect(exposure.addresses).toEqual([second]);
  });
});
