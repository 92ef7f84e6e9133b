// Ports of containers: what they may send where policies are enforced or --anti-spoof is given, and how much of what goes
// to many anywhere. A container sends frames of every kind; another one of the host counts what arrives.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { ipOctets } from "../../lib/address/ip.ts";
import { parseMac } from "../../lib/address/mac.ts";
import { programMapIds } from "../../lib/bpf/program.ts";
import { FLOOD_RATE } from "../../lib/host/ports/program.ts";
import { linkList } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { bpfFilterList } from "../../lib/netlink/trafficcontrol.ts";
import { adoptMaps, type DatapathMaps } from "../../lib/overlay/datapath/maps.ts";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import {
  AF_PACKET,
  openSocket,
  receiveDatagram,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendDatagram,
  sockaddrLinkLayer,
} from "../../lib/sys/socket.ts";
import { udpFrame } from "../support/frames.ts";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { singlePings } from "../support/pods.ts";

const CONFIG = { cniVersion: "1.0.0", name: "weave", type: "weave-net", ipam: { routes: [] } };
const BROADCAST = "ff:ff:ff:ff:ff:ff";
const ETH_P_ALL = 0x0003;
const BUFFER = new Uint8Array(65_536);
const WORD = /<[a-z0-9][a-z0-9 .-]*>/;

/** A container and a packet socket on its link. */
interface Pod {
  readonly id: string;
  readonly netns: string;
  readonly mac: string;
  readonly address: string;
  readonly fd: number;
  readonly index: number;
}

let hosts: Hosts;
let host: Host;
const pods: Pod[] = [];

async function add(id: string, config: object = CONFIG): Promise<Pod> {
  const netns = await hosts.pod(id);
  const { code, stdout } = await host.cni("ADD", config, { id, netns });
  expect([code, stdout]).toEqual([0, stdout]);
  const [link] = JSON.parse(
    await must(["ip", "-n", netns.replace("/run/netns/", ""), "-j", "addr", "show", "eth0"]),
  );
  const address = link.addr_info.find(({ family }: { family: string }) => family === "inet").local;
  const fd = inNetns(netns, () =>
    openSocket("packets", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, (ETH_P_ALL & 255) << 8),
  );
  const pod = { id, netns, mac: link.address, address, fd, index: link.ifindex };
  pods.push(pod);
  return pod;
}

beforeAll(async () => {
  hosts = await Hosts.create("prt", 1);
  host = hosts.host(1);
}, 300_000);

afterAll(() => {
  for (const { fd } of pods) closeSync(fd);
  hosts?.disposeSync();
});

const send = (pod: Pod, frame: Uint8Array) =>
  sendDatagram("frame", pod.fd, frame, sockaddrLinkLayer(pod.index, 0x0800));

let markers = 0;

/** The words in angle brackets that frames bring to a pod, up to a marker of this call that `ally` sends last. */
async function words(pod: Pod, ally: Pod): Promise<string[]> {
  const found: string[] = [];
  const marker = `<marker ${++markers}>`;
  await eventually(
    "the marker arrives",
    () => {
      send(ally, udp(ally, pod, marker));
      for (;;) {
        const frame = receiveDatagram("frame", pod.fd, BUFFER, false);
        if (!frame) return found;
        const word = WORD.exec(Buffer.from(frame).toString("latin1"))?.[0];
        if (word !== undefined) found.push(word);
      }
    },
    (all) => all.includes(marker),
  );
  return found.filter((word) => !word.startsWith("<marker "));
}

/** The maps of the overlay's programs. */
function overlayMaps(): DatapathMaps {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const vxlan = linkList(nl).find(({ name }) => name.startsWith("vxlan-"))?.index ?? 0;
  const program = bpfFilterList(nl, vxlan, "ingress").find(({ ours }) => ours);
  const maps = program && adoptMaps(programMapIds(program.id));
  if (!maps) throw new Error("no programs of the overlay");
  return maps;
}

