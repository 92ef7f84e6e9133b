// The sleeve engine: frames from the TAP link go out in datagrams, frames from datagrams go to the TAP link or on to the
// next peer. It decides by tables that the router keeps up to date, works in one arena, and touches no kernel itself.
import { MAC_LENGTH, type Secretbox } from "../../crypto/secretbox.ts";
import type { Arena } from "../../sys/arena.ts";
import { BROADCAST, isShortId, PEER_IDS } from "../peerid.ts";
import { ETHERTYPE_PROBE } from "../probe/frame.ts";
import { networkIdentifier } from "../vxlan.ts";
import { complement, sum } from "./checksum.ts";
import { COUNTERS, type Counters } from "./counters.ts";
import { ETHERTYPE, IP, IP_DF, ipv4HeaderLength } from "./ethernet.ts";
import { ETHERNET_HEADER, FRAME_HEADER, NAME, SEQUENCE } from "./format.ts";
import { Inbox, type WriteFrame } from "./inbox.ts";
import { type Link, NONCE, type Stream } from "./link.ts";
import { Outbox, type Send, setBigEndian } from "./outbox.ts";
import { FRAGMENTATION_NEEDED_MAX, Fragmenter, writeFragmentationNeeded } from "./packets.ts";
import { Segmenter } from "./segments.ts";
import { GSO_NONE, GSO_TCP4, NEEDS_CHECKSUM, VIRTIO, VIRTIO_HEADER } from "./virtio.ts";

/** In front of each frame from the kernel: numbers of its source and its destination, two bytes each, host order. */
export const TAG_LENGTH = 4;
/** A MAC address is told of again after this long, so that the kernel does not forget it while it is in use. */
const LEARN_AGAIN_MS = 60_000;
const MAX_MACS = 16_384;

/** What the engine does to the world outside the arena. */
export interface EngineIo {
  readonly send: Send;
  readonly write: WriteFrame;
  /** Milliseconds; only differences count. */
  now(): number;
  /** The MAC address at `at` in the arena is at this peer. */
  learn(at: number, peer: number): void;
  /**
   * A frame of the router at the other end for ours: its length, where it came from, the number that it begins with
   * (behind the header), and whether it is all zeros.
   */
  special(link: Link, length: number, address: number, port: number, uid: bigint, zeros: boolean): void;
}

/** How frames find their way: by numbers of peers and links. */
export interface ForwardingTables {
  /** Our own number. */
  readonly self: number;
  /** Names of peers, six bytes each, by their numbers. */
  readonly names: ReadonlyMap<number, Uint8Array>;
  /** The link that frames for a peer leave by. */
  readonly next: ReadonlyMap<number, number>;
  /** The sleeve link that they leave by where their source has no short id. */
  readonly nextBySleeve: ReadonlyMap<number, number>;
  /** The sleeve links that broadcasts of a peer leave by. */
  readonly broadcast: ReadonlyMap<number, readonly number[]>;
  /** The neighbour that broadcasts of a peer are to come from, by numbers. */
  readonly origins: ReadonlyMap<number, number>;
}

const NONE = -1;

export class Engine {
  readonly outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #segmenter: Segmenter;
  readonly #fragmenter: Fragmenter;
  readonly #links: (Link | undefined)[] = [];
  /** Sleeve links by the name of the peer, as a number. */
  readonly #byName = new Map<number, Link>();
  /** Numbers of peers by name. */
  readonly #ids = new Map<number, number>();
  /** Place of each peer's name in the arena, and of our own. */
  readonly #names: number;
  readonly #ownName: number;
  readonly #ourselves: number;
  readonly #known = new Uint8Array(PEER_IDS);
  readonly #next = new Int16Array(PEER_IDS).fill(NONE);
  readonly #nextBySleeve = new Int16Array(PEER_IDS).fill(NONE);
  #broadcast: ReadonlyMap<number, readonly number[]> = new Map();
  #origins: ReadonlyMap<number, number> = new Map();
  readonly #macs = new Map<number, { peer: number; at: number }>();
  readonly #scratch: number;
  #self = NONE;
  // The peer and the pair of peers that the last datagram and the last frame were of: mostly those of the next, too.
  #lastName = -1;
  #lastLink: Link | undefined;
  #lastSource = -1;
  #lastSourceId = NONE;
  #lastMac = -1;
  #lastMacPeer = NONE;
  #lastMacAt = 0;

