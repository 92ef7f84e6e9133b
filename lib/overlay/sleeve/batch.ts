// Datagrams to send: frames are packed into datagrams in the arena, each sealed in place once it is full, and all are sent
// together. Nothing is allocated per frame or datagram.

import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Arena } from "../../sys/arena.ts";
import { putVxlanHeader, VXLAN_HEADER } from "../vxlan.ts";
import { DF_BIT, FRAME_HEADER, MAX_DATAGRAM, NAME, PARTIAL_BIT } from "./format.ts";
import type { Link, Stream } from "./link.ts";

/** Bytes of the datagrams in a batch: several 64 KiB super-frames, segmented. */
const SPACE = 1 << 20;
/** Datagrams in a batch. */
const MAX_DATAGRAMS = 512;

/** How a datagram is sent: fragmented as needed; with DF; with DF, ignoring the path MTU that the kernel has cached. */
export const MODE = { fragment: 0, df: 1, probe: 2 } as const;

/** Send the datagrams of a batch, which is empty afterwards. */
export type Send = (batch: DatagramBatch) => void;

export class DatagramBatch {
  // Datagrams to send: their number; link, place, length and mode (MODE) of each.
  count = 0;
  readonly links: (Link | undefined)[] = new Array(MAX_DATAGRAMS).fill(undefined);
  readonly at = new Int32Array(MAX_DATAGRAMS);
  readonly lengths = new Int32Array(MAX_DATAGRAMS);
  readonly mode = new Uint8Array(MAX_DATAGRAMS);
  /** Send datagrams with DF as MODE.probe. */
  probing = false;
  readonly #start: number;
  #cursor: number;
  /** Streams with an open datagram. */
  readonly #open: Stream[] = [];

  constructor(
    private readonly arena: Arena,
    /** Place of our name, the head of every datagram. */
    private readonly name: number,
    private readonly send: Send,
  ) {
    this.#start = arena.reserve(SPACE);
    this.#cursor = this.#start;
  }

  /**
   * Make room for a frame of `length` bytes and writes the header in front of it; `source` and `destination` are
   * the places of peers' names in the arena. Returns where the frame goes. It must not be longer than MAX_DATAGRAM
   * allows (fits). `partial`: a segment without checksum, where the link's sealing allows it.
   */
  frame(stream: Stream, source: number, destination: number, length: number, partial = false): number {
    const needed = FRAME_HEADER + length;
    if (stream.at >= 0 && (stream.end + needed > stream.limit || stream.partial !== partial))
      this.#close(stream);
    if (stream.at < 0) this.#begin(stream, needed);
    stream.partial = partial;
    const { view } = this.arena;
    const at = stream.end;
    // Quicker than copyWithin, for so few bytes.
    view.setUint32(at, view.getUint32(source));
    view.setUint16(at + 4, view.getUint16(source + 4));
    view.setUint32(at + NAME, view.getUint32(destination));
    view.setUint16(at + NAME + 4, view.getUint16(destination + 4));
    view.setUint16(at + 2 * NAME, length, false);
    stream.end = at + needed;
    return at + FRAME_HEADER;
  }

  /** Make room for a frame in VXLAN, in a datagram of its own, with that network identifier. Returns where it goes. */
  vxlan(stream: Stream, vni: number, length: number): number {
    const at = this.#place(VXLAN_HEADER + length);
    putVxlanHeader(this.arena.view, at, vni);
    this.#add(stream, at, VXLAN_HEADER + length);
    return at + VXLAN_HEADER;
  }

  /** Return true for a frame that fits into a datagram at all. */
  fits(link: Link, length: number): boolean {
    return headOf(link) + FRAME_HEADER + length <= MAX_DATAGRAM;
  }

  /** Close and send all datagrams. */
  flush(): void {
    for (const stream of this.#open) {
      stream.listed = false;
      if (stream.at >= 0) this.#close(stream);
    }
    this.#open.length = 0;
    this.#drain();
    this.#cursor = this.#start;
  }

  #drain(): void {
    if (this.count === 0) return;
    this.send(this);
    this.links.fill(undefined, 0, this.count);
    this.count = 0;
  }

  #begin(stream: Stream, needed: number): void {
    const head = headOf(stream.link);
    // Fill datagrams up to the MTU; a single frame that is longer gets one of its own, to be fragmented.
    const payload = stream.link.settings.mtu + ETHERNET_HEADER + FRAME_HEADER + head;
    const size = Math.max(head + needed, Math.min(payload, MAX_DATAGRAM));
    const at = this.#place(size);
    this.arena.bytes.copyWithin(at, this.name, this.name + NAME);
    stream.at = at;
    stream.end = at + head;
    stream.limit = at + size;
    if (stream.listed) return;
    stream.listed = true;
    this.#open.push(stream);
  }

  /** Reserve `size` bytes; sends the batch where there is no room. */
  #place(size: number): number {
    // Aligns the IP header, 34 or 58 bytes on, to 4 bytes, for quicker checksums.
    const at = ((this.#cursor + 63) & ~63) + 2;
    if (at + size > this.#start + SPACE) {
      this.flush();
      return this.#place(size);
    }
    this.#cursor = at + size;
    return at;
  }

  #close(stream: Stream): void {
    const { at, end, link } = stream;
    stream.at = -1;
    const { sealing } = link;
    if (sealing) {
      const { view } = this.arena;
      const bits = (stream.df ? DF_BIT : 0) | (stream.partial ? PARTIAL_BIT : 0);
      const high = (Math.floor(stream.sequence / 2 ** 32) | bits) >>> 0;
      const low = stream.sequence >>> 0;
      view.setUint32(at + NAME, high, false);
      view.setUint32(at + NAME + 4, low, false);
      sealing.seal(at, end - at);
      stream.sequence++;
    }
    this.#add(stream, at, end - at);
  }

  #add(stream: Stream, at: number, length: number): void {
    // Drain before adding, not when full: the last frame has yet to be written.
    if (this.count === MAX_DATAGRAMS) this.#drain();
    const i = this.count++;
    this.links[i] = stream.link;
    this.at[i] = at;
    this.lengths[i] = length;
    this.mode[i] = stream.df ? (this.probing ? MODE.probe : MODE.df) : MODE.fragment;
  }
}

/** Bytes in front of the frames of a link's datagrams. */
const headOf = ({ sealing }: Link) => sealing?.head ?? NAME;