/** A UDP packet from one pod to another; as somebody else, where that is said. */
function udp(
  from: Pod,
  to: Pod,
  word: string,
  as: { mac?: string; address?: string; to?: string } = {},
): Uint8Array {
  return udpFrame(
    { mac: parseMac(as.mac ?? from.mac), address: as.address ?? from.address, port: 5555 },
    { mac: parseMac(as.to ?? to.mac), address: to.address, port: 7000 },
    new TextEncoder().encode(word),
  );
}

/** Words that are not in a frame by themselves are put behind it. */
const frameOf = (to: string, from: string, type: number, payload: Uint8Array, word: string) =>
  Buffer.concat([
    parseMac(to),
    parseMac(from),
    Uint8Array.of(type >> 8, type & 255),
    payload,
    new TextEncoder().encode(word),
  ]);

function arp(
  to: string,
  ethernet: string,
  sender: { mac: string; address: string },
  word: string,
): Uint8Array {
  const payload = Buffer.concat([
    Uint8Array.of(0, 1, 8, 0, 6, 4, 0, 2),
    parseMac(sender.mac),
    ipOctets(sender.address),
    parseMac(BROADCAST),
    ipOctets("10.32.0.99"),
  ]);
  return frameOf(to, ethernet, 0x0806, payload, word);
}

/** An IPv6 packet with ICMPv6 in it, behind `extensions` if there are any. */
function icmp6(
  pod: Pod,
  to: string,
  source: string,
  body: readonly Uint8Array[],
  word: string,
  extensions: readonly number[] = [],
): Uint8Array {
  const headers = extensions.map((_, i) => Uint8Array.of(extensions[i + 1] ?? 58, 0, 1, 4, 0, 0, 0, 0));
  // In an option that means nothing here: what is behind the packet, a bridge may cut off.
  const units = Math.ceil((2 + word.length) / 8);
  const option = new Uint8Array(8 * units);
  option.set(Uint8Array.of(14, units));
  option.set(new TextEncoder().encode(word), 2);
  const rest = Buffer.concat([...headers, ...body, option]);
  const header = Uint8Array.of(0x60, 0, 0, 0, rest.length >> 8, rest.length & 255, extensions[0] ?? 58, 255);
  const packet = Buffer.concat([header, ipOctets(source), ipOctets("ff02::1"), rest]);
  return frameOf(to, pod.mac, 0x86dd, packet, "");
}

const neighbour = (type: number, target: string, option: number, mac: string) => [
  Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0),
  ipOctets(target),
  Uint8Array.of(option, 1),
  parseMac(mac),
];

function linkLocal(mac: string): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = parseMac(mac);
  const hex = (x: number, y: number) => ((x << 8) | y).toString(16);
  return `fe80::${hex(a ^ 2, b)}:${hex(c, 0xff)}:${hex(0xfe, d)}:${hex(e, f)}`;
}

/** What a pod sends as itself, and as somebody else, by what it is. */
function frames(from: Pod, to: Pod, victim: Pod): { own: Uint8Array[]; foreign: Uint8Array[] } {
  const own = { mac: from.mac, address: from.address };
  const ll = linkLocal(from.mac);
  const other = linkLocal(victim.mac);
  const group = "33:33:00:00:00:01";
  return {
    own: [
      udp(from, to, "<own>"),
      udp(from, to, "<own broadcast>", { to: BROADCAST }),
      arp(to.mac, from.mac, own, "<own arp>"),
      arp(BROADCAST, from.mac, { mac: from.mac, address: "0.0.0.0" }, "<arp probe>"),
      icmp6(from, group, ll, neighbour(136, ll, 2, from.mac), "<own advertisement>"),
      icmp6(from, group, ll, neighbour(135, other, 1, from.mac), "<solicitation>"),
      icmp6(from, group, "::", [Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0), ipOctets(ll)], "<dad>"),
      icmp6(from, group, ll, [Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0)], "<own echo>", [60]),
    ],
    foreign: [
      udp(from, to, "<as local pod>", { address: victim.address }),
      udp(from, to, "<as nobody>", { address: "10.32.77.77" }),
      udp(from, to, "<as 0.0.0.0>", { address: "0.0.0.0" }),
      udp(from, to, "<with its mac>", { mac: victim.mac }),
      arp(to.mac, from.mac, { ...own, address: victim.address }, "<arp for address>"),
      arp(to.mac, from.mac, { ...own, mac: victim.mac }, "<arp for mac>"),
      icmp6(from, group, other, neighbour(135, ll, 1, from.mac), "<as its link-local>"),
      icmp6(from, group, ll, neighbour(136, other, 2, from.mac), "<advertisement>"),
      icmp6(from, group, ll, neighbour(136, other, 2, from.mac), "<behind options>", [60, 0, 60]),
      icmp6(from, group, ll, neighbour(136, ll, 2, victim.mac), "<advertised mac>"),
      icmp6(from, group, ll, neighbour(135, other, 1, victim.mac), "<solicitation mac>"),
      icmp6(from, group, "::", [Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0), ipOctets(other)], "<dad for other>"),
      icmp6(from, group, ll, [Uint8Array.of(134, 0, 0, 0, 64, 0, 0, 9)], "<router advertisement>"),
      icmp6(from, group, ll, neighbour(137, other, 2, from.mac), "<redirect>"),
      frameOf(to.mac, from.mac, 0x8100, Uint8Array.of(0, 0, 8, 0), "<tagged>"),
      frameOf(to.mac, from.mac, 0x88b5, new Uint8Array(4), "<other protocol>"),
    ],
  };
}