  constructor(
    private readonly arena: Arena,
    private readonly secretbox: Secretbox,
    /** Our name. */
    name: Uint8Array,
    private readonly io: EngineIo,
    private readonly counters: Counters,
  ) {
    this.#names = arena.reserve(PEER_IDS * NAME);
    this.#scratch = arena.reserve(FRAGMENTATION_NEEDED_MAX) + 2;
    this.#ownName = arena.reserve(NAME);
    arena.bytes.set(name, this.#ownName);
    this.#ourselves = this.#name(this.#ownName);
    this.outbox = new Outbox(arena, secretbox, this.#ownName, io.send);
    this.#inbox = new Inbox(arena, io.write);
    this.#segmenter = new Segmenter(arena);
    this.#fragmenter = new Fragmenter(arena);
  }

  /** Puts new tables in place. */
  configure({ self, names, next, nextBySleeve, broadcast, origins }: ForwardingTables): void {
    const { bytes } = this.arena;
    this.#self = self;
    this.#ids.clear();
    this.#known.fill(0);
    this.#next.fill(NONE);
    for (const [id, name] of names) {
      bytes.set(name, this.#names + id * NAME);
      this.#known[id] = 1;
      this.#ids.set(this.#name(this.#names + id * NAME), id);
    }
    this.#nextBySleeve.fill(NONE);
    for (const [id, link] of next) this.#next[id] = link;
    for (const [id, link] of nextBySleeve) this.#nextBySleeve[id] = link;
    this.#broadcast = broadcast;
    this.#origins = origins;
    for (const [name, link] of this.#byName) link.peer = this.#ids.get(name) ?? link.peer;
    // The router may have made the kernel forget what was learned of peers that went or were renumbered.
    this.#macs.clear();
    this.#forget();
  }

  /** Adds a link, in place of the one that had its number. */
  add(link: Link): void {
    this.remove(link.params.index);
    this.#links[link.params.index] = link;
    if (link.params.kind === "sleeve") this.#byName.set(nameNumber(link.params.name), link);
  }

  remove(index: number): void {
    const link = this.#links[index];
    if (!link) return;
    this.outbox.flush();
    this.#links[index] = undefined;
    this.#forget();
    if (link.params.kind !== "sleeve") return;
    const name = nameNumber(link.params.name);
    if (this.#byName.get(name) !== link) return;
    this.#byName.delete(name);
    // Of two connections to one peer, which both ends may make at once, the newer may be the one that goes.
    const other = this.#links.find(
      (left) => left?.params.kind === "sleeve" && nameNumber(left.params.name) === name,
    );
    if (other) this.#byName.set(name, other);
  }

  link(index: number): Link | undefined {
    return this.#links[index];
  }

  /** A frame from the kernel: the virtio header, the tag, then the frame. `length` counts all of it. */
  captured(at: number, length: number): void {
    const { view, bytes } = this.arena;
    const tag = at + VIRTIO_HEADER;
    const frame = tag + TAG_LENGTH;
    const size = length - VIRTIO_HEADER - TAG_LENGTH;
    const source = view.getUint16(tag, true);
    const destination = view.getUint16(tag + 2, true);
    if (size < ETHERNET_HEADER || source >= PEER_IDS || !this.#known[source])
      return this.#drop(COUNTERS.unroutable);
    let segment = 0;
    if (bytes[at + VIRTIO.gsoType] !== GSO_NONE) {
      if (bytes[at + VIRTIO.gsoType] !== GSO_TCP4) return this.#drop(COUNTERS.malformed);
      segment = view.getUint16(at + VIRTIO.gsoSize, true);
    } else if ((bytes[at + VIRTIO.flags] as number) & NEEDS_CHECKSUM) {
      // Both count from the tag on.
      const start = view.getUint16(at + VIRTIO.checksumStart, true);
      const offset = view.getUint16(at + VIRTIO.checksumOffset, true);
      if (start + offset + 2 > size + TAG_LENGTH) return this.#drop(COUNTERS.malformed);
      this.#checksum(tag + start, size + TAG_LENGTH - start, tag + start + offset);
    }
    this.counters.add(COUNTERS.captured, 1);
    if (destination === BROADCAST) {
      for (const index of this.#broadcast.get(source) ?? []) {
        const link = this.#links[index];
        if (link) this.#forward(link, source, link.peer, frame, size, segment, true);
      }
      return;
    }
    this.#relay(source, destination, frame, size, segment);
  }

  /** A datagram that a peer has sent. `length` in bytes; where it came from as a number and a port. */
  received(at: number, length: number, address: number, port: number): void {
    if (length < NAME) return this.#drop(COUNTERS.malformed);
    const name = this.#name(at);
    let link = this.#lastLink;
    if (name !== this.#lastName || !link) {
      link = this.#byName.get(name);
      if (!link) return this.#drop(COUNTERS.foreign);
      this.#lastName = name;
      this.#lastLink = link;
    }
    let frames = at + NAME;
    if (link.params.key) {
      if (length < NAME + SEQUENCE + MAC_LENGTH) return this.#drop(COUNTERS.malformed);
      const { view } = this.arena;
      const high = view.getUint32(frames, false);
      const low = view.getUint32(frames + 4, false);
      const sealed = frames + SEQUENCE;
      setBigEndian(link.receiveNonce, NONCE - SEQUENCE, high, low);
      const size = at + length - sealed - MAC_LENGTH;
      if (!this.secretbox.open(sealed, size, link.receiveNonce, link.params.key))
        return this.#drop(COUNTERS.undecryptable);
      const sequence = (high & 0x7fff_ffff) * 2 ** 32 + low;
      const window = high >>> 31 ? link.receivedDf : link.received;
      if (sequence >= Number.MAX_SAFE_INTEGER || !window.accept(sequence))
        return this.#drop(COUNTERS.replayed);
      frames = sealed + MAC_LENGTH;
    }
    this.counters.heard(link.params.index, this.io.now());
    this.counters.add(COUNTERS.received, 1);
    this.#unpack(link, frames, at + length, address, port);
  }

  /**
   * Sends a frame of ours to the router at the other end of a link: `size` zeros, or with `uid` a heartbeat. With
   * `probe` also where the kernel remembers that the path takes less.
   */
  sendSpecial(link: Link, df: boolean, size: number, uid: bigint | undefined, probe = false): void {
    if (!this.outbox.fits(link, size) || !link.settings.remote) return;
    const stream = df ? link.df : link.fragmentable;
    // In a datagram of its own: its length is what is tested.
    this.outbox.flush();
    this.outbox.probing = probe;
    const theirName = this.#scratch;
    this.arena.bytes.set(link.params.name, theirName);
    const at = this.outbox.frame(stream, this.#ownName, theirName, size);
    this.arena.bytes.fill(0, at, at + size);
    if (uid !== undefined) this.arena.view.setBigUint64(at + ETHERNET_HEADER, uid, false);
    this.outbox.flush();
    this.outbox.probing = false;
  }

  /** Sends a whole frame of ours to the peer at the other end of a link, as one that must not be fragmented. */
  sendFrame(link: Link, frame: Uint8Array): void {
    if (!link.settings.remote || this.#self === NONE || frame.length < ETHERNET_HEADER) return;
    if (frame.length > link.settings.mtu + ETHERNET_HEADER) return this.#drop(COUNTERS.tooBig);
    const to = this.#place(link.df, this.#self, link.peer, frame.length);
    if (to < 0) return;
    this.arena.bytes.set(frame, to);
    this.outbox.flush();
  }

  /** Lets go of all that was held back to be sent or written together. */
  flush(): void {
    this.#inbox.flush();
    this.outbox.flush();
  }

  #forget(): void {
    this.#lastName = -1;
    this.#lastLink = undefined;
    this.#lastSource = -1;
    this.#lastMac = -1;
  }

  #drop(counter: number): void {
    this.counters.add(counter, 1);
  }

  /** Six bytes as a number. */
  #name(at: number): number {
    const { view } = this.arena;
    return view.getUint16(at, false) * 2 ** 32 + view.getUint32(at + 2, false);
  }

  /** Completes a checksum of which only the pseudo-header's part is there. */
  #checksum(start: number, length: number, at: number): void {
    const value = complement(sum(this.arena, start, length));
    this.arena.view.setUint16(at, value === 0 ? 0xffff : value, true);
  }

  #unpack(link: Link, from: number, end: number, address: number, port: number): void {
    const { view } = this.arena;
    let at = from;
    while (end - at >= FRAME_HEADER) {
      const length = view.getUint16(at + 2 * NAME, false);
      const frame = at + FRAME_HEADER;
      if (frame + length > end) return this.#drop(COUNTERS.malformed);
      this.#frame(link, at, frame, length, address, port);
      at = frame + length;
    }
    if (at < end) this.#drop(COUNTERS.malformed);
  }

  #frame(link: Link, header: number, at: number, length: number, address: number, port: number): void {
    if (length < ETHERNET_HEADER) return this.#drop(COUNTERS.malformed);
    const sourceName = this.#name(header);
    const destinationName = this.#name(header + NAME);
    if (this.#isSpecial(at)) {
      // The name in front of the datagram is that of the link's peer.
      if (sourceName === this.#lastName && destinationName === this.#ourselves) {
        this.#special(link, at, length, address, port);
      }
      return;
    }
    this.counters.brought(link.params.index, length);
    let source = this.#lastSourceId;
    if (sourceName !== this.#lastSource) {
      source = this.#ids.get(sourceName) ?? NONE;
      this.#lastSource = sourceName;
      this.#lastSourceId = source;
    }
    const destination =
      destinationName === this.#ourselves ? this.#self : (this.#ids.get(destinationName) ?? NONE);
    if (source === NONE || destination === NONE || source === this.#self)
      return this.#drop(COUNTERS.unroutable);
    if (destination === this.#self) {
      if (this.#astray(link, source, at)) return this.#drop(COUNTERS.astray);
      this.#learn(at, source);
      this.#inbox.deliver(at, length);
      return;
    }
    this.#relay(source, destination, at, length, 0);
  }

  /**
   * True for a frame to many that was passed on to us by another neighbour than the one that should: while peers do not
   * agree on the trees yet, such frames would go round and round, and multiply.
   */
  #astray(link: Link, source: number, at: number): boolean {
    if (source === link.peer || !((this.arena.bytes[at] as number) & 1)) return false;
    const origin = this.#origins.get(source);
    return origin !== undefined && origin !== link.peer;
  }

  #isSpecial(at: number): boolean {
    const { view } = this.arena;
    return (
      view.getUint32(at) === 0 &&
      view.getUint32(at + 4) === 0 &&
      view.getUint32(at + 8) === 0 &&
      view.getUint16(at + 12) === 0
    );
  }

  #special(link: Link, at: number, length: number, address: number, port: number): void {
    const { bytes, view } = this.arena;
    const uid = length >= ETHERNET_HEADER + 8 ? view.getBigUint64(at + ETHERNET_HEADER, false) : 0n;
    let zeros = true;
    for (let i = at + ETHERNET_HEADER; zeros && i < at + length; i++) zeros = bytes[i] === 0;
    this.io.special(link, length, address, port, uid, zeros);
  }

