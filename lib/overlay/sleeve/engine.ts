// The sleeve engine: frames from the TAP link go out in datagrams, frames from datagrams go to the TAP link or on to the
// next peer. It forwards by tables of the router, works in one arena, and makes no system calls.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Aegis } from "../../crypto/aegis.ts";
import type { Secretbox } from "../../crypto/secretbox.ts";
import type { Arena } from "../../sys/arena.ts";
import { BROADCAST } from "../peerid.ts";
import type { DatagramBatch, Send } from "./batch.ts";
import { completeChecksum } from "./checksum.ts";
import { COUNTERS, type Counters } from "./counters.ts";
import { completeSegment, isWholeSegment } from "./ethernet.ts";
import { DF_BIT, FRAME_HEADER, NAME, PARTIAL_BIT } from "./format.ts";
import { Frame } from "./frame.ts";
import { GroCoalescer, type WriteFrame } from "./gro.ts";
import type { Link, SpecialFrame } from "./link.ts";
import { MacLearning } from "./maclearning.ts";
import { FRAGMENTATION_NEEDED_MAX, writeFragmentationNeeded } from "./packets.ts";
import { type ForwardingTables, NONE, nameAt, nameNumber, Routes } from "./routes.ts";
import { aegisSealing, type Sealing, secretboxSealing } from "./sealing.ts";
import { Transmitter } from "./transmitter.ts";
import { GSO_NONE, GSO_TCP4, NEEDS_CHECKSUM, VIRTIO, VIRTIO_HEADER } from "./virtio.ts";

/** Length of the tag in front of each frame from the kernel: numbers of source and destination, u16 each, host order. */
export const TAG_LENGTH = 4;

/** The engine's effects outside the arena. */
export interface EngineIo {
  readonly send: Send;
  readonly write: WriteFrame;
  /** Milliseconds; only differences count. */
  now(): number;
  /** The MAC address at `at` in the arena is at this peer. */
  learn(at: number, peer: number): void;
  /** A special frame has come by the link. */
  special(link: Link, frame: SpecialFrame): void;
}

export class Engine {
  /** Datagrams to be sent together. */
  readonly batch: DatagramBatch;
  readonly #routes: Routes;
  readonly #transmitter: Transmitter;
  readonly #coalescer: GroCoalescer;
  readonly #macs: MacLearning;
  readonly #links: (Link | undefined)[] = [];
  /** Sleeve links by the name of the peer, as a number. */
  readonly #byName = new Map<number, Link>();
  /** Our own name: its place in the arena, and as a number. */
  readonly #ownName: number;
  readonly #self: number;
  readonly #scratch: number;
  readonly #frame = new Frame();
  // Cache: the next datagram mostly is of the same peer.
  #lastName = NONE;
  #lastLink: Link | undefined;
  /** The frames of the datagram in hand are segments without checksums. */
  #partial = false;

  constructor(
    private readonly arena: Arena,
    private readonly secretbox: Secretbox,
    /** Our name. */
    name: Uint8Array,
    private readonly io: EngineIo,
    private readonly counters: Counters,
    /** Undefined where this host lacks it. */
    private readonly aegis?: Aegis,
  ) {
    this.#routes = new Routes(arena);
    this.#scratch = arena.reserve(FRAGMENTATION_NEEDED_MAX) + 2;
    this.#ownName = arena.reserve(NAME);
    arena.bytes.set(name, this.#ownName);
    this.#self = nameNumber(name);
    this.#transmitter = new Transmitter(arena, this.#routes, counters, this.#ownName, io);
    this.batch = this.#transmitter.batch;
    this.#coalescer = new GroCoalescer(arena, io.write);
    this.#macs = new MacLearning(arena, (at, peer) => io.learn(at, peer));
  }

  /** Replace the tables. */
  configure(tables: ForwardingTables): void {
    this.#routes.configure(tables);
    for (const [name, link] of this.#byName) {
      const id = this.#routes.idOf(name);
      if (id !== NONE) link.peer = id;
    }
    // The router may have removed the addresses of peers that are gone or renumbered from the kernel's map.
    this.#macs.clear();
  }

  /** Add a link, replacing the one with its number. Throws where this host lacks its cipher. */
  add(link: Link): void {
    this.remove(link.params.index);
    link.sealing = this.#sealing(link);
    this.#links[link.params.index] = link;
    // It may be of another connection of that peer.
    this.#forgetLast();
    if (link.params.kind === "sleeve") this.#byName.set(nameNumber(link.params.name), link);
  }

  remove(index: number): void {
    const link = this.#links[index];
    if (!link) return;
    this.batch.flush();
    this.#links[index] = undefined;
    this.#forgetLast();
    if (link.params.kind !== "sleeve") return;
    const name = nameNumber(link.params.name);
    if (this.#byName.get(name) !== link) return;
    this.#byName.delete(name);
    // Both ends may connect at once; of the two connections the newer may be the one that ends.
    const other = this.#links.find(
      (left) => left?.params.kind === "sleeve" && nameNumber(left.params.name) === name,
    );
    if (other) this.#byName.set(name, other);
  }

  #forgetLast(): void {
    this.#lastName = NONE;
    this.#lastLink = undefined;
  }

