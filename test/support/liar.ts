// A peer that lies, over real sockets; tests run it in a host's namespace. It prints "connected", then attacks until it is
// killed or its connections have ended.
// usage: bun liar.ts IP PASSWORD ATTACK
import { connect, type Socket } from "node:net";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { CHANNEL as DNS, encodeNames } from "../../lib/dns/wire.ts";
import { MAX_ENTRIES } from "../../lib/ipam/ring/entry.ts";
import { encodeRangeMessage, encodeState, CHANNEL as IPAM, MESSAGE } from "../../lib/ipam/wire.ts";
import type { Framing } from "../../lib/mesh/framing.ts";
import { Handshake } from "../../lib/mesh/handshake.ts";
import { encodeGossip, encodeTagged, TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer } from "../../lib/mesh/peer.ts";
import { linksOf } from "./links.ts";

const [ip = "", password = "", attack = ""] = process.argv.slice(2);
const encryption =
  password === "" ? undefined : { nacl: await loadNacl(), password: new TextEncoder().encode(password) };

/** An admitted connection under a name of its choice. */
class Liar {
  /** Names of the peers that it was told of. */
  closed = false;
  #drained: (() => void) | undefined;

  private constructor(
    readonly socket: Socket,
    readonly name: PeerName,
    readonly framing: Framing,
  ) {
    socket.on("drain", () => this.#drained?.());
    socket.on("close", () => {
      this.closed = true;
      this.#drained?.();
    });
    socket.resume();
  }

  /** Join from an address of this host; else from the one that the kernel chooses. */
  static join(number: number, localAddress?: string): Promise<Liar | undefined> {
    return new Promise((resolve) => {
      const name = nameFromNumber(BigInt(number));
      const features = new Map(
        Object.entries({
          PeerNameFlavour: "mac",
          Name: name,
          NickName: `liar${number}`,
          UID: String(number),
          ConnID: String(number),
          Overlays: "sleeve",
        }),
      );
      const socket = connect({ port: 6783, host: ip, ...(localAddress ? { localAddress } : {}) });
      socket.on("error", () => resolve(undefined));
      socket.on("close", () => resolve(undefined));
      socket.once("connect", () => {
        const handshake = new Handshake({ outbound: true, features, encryption }, (bytes) =>
          socket.write(bytes),
        );
        const data = (bytes: Buffer) => {
          const agreement = handshake.receive(new Uint8Array(bytes));
          if (!agreement) return;
          socket.off("data", data);
          resolve(new Liar(socket, name, agreement.framing));
        };
        socket.on("data", data);
      });
    });
  }

  /** Write bytes; resolves when there is room for more. */
  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      if (this.closed || this.socket.write(bytes)) return void setImmediate(resolve);
      this.#drained = resolve;
    });
  }

  send(message: Uint8Array): Promise<void> {
    return this.write(this.framing.frame(message));
  }

  gossip(channel: string, payload: Uint8Array, kind: "gossip" | "broadcast" = "gossip"): Promise<void> {
    return this.send(encodeGossip({ kind, channel, source: this.name, payload }));
  }

  /** Send a message to the victim alone. */
  unicast(channel: string, payload: Uint8Array): Promise<void> {
    return this.send(
      encodeGossip({ kind: "unicast", channel, source: this.name, destination: VICTIM, payload }),
    );
  }
}

const BASE = 0x020000000000;
/** The name of the peer that is attacked. */
const VICTIM = process.env["VICTIM"] as PeerName;
/** Addresses of this host, for peers that each have their own. */
const ADDRESSES = (process.env["ADDRESSES"] ?? "").split(" ").filter(Boolean);
let version = 10;

/** `count` peers that nobody else has heard of, in a circle, each connected to the liar as well. */
function crowd(liar: Liar, count: number): Peer[] {
  version++;
  const make = (name: PeerName) =>
    new Peer({ name, nickName: "x", uid: 7n, version, shortId: Number(version % 4096), hasShortId: true });
  const all = Array.from({ length: count }, (_, i) => make(nameFromNumber(BigInt(BASE + 1_000_000 + i))));
  const own = make(liar.name);
  const link = (from: Peer, remote: Peer, i: number) =>
    linksOf(from).set(remote.name, {
      remote,
      address: `198.51.100.${i % 250}:${1_000 + i}`,
      outbound: true,
      established: true,
    });
  all.forEach((peer, i) => {
    link(own, peer, i);
    link(peer, own, i);
    for (let far = 1; far < Math.min(60, count); far *= 3) {
      const other = all[(i + far) % count];
      if (other) link(peer, other, i);
    }
  });
  return [own, ...all];
}

