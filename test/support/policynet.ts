// The cluster of the conformance cases as namespaces on a bridge of one host, and real packets between them. A rule just
// before ours tells of every packet; one that it has told of, and that has not arrived when a later one is told of, has
// been dropped; so has one that a port did not let in, and counted. Nothing waits for what does not come.
import { closeSync } from "node:fs";
import { familyOf, ipOctets } from "../../lib/address/ip.ts";
import { parseMac } from "../../lib/address/mac.ts";
import { systemClock } from "../../lib/clock/clock.ts";
import { requireBridge } from "../../lib/host/bridge.ts";
import { findProgram } from "../../lib/host/ports/hook.ts";
import { closePortMaps, mapsOf, type PortMaps } from "../../lib/host/ports/maps.ts";
import { Ports } from "../../lib/host/ports/ports.ts";
import { createLog } from "../../lib/log/log.ts";
import { watchPackets } from "../../lib/netlink/nflog.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import type { Protocol } from "../../lib/npc/objects.ts";
import { readPacket } from "../../lib/npc/packet.ts";
import { createMaps, MAC_VALUE } from "../../lib/overlay/datapath/maps.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import type { Watch } from "../../lib/sys/readable.ts";
import {
  AF_INET,
  AF_INET6,
  AF_PACKET,
  openSocket,
  receiveDatagram,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendDatagram,
  sockaddrIn,
  sockaddrIn6,
  sockaddrLinkLayer,
} from "../../lib/sys/socket.ts";
import { ENDS } from "./conformance.ts";
import { checksum } from "./frames.ts";
import { eventually, must } from "./hosts.ts";

const ETH_P_ALL = 0x0003;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const NUMBER: Record<Protocol, number> = { TCP: 6, UDP: 17, SCTP: 132 };
const FIRST = { flags: 2, sequence: 1000, acknowledgement: 0 };
const SCTP_INIT = 1;
const SCTP_TAG = 7;
const GIVE_UP_MS = 10_000;
const GROUP = 87;
/** Just before the chain of tables.ts. */
const TELLING = `table inet probe { chain postrouting { type filter hook postrouting priority 94; log group ${GROUP} snaplen 128; }; }\n`;
/** Port of packets that only have to be told of. */
const MARKER_PORT = 1;
const FIRST_PORT = 20_000;
const LAST_PORT = 60_000;

/** See addWorld. */
export const WORLD = "192.0.2.2";
export const GATEWAY = "192.0.2.1";

export interface Sending {
  readonly from: string;
  readonly to: string;
  readonly source: string;
  readonly destination: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** The next hop's Ethernet address, where that is not the receiver's. */
  readonly via?: string;
  /** What a TCP segment says; a SYN unless given. */
  readonly tcp?: { readonly flags: number; readonly sequence: number; readonly acknowledgement: number };
  /** The type of an SCTP packet's chunk; INIT unless given. */
  readonly chunk?: number;
}

interface EndSocket {
  readonly mac: string;
  readonly fd: number;
  readonly index: number;
}

/** Ports first, then what each protocol needs to be taken for a first packet; checksums are right where they are checked. */
function segment(
  { protocol, source, destination, tcp = FIRST, chunk = SCTP_INIT }: Sending,
  ports: readonly [number, number],
): Uint8Array {
  const length = { TCP: 20, UDP: 8, SCTP: 32 }[protocol];
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ports[0]);
  view.setUint16(2, ports[1]);
  if (protocol === "TCP") {
    view.setUint32(4, tcp.sequence);
    view.setUint32(8, tcp.acknowledgement);
    view.setUint8(12, 0x50);
    view.setUint8(13, tcp.flags);
    view.setUint16(14, 1024);
  } else if (protocol === "UDP") view.setUint16(4, length);
  else {
    // INIT (RFC 9260): a tag, a window, one stream each way. All others carry the tag, which is the same at both ends.
    if (chunk !== SCTP_INIT) view.setUint32(4, SCTP_TAG);
    view.setUint8(12, chunk);
    view.setUint16(14, 20);
    view.setUint32(16, SCTP_TAG);
    view.setUint32(20, 65_535);
    view.setUint16(24, 1);
    view.setUint16(26, 1);
    view.setUint32(8, crc32c(bytes), true);
  }
  const pseudo = Buffer.concat([
    ipOctets(source),
    ipOctets(destination),
    Uint8Array.of(0, NUMBER[protocol], length >> 8, length & 255),
  ]);
  if (protocol !== "SCTP") view.setUint16(protocol === "TCP" ? 16 : 6, ~checksum(pseudo, bytes) & 0xffff);
  return bytes;
}