const wordsOf = (list: readonly Uint8Array[]) =>
  list.map((frame) => WORD.exec(Buffer.from(frame).toString("latin1"))?.[0] ?? "").sort();

/** All but frames from the own Ethernet address of a container that has just spoken itself: a loop would bring these. */
const anything = (own: readonly Uint8Array[], foreign: readonly Uint8Array[]) =>
  wordsOf([...own, ...foreign]).filter((word) => word !== "<with its mac>");

/**
 * Of these frames, those with the wanted words arrive, and no others. They are sent until they have: a new link may carry
 * nothing yet, and a busy kernel may deliver the marker first, as another processor has sent it.
 */
async function arrive(
  from: Pod,
  to: Pod,
  list: readonly Uint8Array[],
  ally: Pod,
  wanted: readonly string[],
): Promise<void> {
  await words(to, ally);
  const found = new Set<string>();
  await eventually(
    "what is wanted arrives",
    async () => {
      for (const frame of list) send(from, frame);
      for (const word of await words(to, ally)) found.add(word);
      return [...found].join();
    },
    () => wanted.every((word) => found.has(word)),
  );
  expect([...found].sort()).toEqual([...wanted]);
}

describe("what a container sends as", () => {
  let a: Pod;
  let b: Pod;
  let c: Pod;

  test("is its own affair without policies", async () => {
    await host.weave("launch");
    [a, b, c] = [await add("a-port-0001"), await add("b-port-0002"), await add("c-port-0003")];
    const { own, foreign } = frames(a, b, c);
    await arrive(a, b, [...own, ...foreign], c, anything(own, foreign));
    expect(await host.weave("status")).not.toContain("anti-spoofing");
  }, 300_000);

  const onlyOwn = async () => {
    const { own, foreign } = frames(a, b, c);
    await arrive(a, b, [...own, ...foreign], c, wordsOf(own));
  };

  test("is itself only, once policies are in force; told in status and log", async () => {
    await host.must(["nft", "add", "table", "inet", "weave-npc"]);
    await eventually(
      "anti-spoofing is on",
      () => host.status(),
      (text) => text.includes("anti-spoofing is on"),
    );
    await onlyOwn();
    expect(await host.weave("status")).toMatch(/anti-spoofing dropped \d+ frames from vethwepla-port-/);
    await eventually(
      "the log says so",
      () => host.log,
      (log) => /dropped \d+ frames from vethwepla-port- that were not from its own addresses/.test(log),
    );
  }, 300_000);

  test("stays so while no router runs, and when the next finds what it left", async () => {
    await host.killRouter();
    await onlyOwn();
    // What a container says of itself meanwhile is not believed.
    await must([
      "ip",
      "-n",
      a.netns.replace("/run/netns/", ""),
      "addr",
      "add",
      "10.32.77.77/12",
      "dev",
      "eth0",
    ]);
    await host.weave("launch");
    await onlyOwn();
  }, 300_000);

  test("may be more by configuration", async () => {
    const config = { ...CONFIG, allowedAddresses: ["10.32.77.0/24", "fd00:7::/64", "00:00:5e:00:01:07"] };
    const d = await add("d-port-0004", config);
    const advertisement = neighbour(136, "fd00:7::7", 2, "00:00:5e:00:01:07");
    const list = [
      udp(d, b, "<virtual>", { address: "10.32.77.7", mac: "00:00:5e:00:01:07" }),
      arp(b.mac, d.mac, { mac: "00:00:5e:00:01:07", address: "10.32.77.7" }, "<virtual arp>"),
      icmp6(d, "33:33:00:00:00:01", "fd00:7::7", advertisement, "<virtual advertisement>"),
    ];
    const foreign = [udp(d, b, "<another>", { address: "10.32.78.7" })];
    await arrive(d, b, [...list, ...foreign], c, wordsOf(list));
    // A link that was lost and made anew is bound as before, once the router has seen what is inside.
    await eventually(
      "the router has looked into it",
      () => host.report("{{json .Containers}}"),
      (text) => text.includes(d.mac),
    );
    await host.must(["ip", "link", "del", "vethwepld-port-"]);
    await eventually(
      "the link is back",
      () => host.exec(["ip", "link", "show", "vethwepld-port-", "up", "master", "weave"]),
      ({ stdout }) => stdout.includes("LOWER_UP"),
    );
    await arrive(d, b, [...list, ...foreign], c, wordsOf(list));
    const refused = await host.cni(
      "ADD",
      { ...CONFIG, allowedAddresses: ["10.32.0.0/33"] },
      { id: "e", netns: a.netns },
    );
    expect([refused.code, refused.stdout]).toEqual([1, expect.stringContaining("allowedAddresses")]);
  }, 300_000);

  test("has the addresses that attach adds, until detach takes them", async () => {
    const args = ["--netns", a.netns, "hand-0005"];
    const attached = async (...addresses: string[]) =>
      (await host.weave("attach", ...addresses, ...args)).trim().split(" ");
    await attached("10.32.50.1/12");
    await attached("10.32.50.2/12");
    const [link] = JSON.parse(
      await must(["ip", "-n", a.netns.replace("/run/netns/", ""), "-j", "link", "show", "ethwe"]),
    );
    const ethwe = { ...a, mac: link.address, index: link.ifindex };
    const list = ["10.32.50.1", "10.32.50.2"].map((address) => udp(ethwe, b, `<${address}>`, { address }));
    await arrive(ethwe, b, list, c, wordsOf(list));
    await host.weave("detach", "10.32.50.2/12", ...args);
    await arrive(ethwe, b, list, c, ["<10.32.50.1>"]);
  }, 300_000);

  test("is what it has, where another program attached it", async () => {
    const netns = await hosts.pod("old");
    const name = netns.replace("/run/netns/", "");
    await host.killRouter();
    await host.must([
      "ip",
      "link",
      "add",
      "vethweplold",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      name,
    ]);
    await must(["ip", "-n", name, "addr", "add", "10.32.60.1/12", "dev", "eth0"]);
    await must(["ip", "-n", name, "addr", "add", "fd00:6::1/64", "dev", "eth0", "nodad"]);
    await must(["ip", "-n", name, "link", "set", "eth0", "up"]);
    await host.must(["ip", "link", "set", "vethweplold", "up", "master", "weave"]);
    await host.weave("launch");
    const [link] = JSON.parse(await must(["ip", "-n", name, "-j", "link", "show", "eth0"]));
    const fd = inNetns(netns, () => openSocket("packets", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0));
    const old = { id: "old", netns, mac: link.address, address: "10.32.60.1", fd, index: link.ifindex };
    pods.push(old);
    const own = [
      udp(old, b, "<own>"),
      icmp6(old, "33:33:00:00:00:01", "fd00:6::1", neighbour(136, "fd00:6::1", 2, old.mac), "<own 6>"),
    ];
    const foreign = [udp(old, b, "<as a>", { address: a.address })];
    await arrive(old, b, [...own, ...foreign], c, wordsOf(own));
  }, 300_000);

  test("is its own affair again without policies; and not with --anti-spoof", async () => {
    await host.must(["nft", "delete", "table", "inet", "weave-npc"]);
    await eventually(
      "anti-spoofing is off",
      () => host.status(),
      (text) => !text.includes("anti-spoofing is on"),
    );
    const { own, foreign } = frames(a, b, c);
    await arrive(a, b, [...own, ...foreign], c, anything(own, foreign));
    await host.killRouter();
    await host.weave("launch", "--anti-spoof");
    await onlyOwn();
    await host.killRouter();
    await host.weave("launch");
  }, 300_000);

  test("what goes to many has a rate, what goes to somebody who is there has none", async () => {
    const count = 4 * FLOOD_RATE;
    const unknown = "02:00:00:00:00:77";
    const dropped = async () =>
      Number(/storm control dropped (\d+) frames from vethwepla-port-/.exec(await host.status())?.[1] ?? 0);
    let storm = await dropped();
    for (const to of [BROADCAST, unknown]) {
      const frame = udp(a, b, "<flood>", { to });
      // A busy machine may send fewer a second than are let through.
      storm = await eventually(
        `frames to ${to} are dropped`,
        () => {
          for (let i = 0; i < count; i++) send(a, frame);
          return dropped();
        },
        (now) => now > storm,
      );
    }
    await words(b, c);
    const elsewhere = "02:00:00:00:00:78";
    const maps = inNetns(`/run/netns/${host.netns}`, overlayMaps);
    maps.macs.set(elsewhere, { peer: 7, seen: monotonicNow() });
    for (const to of [b.mac, elsewhere])
      for (let i = 0; i < count; i++) send(a, udp(a, b, "<known>", { to }));
    expect(await dropped()).toBe(storm);
    for (const map of Object.values(maps)) map.close();
  }, 300_000);

  test("a container that bridges two of its links hurts nobody", async () => {
    // The frames that were forged above had b believe that c's address is at a's Ethernet address.
    for (const pod of [b, c])
      await must(["ip", "-n", pod.netns.replace("/run/netns/", ""), "neigh", "flush", "all"]);
    const netns = await hosts.pod("loop");
    const name = netns.replace("/run/netns/", "");
    for (const ifName of ["eth0", "eth1"]) {
      const config = { ...CONFIG, ipam: { ...CONFIG.ipam } };
      const { code, stdout } = await host.cni("ADD", config, { id: `loop-${ifName}`, netns, ifName });
      expect([code, stdout]).toEqual([0, stdout]);
    }
    await must(["ip", "-n", name, "link", "add", "br0", "type", "bridge"]);
    await must(["ip", "-n", name, "link", "set", "br0", "up"]);
    for (const link of ["eth0", "eth1"]) await must(["ip", "-n", name, "link", "set", link, "master", "br0"]);
    // One frame for everybody, and one for nobody.
    for (const to of [BROADCAST, "02:00:00:00:00:77"]) send(a, udp(a, b, "<round>", { to }));
    await eventually(
      "status tells of the storm",
      () => host.status(),
      (text) => /storm control dropped \d+ frames from vethweplloop-/.test(text),
    );
    const received = async () => {
      const [link] = JSON.parse(
        await must(["ip", "-n", b.netns.replace("/run/netns/", ""), "-j", "-s", "link", "show", "eth0"]),
      );
      return link.stats64.rx.packets;
    };
    const [began, before] = [performance.now(), await received()];
    const pings = singlePings(20, b.address);
    await eventually(
      "nothing of others is lost",
      () => exec(["ip", "netns", "exec", c.netns.replace("/run/netns/", ""), ...pings]),
      ({ code }) => code === 0,
    );
    const seconds = (performance.now() - began) / 1000;
    // Two links, each with its rate, and what others send.
    expect((await received()) - before).toBeLessThan(FLOOD_RATE * 2 * seconds + 3 * FLOOD_RATE);
  }, 300_000);
});