/** Names of addresses of others, many of them. */
function names(liar: Liar, from: number, count: number): Uint8Array {
  const entries = Array.from({ length: count }, (_, i) => ({
    hostname: `n${from + i}.weave.local.`,
    origin: liar.name,
    containerId: `c${from + i}`,
    address: 0x0a200001 + i,
    version: 1,
    tombstone: 0,
  }));
  return encodeNames({ timestamp: Math.floor(Date.now() / 1000), entries });
}

/** A ring of 4,096 entries of peers that there are not, with the greatest versions. */
function ring(liar: Liar): Uint8Array {
  const [start, end] = [0x0a200000, 0x0a300000];
  const entries = Array.from({ length: 4_096 }, (_, i) => ({
    token: start + i * 256,
    peer: i % 3 === 0 ? liar.name : nameFromNumber(BigInt(BASE + 5_000_000 + i)),
    version: 2 ** 32 - 2 - (version++ % 1_000),
    free: 256,
  }));
  return encodeState({
    now: BigInt(Math.floor(Date.now() / 1000)),
    nicknames: new Map(),
    consensus: undefined,
    ring: { start, end, peer: liar.name, entries, seeds: [liar.name] },
  });
}

/**
 * A ring of as many entries as there may be, newer than all before: the upper half of the range in pieces of peers that there
 * are not, every other one as a gift to the victim.
 */
function longRing(liar: Liar, gifts: boolean): Uint8Array {
  const [start, end] = [0x0a200000, 0x0a300000];
  version++;
  const size = (end - start) / 2 / MAX_ENTRIES;
  const entries = Array.from({ length: MAX_ENTRIES - 1 }, (_, i) => ({
    token: (start + end) / 2 + i * size,
    peer: gifts && (i + version) % 2 === 0 ? VICTIM : nameFromNumber(BigInt(BASE + i + version * 7)),
    version: 2 ** 31 + version,
    free: size,
  }));
  return encodeState({
    now: BigInt(Math.floor(Date.now() / 1000)),
    nicknames: new Map(),
    consensus: undefined,
    ring: { start, end, peer: liar.name, entries, seeds: [] },
  });
}

/** Send long rings in all ways that there are. */
async function longRings(liar: Liar, gifts: boolean): Promise<void> {
  while (!liar.closed) {
    await liar.gossip(IPAM, longRing(liar, gifts));
    await liar.gossip(IPAM, longRing(liar, gifts), "broadcast");
    await liar.unicast(IPAM, encodeTagged(MESSAGE.ringUpdate, longRing(liar, gifts)));
  }
}

/** Make a message for the first peer that needs it: that takes seconds. */
function once(make: (liar: Liar) => Uint8Array): (liar: Liar) => Uint8Array {
  let made: Uint8Array | undefined;
  return (liar) => {
    made ??= make(liar);
    return made;
  };
}

/** A message of 10 MB that was never sent before, to be relayed. */
function relayed(): Uint8Array {
  const payload = new Uint8Array(10_000_000);
  new DataView(payload.buffer).setBigUint64(0, process.hrtime.bigint());
  return payload;
}

/** Peers at all addresses, each of which sends messages of up to 10 MB; deaf ones read nothing. */
async function wholes(channel: string, payload: (liar: Liar) => Uint8Array, deaf = false): Promise<void> {
  const one = async (address: string, i: number) => {
    const liar = await Liar.join(BASE + 1 + i, address);
    if (deaf) liar?.socket.pause();
    for (let n = 0; liar && !liar.closed; n++)
      await liar.gossip(channel, payload(liar), n % 2 ? "gossip" : "broadcast");
  };
  for (;;) {
    await Promise.all(ADDRESSES.map(one));
    await Bun.sleep(200);
  }
}