/** The checksum of SCTP (RFC 9260, appendix A); conntrack takes packets with another for invalid. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const octet of bytes) {
    crc ^= octet;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}

function packet(source: string, destination: string, protocol: Protocol, payload: Uint8Array): Uint8Array {
  const family = familyOf(source);
  const header = new Uint8Array(family === 4 ? 20 : 40);
  const view = new DataView(header.buffer);
  if (family === 4) {
    view.setUint8(0, 0x45);
    view.setUint16(2, 20 + payload.length);
    view.setUint8(8, 64);
    view.setUint8(9, NUMBER[protocol]);
    header.set(ipOctets(source), 12);
    header.set(ipOctets(destination), 16);
    view.setUint16(10, ~checksum(header) & 0xffff);
  } else {
    view.setUint8(0, 0x60);
    view.setUint16(4, payload.length);
    view.setUint8(6, NUMBER[protocol]);
    view.setUint8(7, 64);
    header.set(ipOctets(source), 8);
    header.set(ipOctets(destination), 24);
  }
  return new Uint8Array(Buffer.concat([header, payload]));
}

export class PolicyNet {
  readonly #namespaces: string[] = [];
  readonly #ends = new Map<string, EndSocket>();
  readonly #buffer = new Uint8Array(65_536);
  /** Ports that packets have been told of from. */
  readonly #told = new Set<number>();
  /** Numbers of markers that have been told of. */
  #marked = 0;
  #marker = 0;
  #watch: Watch | undefined;
  #ports: PortMaps | undefined;
  /** Frames that were dropped at ports, as far as they were asked for. */
  #refused = 0n;
  #port = FIRST_PORT;

  private constructor(readonly prefix: string) {}

  /** With `bound`, ports of pods are bound to their addresses, as the router does where policies are enforced. */
  static async create(name: string, { bound = true } = {}): Promise<PolicyNet> {
    const net = new PolicyNet(`${name}${process.pid}`);
    try {
      await net.#build();
      if (bound) net.#ports = inNetns(net.host, bindPorts);
      return net;
    } catch (error) {
      net.dispose();
      throw error;
    }
  }

  /** Path of the host's namespace. */
  get host(): string {
    return `/run/netns/${this.prefix}-host`;
  }

  async #build(): Promise<void> {
    const host = `${this.prefix}-host`;
    const ip = (...args: string[]) => must(["ip", ...args]);
    await this.#namespace(host);
    await ip("-n", host, "link", "add", "weave", "type", "bridge");
    await ip("-n", host, "link", "set", "weave", "up");
    await ip("-n", host, "link", "set", "lo", "up");
    await ip("-n", host, "addr", "add", `${ENDS.get("node")}/12`, "dev", "weave");
    await ip("-n", host, "addr", "add", `${ENDS.get("node6")}/64`, "dev", "weave", "nodad");
    let number = 0;
    for (const [end, address] of ENDS) {
      if (end.endsWith("6") || end === "node") continue;
      const netns = `${this.prefix}-${end.replace("/", "")}`;
      await this.#namespace(netns);
      // As the CNI plugin names the ports of pods.
      const port = `${end.includes("/") ? "vethwepl" : "uplink"}${++number}`;
      await ip("-n", host, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", netns);
      await ip("-n", host, "link", "set", port, "up", "master", "weave");
      await ip("-n", netns, "link", "set", "eth0", "up");
      await ip("-n", netns, "addr", "add", `${address}/12`, "dev", "eth0");
      await ip("-n", netns, "addr", "add", `${ENDS.get(`${end}6`)}/64`, "dev", "eth0", "nodad");
      const [link] = JSON.parse(await ip("-n", netns, "-j", "link", "show", "eth0"));
      const fd = inNetns(`/run/netns/${netns}`, () =>
        openSocket("packets", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, (ETH_P_ALL & 255) << 8),
      );
      this.#ends.set(end, { mac: link.address, fd, index: link.ifindex });
    }
    this.#watch = inNetns(this.host, () =>
      watchPackets(GROUP, {
        packet: ({ payload }) => {
          const connection = readPacket(payload);
          if (connection?.sourcePort === MARKER_PORT) this.#marked = Math.max(this.#marked, connection.port);
          else if (connection) this.#told.add(connection.sourcePort);
        },
        lost: () => {},
        failed: (error) => {
          throw error;
        },
      }),
    );
    await this.tell();
  }

  /** Puts the rule in place that tells of packets. */
  async tell(): Promise<void> {
    await must(["ip", "netns", "exec", `${this.prefix}-host`, "nft", "-f", "-"], { stdin: TELLING });
  }

  /** Adds somebody whom the host routes to: "world", at WORLD. The host's address there is GATEWAY. */
  async addWorld(): Promise<void> {
    const [host, world] = [`${this.prefix}-host`, `${this.prefix}-world`];
    const ip = (...args: string[]) => must(["ip", ...args]);
    await this.#namespace(world);
    await ip("-n", host, "link", "add", "world0", "type", "veth", "peer", "name", "eth0", "netns", world);
    await ip("-n", host, "addr", "add", `${GATEWAY}/24`, "dev", "world0");
    await ip("-n", host, "link", "set", "world0", "up");
    await ip("-n", world, "addr", "add", `${WORLD}/24`, "dev", "eth0");
    await ip("-n", world, "link", "set", "eth0", "up");
    await ip("-n", world, "route", "add", "default", "via", GATEWAY);
    await must(["ip", "netns", "exec", host, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
  }

  /** Ethernet address of the bridge: what is not for the pods' own subnet goes there. */
  async bridgeMac(): Promise<string> {
    const [link] = JSON.parse(await must(["ip", "-n", `${this.prefix}-host`, "-j", "link", "show", "weave"]));
    return link.address;
  }

  async #namespace(name: string): Promise<void> {
    await must(["ip", "netns", "add", name]);
    this.#namespaces.push(name);
  }

  /** The namespace of an end. */
  netns(end: string): string {
    return `${this.prefix}-${end.replace(/6$/, "").replace("/", "")}`;
  }

  /** A port that nothing was sent from before. */
  nextPort(): number {
    this.#port = this.#port === LAST_PORT ? FIRST_PORT : this.#port + 1;
    return this.#port;
  }

  /** Sends first packets of connections, all at once; says of each whether it arrived. */
  async probe(sendings: readonly Sending[]): Promise<boolean[]> {
    const ports = sendings.map(() => this.nextPort());
    for (const [i, sending] of sendings.entries()) this.send(sending, ports[i] ?? 0);
    return await this.outcomes(sendings, ports);
  }

  /** Sends one packet, from a port. */
  send(sending: Sending, sourcePort: number): void {
    const { from, to, source, destination, protocol, port, via } = sending;
    const payload = segment(sending, [sourcePort, port]);
    if (from.startsWith("node")) return sendByKernel(this.host, destination, protocol, payload);
    if (from === "world")
      return sendByKernel(`/run/netns/${this.netns("world")}`, destination, protocol, payload);
    const [sender, receiver] = [this.end(from), this.end(to)];
    const family = familyOf(source);
    const frame = Buffer.concat([
      parseMac(via ?? receiver.mac),
      parseMac(sender.mac),
      Uint8Array.of(ETHERTYPE[family] >> 8, ETHERTYPE[family] & 255),
      packet(source, destination, protocol, payload),
    ]);
    sendDatagram("frame", sender.fd, frame, sockaddrLinkLayer(sender.index, ETHERTYPE[family]));
  }

  /** Waits until each packet has arrived, or is known to be dropped. */
  async outcomes(sendings: readonly Sending[], ports: readonly number[]): Promise<boolean[]> {
    const arrived = new Set<number>();
    const isOpen = (port: number) => !arrived.has(port);
    let marker: number | undefined;
    for (let waited = 0; ; waited++) {
      this.#receive(sendings, ports, arrived);
      const open = ports.filter(isOpen);
      if (open.length === 0 || (marker !== undefined && this.#marked >= marker)) break;
      const untold = open.filter((port) => !this.#told.has(port)).length;
      const refused = this.#refusedFrames();
      if (marker === undefined && refused - this.#refused >= BigInt(untold)) {
        this.#refused = refused;
        marker = this.#mark();
      }
      if (waited > GIVE_UP_MS) {
        const lost = sendings.filter((_, i) => open.includes(ports[i] ?? 0));
        throw new Error(`neither arrived nor filtered: ${JSON.stringify(lost.slice(0, 3))}`);
      }
      await Bun.sleep(1);
    }
    this.#receive(sendings, ports, arrived);
    for (const port of ports) this.#told.delete(port);
    return ports.map((port) => arrived.has(port));
  }

  /**
   * Whether a packet arrives before a later one, to the same end, which has to arrive: for what is dropped without a
   * word.
   */
  async arrivesBefore(sending: Sending, later: Sending): Promise<boolean> {
    const [sendings, ports] = [
      [sending, later],
      [this.nextPort(), this.nextPort()],
    ] as const;
    const [first = 0, last = 0] = ports;
    this.send(sending, first);
    this.send(later, last);
    const arrived = new Set<number>();
    await eventually(
      "the later packet",
      () => this.#receive(sendings, ports, arrived),
      () => arrived.has(last),
    );
    return arrived.has(first);
  }

  #receive(sendings: readonly Sending[], ports: readonly number[], arrived: Set<number>): void {
    for (const [end, { fd }] of this.#ends) {
      for (;;) {
        const frame = receiveDatagram("frame", fd, this.#buffer, false);
        if (!frame) break;
        const port = readPacket(frame.subarray(14))?.sourcePort ?? 0;
        const wanted = sendings[ports.indexOf(port)];
        if (wanted && wanted.to.replace(/6$/, "") === end) arrived.add(port);
      }
    }
  }

  /** Frames that ports did not take, since they were no frames of the pod's. */
  #refusedFrames(): bigint {
    const entries = this.#ports?.ports.entries() ?? [];
    return entries.reduce((sum, [, { dropped }]) => sum + dropped.spoofed + dropped.protocol, 0n);
  }

  /** Sends a packet that will be told of after all before it. Returns its number. */
  #mark(): number {
    this.#marker = (this.#marker % LAST_PORT) + 1;
    if (this.#marker === 1) this.#marked = 0;
    const [source = "", destination = ""] = [ENDS.get("outside"), ENDS.get("far")];
    this.send(
      { from: "outside", to: "far", source, destination, protocol: "UDP", port: this.#marker },
      MARKER_PORT,
    );
    return this.#marker;
  }

  /** The socket of an end on the bridge. */
  end(name: string): EndSocket {
    const end = this.#ends.get(name.replace(/6$/, ""));
    if (!end) throw new Error(`no packets from or to ${name}`);
    return end;
  }

  dispose(): void {
    this.#watch?.stop();
    if (this.#ports) closePortMaps(this.#ports);
    for (const { fd } of this.#ends.values()) closeSync(fd);
    for (const netns of this.#namespaces) Bun.spawnSync(["ip", "netns", "del", netns]);
  }
}

/** Puts the program on the ports of the bridge, in the namespace of this thread, where it stays. */
function bindPorts(): PortMaps {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  using filter = new NetlinkSocket(NETLINK_NETFILTER);
  const { macs, ...others } = createMaps();
  const config = {
    antiSpoof: true,
    macs,
    value: { peerAt: MAC_VALUE.peer, timeAt: MAC_VALUE.seen },
    self: 1,
    leaveQdisc: false,
    overlayPorts: [],
  };
  new Ports(route, filter, config, systemClock, createLog("error")).stop();
  for (const map of [macs, ...Object.values(others)]) map.close();
  const found = findProgram(route, requireBridge(route), "egress");
  const maps = found && mapsOf(found.program);
  found?.program.close();
  if (!maps) throw new Error("the program is not on the bridge");
  return maps;
}

/** By the namespace's own stack, which looks for the way and for who is there. */
function sendByKernel(netns: string, destination: string, protocol: Protocol, payload: Uint8Array): void {
  inNetns(netns, () => {
    const family = familyOf(destination);
    const fd = openSocket("raw", family === 4 ? AF_INET : AF_INET6, SOCK_RAW, NUMBER[protocol]);
    const to = family === 4 ? sockaddrIn(ipOctets(destination), 0) : sockaddrIn6(ipOctets(destination), 0);
    try {
      sendDatagram("packet", fd, payload, to);
    } finally {
      closeSync(fd);
    }
  });
}