  link(index: number): Link | undefined {
    return this.#links[index];
  }

  /** Take a frame from the kernel: virtio header, tag, frame; `length` in bytes of all. */
  captured(at: number, length: number): void {
    const { view, bytes } = this.arena;
    const tag = at + VIRTIO_HEADER;
    const size = length - VIRTIO_HEADER - TAG_LENGTH;
    const source = view.getUint16(tag, true);
    const destination = view.getUint16(tag + 2, true);
    if (size < ETHERNET_HEADER || !this.#routes.isKnown(source)) return this.#drop(COUNTERS.unroutable);
    let segmentSize = 0;
    if (bytes[at + VIRTIO.gsoType] !== GSO_NONE) {
      if (bytes[at + VIRTIO.gsoType] !== GSO_TCP4) return this.#drop(COUNTERS.malformed);
      segmentSize = view.getUint16(at + VIRTIO.gsoSize, true);
    } else if ((bytes[at + VIRTIO.flags] as number) & NEEDS_CHECKSUM) {
      // Both count from the tag on.
      const start = view.getUint16(at + VIRTIO.checksumStart, true);
      const offset = view.getUint16(at + VIRTIO.checksumOffset, true);
      if (start + offset + 2 > size + TAG_LENGTH) return this.#drop(COUNTERS.malformed);
      completeChecksum(this.arena, tag + start, size + TAG_LENGTH - start, tag + start + offset);
    }
    this.counters.add(COUNTERS.captured, 1);
    const frame = this.#frame.set(source, destination, tag + TAG_LENGTH, size, segmentSize);
    if (destination === BROADCAST) this.#broadcast(frame);
    else this.#relay(frame);
  }

  /** Take a datagram from the network; `length` in bytes, sender's address and port as numbers. */
  received(at: number, length: number, address: number, port: number): void {
    if (length < NAME) return this.#drop(COUNTERS.malformed);
    const name = nameAt(this.arena, at);
    let link = this.#lastLink;
    if (name !== this.#lastName || !link) {
      link = this.#byName.get(name);
      if (!link) return this.#drop(COUNTERS.foreign);
      this.#lastName = name;
      this.#lastLink = link;
    }
    const { sealing } = link;
    this.#partial = false;
    const frames = sealing ? this.#open(link, sealing, at, length) : at + NAME;
    if (frames === NONE) return;
    this.counters.noteHeard(link.params.index, this.io.now());
    this.counters.add(COUNTERS.received, 1);
    this.#unpack(link, frames, at + length, address, port);
  }

  /**
   * Send a special frame to the router at the other end of a link: `size` zeros, or with `uid` a heartbeat. With `probe`
   * ignore the path MTU that the kernel has cached.
   */
  sendSpecial(link: Link, df: boolean, size: number, uid: bigint | undefined, probe = false): void {
    const { batch } = this;
    if (!batch.fits(link, size) || !link.settings.remote) return;
    const stream = df ? link.df : link.fragmentable;
    // In a datagram of its own: its length is what is tested.
    batch.flush();
    batch.probing = probe;
    const theirName = this.#scratch;
    this.arena.bytes.set(link.params.name, theirName);
    const at = batch.frame(stream, this.#ownName, theirName, size);
    this.arena.bytes.fill(0, at, at + size);
    if (uid !== undefined) this.arena.view.setBigUint64(at + ETHERNET_HEADER, uid, false);
    batch.flush();
    batch.probing = false;
  }

  /** Send a whole frame of ours, with DF, to the peer at the other end of a link. */
  sendFrame(link: Link, frame: Uint8Array): void {
    const { self } = this.#routes;
    if (!link.settings.remote || self === NONE || frame.length < ETHERNET_HEADER) return;
    if (frame.length > link.settings.mtu + ETHERNET_HEADER) return this.#drop(COUNTERS.tooBig);
    const to = this.#transmitter.place(link.df, self, link.peer, frame.length);
    if (to < 0) return;
    this.arena.bytes.set(frame, to);
    this.batch.flush();
  }

  /** Send and write all that is held back. */
  flush(): void {
    this.#coalescer.flush();
    this.batch.flush();
  }

  #sealing({ params, sendNonce, receiveNonce }: Link): Sealing | undefined {
    const { key, cipher, outbound } = params;
    if (!key) return undefined;
    if (cipher !== "aegis-256")
      return secretboxSealing(this.arena, this.secretbox, key, sendNonce, receiveNonce);
    if (!this.aegis) throw new Error("this host cannot seal by AEGIS-256");
    return aegisSealing(this.arena, this.aegis, key, outbound);
  }

  #drop(counter: number): void {
    this.counters.add(counter, 1);
  }