const ATTACKS: Readonly<Record<string, (liar: Liar) => Promise<void>>> = {
  /** The smallest messages that there are, at line rate. */
  async heartbeats(liar) {
    const one = liar.framing.frame(encodeTagged(TAG.heartbeat));
    const many = encryption ? undefined : Buffer.concat(Array.from({ length: 10_000 }, () => one));
    while (!liar.closed) {
      if (many) await liar.write(many);
      else for (let i = 0; i < 100; i++) await liar.send(encodeTagged(TAG.heartbeat));
    }
  },
  /** Small broadcasts of channels that there are not, from ever other sources. */
  async units(liar) {
    for (let i = 0; !liar.closed; i++) {
      const source = nameFromNumber(BigInt(BASE + (i % 5_000)));
      await liar.send(
        encodeGossip({ kind: "broadcast", channel: `x${i % 999}`, source, payload: new Uint8Array(8) }),
      );
    }
  },
  /** Large messages of channels that there are not. */
  async relays(liar) {
    for (let i = 0; !liar.closed; i++) {
      const payload = new Uint8Array(1 << 20);
      new DataView(payload.buffer).setUint32(0, i);
      await liar.gossip("x", payload, i % 2 ? "gossip" : "broadcast");
    }
  },
  /** 65,535 peers, again and again with greater versions. */
  async topology(liar) {
    const messages = (count: number) => {
      const all = crowd(liar, count);
      const parts: Uint8Array[] = [];
      for (let at = 0; at < all.length; at += 1_000) parts.push(encodeTopology(all.slice(at, at + 1_000)));
      return parts;
    };
    const prepared = [...messages(65_535), ...Array.from({ length: 8 }, () => messages(4_000)).flat()];
    console.log("prepared");
    for (const message of prepared) await liar.gossip("topology", message, "broadcast");
    // The rest in small pieces, without end.
    while (!liar.closed) await liar.gossip("topology", encodeTopology(crowd(liar, 300)), "broadcast");
  },
  /** A few hundred peers whose versions rise all the time. */
  async churn(liar) {
    while (!liar.closed) await liar.gossip("topology", encodeTopology(crowd(liar, 300)), "broadcast");
  },
  async rings(liar) {
    while (!liar.closed) await liar.gossip(IPAM, ring(liar), version % 2 ? "gossip" : "broadcast");
  },
  longRings: (liar) => longRings(liar, false),
  gifts: (liar) => longRings(liar, true),
  /** Asks for all addresses, over and over. */
  async requests(liar) {
    const message = encodeRangeMessage(MESSAGE.spaceRequest, { start: 0x0a200000, end: 0x0a300000 });
    while (!liar.closed) await liar.unicast(IPAM, message);
  },
  async names(liar) {
    for (let i = 0; !liar.closed; i++) await liar.gossip(DNS, names(liar, i * 1_000, 1_000), "broadcast");
  },
  /** A frame of 10 MB that never ends. */
  async sleeper(liar) {
    const head = new Uint8Array(5_000_000);
    new DataView(head.buffer).setUint32(0, 10_000_000);
    await liar.write(head);
    await new Promise((resolve) => liar.socket.once("close", resolve));
  },
  /** Twelve unfinished messages of 10 MB at a time, each on a connection of its own. */
  async hoarders(liar) {
    const held = new Uint8Array(9_900_000);
    new DataView(held.buffer).setUint32(0, 10_000_000);
    while (!liar.closed) {
      const joined = await Promise.all(Array.from({ length: 12 }, (_, i) => Liar.join(BASE + 1 + i)));
      await Promise.all(joined.map((each) => each?.write(held)));
      await Bun.sleep(1_000);
      for (const each of joined) each?.socket.destroy();
      await Bun.sleep(200);
    }
  },
  wholes: () => wholes("x", relayed),
  deafWholes: () => wholes("x", relayed, true),
  wholeNames: () =>
    wholes(
      DNS,
      once((liar) => names(liar, 0, 100_000)),
    ),
  wholeTopologies: () =>
    wholes(
      "topology",
      once((liar) => encodeTopology(crowd(liar, 30_000))),
    ),
  /** The same sealed message twice. */
  async replay(liar) {
    const bytes = liar.framing.frame(encodeTagged(TAG.heartbeat));
    await liar.write(bytes);
    await liar.write(bytes);
    await new Promise((resolve) => liar.socket.once("close", resolve));
  },
  /** Half a thousand peers at one address. */
  async many() {
    for (let i = 1; i <= 500; i++) {
      await Liar.join(BASE + i);
      await Bun.sleep(30);
    }
    console.log("all joined");
    await new Promise(() => {});
  },
};

const run = ATTACKS[attack];
const liar = run && (await Liar.join(BASE));
if (!run || !liar) {
  console.log("refused");
} else {
  console.log("connected");
  await run(liar);
  console.log("closed");
}
process.exit(0);