  /** Remembers where the source of a frame is, and tells the kernel. */
  #learn(at: number, peer: number): void {
    const { view } = this.arena;
    const mac = view.getUint16(at + 6) * 2 ** 32 + view.getUint32(at + 8);
    const now = this.io.now();
    if (mac === this.#lastMac && peer === this.#lastMacPeer && now - this.#lastMacAt < LEARN_AGAIN_MS) return;
    const known = this.#macs.get(mac);
    let since = known?.at ?? now;
    if (!known || known.peer !== peer || now - known.at >= LEARN_AGAIN_MS) {
      if (this.#macs.size >= MAX_MACS) this.#macs.clear();
      this.#macs.set(mac, { peer, at: now });
      since = now;
      this.io.learn(at + 6, peer);
    }
    this.#lastMac = mac;
    this.#lastMacPeer = peer;
    this.#lastMacAt = since;
  }

  /** Sends a frame on towards its destination. */
  #relay(source: number, destination: number, at: number, length: number, segment: number): void {
    const table = isShortId(source) ? this.#next : this.#nextBySleeve;
    const link = destination < PEER_IDS ? this.#links[table[destination] as number] : undefined;
    if (!link) return this.#drop(COUNTERS.unroutable);
    this.#forward(link, source, destination, at, length, segment, false);
  }