  /** Decrypt a datagram in place. Returns the place of its frames, or NONE where it is dropped. */
  #open(link: Link, sealing: Sealing, at: number, length: number): number {
    const { view } = this.arena;
    if (length < sealing.head) return this.#reject(COUNTERS.malformed);
    if (!sealing.open(at, length)) return this.#reject(COUNTERS.undecryptable);
    const high = view.getUint32(at + NAME, false);
    const low = view.getUint32(at + NAME + 4, false);
    const bits = sealing.partial ? DF_BIT | PARTIAL_BIT : DF_BIT;
    const sequence = (high & ~bits) * 2 ** 32 + low;
    const window = high & DF_BIT ? link.receivedDf : link.received;
    this.#partial = sealing.partial && (high & PARTIAL_BIT) !== 0;
    const fresh = sequence < Number.MAX_SAFE_INTEGER && window.accept(sequence);
    return fresh ? at + sealing.head : this.#reject(COUNTERS.replayed);
  }

  #reject(counter: number): number {
    this.#drop(counter);
    return NONE;
  }

  #unpack(link: Link, from: number, end: number, address: number, port: number): void {
    const { view } = this.arena;
    let at = from;
    while (end - at >= FRAME_HEADER) {
      const length = view.getUint16(at + 2 * NAME, false);
      const frame = at + FRAME_HEADER;
      if (frame + length > end) return this.#drop(COUNTERS.malformed);
      if (length < ETHERNET_HEADER) this.#drop(COUNTERS.malformed);
      else if (!this.#isSpecial(frame)) this.#forward(link, at, length);
      // The name at the head of the datagram is that of the link's peer.
      else if (nameAt(this.arena, at) === this.#lastName && nameAt(this.arena, at + NAME) === this.#self)
        this.io.special(link, { ...this.#readSpecial(frame, length), from: { address, port } });
      at = frame + length;
    }
    if (at < end) this.#drop(COUNTERS.malformed);
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

  #readSpecial(at: number, length: number): Omit<SpecialFrame, "from"> {
    const body = at + ETHERNET_HEADER;
    const uid = length >= ETHERNET_HEADER + 8 ? this.arena.view.getBigUint64(body, false) : 0n;
    const zeros = this.arena.bytes.subarray(body, at + length).every((byte) => byte === 0);
    return { length, uid, zeros };
  }

  /** Forward a frame of pods, whose header is at `header`, to the kernel or to the next peer. */
  #forward(link: Link, header: number, length: number): void {
    const { arena } = this;
    this.counters.countReceived(link.params.index, length);
    const { self } = this.#routes;
    const source = this.#routes.idOfSource(nameAt(arena, header));
    const destinationName = nameAt(arena, header + NAME);
    const destination = destinationName === this.#self ? self : this.#routes.idOf(destinationName);
    if (source === NONE || destination === NONE || source === self) return this.#drop(COUNTERS.unroutable);
    const at = header + FRAME_HEADER;
    if (this.#partial && !isWholeSegment(arena, at, length)) return this.#drop(COUNTERS.malformed);
    if (destination !== self) {
      if (this.#partial) completeSegment(arena, at, length);
      return this.#relay(this.#frame.set(source, destination, at, length), link);
    }
    if (this.#failsReversePathCheck(link, source, at)) return this.#drop(COUNTERS.astray);
    this.#macs.note(at + 6, source, this.io.now());
    this.#coalescer.deliver(at, length, this.#partial);
  }

  /**
   * Return true for a multicast frame from another neighbour than the parent in the source's broadcast tree: while peers do
   * not agree on the trees, such frames would loop and multiply.
   */
  #failsReversePathCheck(link: Link, source: number, at: number): boolean {
    if (source === link.peer || !((this.arena.bytes[at] as number) & 1)) return false;
    const origin = this.#routes.origin(source);
    return origin !== undefined && origin !== link.peer;
  }

  #broadcast(frame: Frame): void {
    frame.broadcast = true;
    for (const index of this.#routes.broadcast(frame.source) ?? []) {
      const link = this.#links[index];
      if (!link) continue;
      frame.destination = link.peer;
      this.#transmitter.send(link, frame);
    }
  }

  /** Send a frame towards its destination; never back to the neighbour that it came from, which would do the same. */
  #relay(frame: Frame, from?: Link): void {
    const link = this.#links[this.#routes.next(frame.source, frame.destination)];
    if (!link) return this.#drop(COUNTERS.unroutable);
    if (link.peer === from?.peer) return this.#drop(COUNTERS.astray);
    if (!this.#transmitter.send(link, frame)) this.#refuse(frame, link.settings.mtu);
  }

  /** Answer a frame that is too big by 'fragmentation needed'. */
  #refuse(frame: Frame, mtu: number): void {
    this.counters.add(COUNTERS.refused, 1);
    const { source, destination } = frame;
    const length = writeFragmentationNeeded(this.arena, frame.at, mtu, this.#scratch);
    if (source !== this.#routes.self)
      return this.#relay(frame.set(destination, source, this.#scratch, length));
    this.#coalescer.deliver(this.#scratch, length);
    // The scratch space is reused.
    this.#coalescer.flush();
  }
}