  /** `segment`: bytes of payload of each TCP segment that the frame stands for, 0 where it is one already. */
  #forward(
    link: Link,
    source: number,
    destination: number,
    at: number,
    length: number,
    segment: number,
    broadcast: boolean,
  ): void {
    if (!link.settings.remote) return this.#drop(COUNTERS.unroutable);
    const ipHeader = ipv4HeaderLength(this.arena, at, length);
    if (segment > 0) {
      if (!this.#segmenter.start(at, length, segment)) return this.#drop(COUNTERS.malformed);
      const { headers } = this.#segmenter;
      const first = Math.min(segment, length - headers);
      this.#send(link, source, destination, at, headers + first, ipHeader, broadcast, true);
      return;
    }
    this.#send(link, source, destination, at, length, ipHeader, broadcast, false);
  }

  #send(
    link: Link,
    source: number,
    destination: number,
    at: number,
    length: number,
    ipHeader: number,
    broadcast: boolean,
    segmented: boolean,
  ): void {
    const { mtu, fragments } = link.settings;
    const tooBig = length > mtu + ETHERNET_HEADER;
    const fragment = ipHeader > 0 ? this.arena.view.getUint16(at + ETHERNET_HEADER + IP.fragment, false) : 0;
    if (fragment & IP_DF) {
      if (!tooBig) return this.#pack(link.df, source, destination, at, length, segmented);
      // Every frame to an unknown address is broadcast; its sender need not hear of each link that is too small.
      if (broadcast) return this.#drop(COUNTERS.tooBig);
      return this.#refuse(source, destination, at, mtu);
    }
    // They tell how long an unfragmented frame may be.
    if (ipHeader === 0 && this.arena.view.getUint16(at + ETHERTYPE, false) === ETHERTYPE_PROBE) {
      if (tooBig) return this.#drop(COUNTERS.tooBig);
      return this.#pack(link.df, source, destination, at, length, segmented);
    }
    if (fragments || ipHeader === 0)
      return this.#pack(link.fragmentable, source, destination, at, length, segmented);
    // Fragments are lost on the way: nothing must become one.
    if (!tooBig) return this.#pack(link.df, source, destination, at, length, segmented);
    if (segmented) return this.#drop(COUNTERS.tooBig);
    this.#fragmenter.start(at, ipHeader, mtu);
    for (let size = this.#fragmenter.next(); size > 0; size = this.#fragmenter.next()) {
      const to = this.#place(link.df, source, destination, size);
      if (to >= 0) this.#fragmenter.write(to);
    }
  }

  #pack(
    stream: Stream,
    source: number,
    destination: number,
    at: number,
    length: number,
    segmented: boolean,
  ): void {
    if (!segmented) {
      const to = this.#place(stream, source, destination, length);
      if (to >= 0) this.arena.bytes.copyWithin(to, at, at + length);
      return;
    }
    for (let size = this.#segmenter.next(); size > 0; size = this.#segmenter.next()) {
      const to = this.#place(stream, source, destination, size);
      if (to >= 0) this.#segmenter.write(to);
    }
  }

  /** Room for a frame on a link; -1 where it cannot be carried. */
  #place(stream: Stream, source: number, destination: number, length: number): number {
    const { link } = stream;
    this.counters.add(COUNTERS.sent, 1);
    this.counters.carried(link.params.index, this.io.now(), length);
    if (link.params.kind === "vxlan") {
      return this.outbox.vxlan(link.df, networkIdentifier(source, destination), length);
    } else if (this.outbox.fits(link, length)) {
      const names = this.#names;
      return this.outbox.frame(stream, names + source * NAME, names + destination * NAME, length);
    }
    this.#drop(COUNTERS.tooBig);
    return -1;
  }

  /** Tells the sender of a frame what fits. */
  #refuse(source: number, destination: number, at: number, mtu: number): void {
    this.counters.add(COUNTERS.refused, 1);
    const length = writeFragmentationNeeded(this.arena, at, mtu, this.#scratch);
    if (source !== this.#self) return this.#relay(destination, source, this.#scratch, length, 0);
    this.#inbox.deliver(this.#scratch, length);
    // The place is used again.
    this.#inbox.flush();
  }
}

/** Six bytes as a number. */
function nameNumber(name: Uint8Array): number {
  return name.reduce((number, octet) => number * 256 + octet, 0);
}
