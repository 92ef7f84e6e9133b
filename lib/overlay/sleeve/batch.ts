// Datagrams to send: frames are packed into datagrams in the arena, each sealed in place once it is full, and all are sent
// together. Nothing is allocated per frame or datagram.
import { MAC_LENGTH, type Secretbox } from "../../crypto/secretbox.ts";
import type { Arena } from "../../sys/arena.ts";
import { putVxlanHeader, VXLAN_HEADER } from "../vxlan.ts";
import {
  FRAME_HEADER,
  MAX_DATAGRAM,
  NAME,
  overhead,
  packetOverhead,
  SEQUENCE,
  UDP_OVERHEAD,
} from "./format.ts";
import { type Link, NONCE, type Stream } from "./link.ts";

/** Bytes of the datagrams in a batch: several 64 KiB super-frames, segmented. */
const SPACE = 1 << 20;
/** Datagrams in a batch. */
const MAX_DATAGRAMS = 512;
const DF_BIT = 0x8000_0000;

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
    private readonly secretbox: Secretbox,
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
   * allows (fits).
   */
  frame(stream: Stream, source: number, destination: number, length: number): number {
    const needed = FRAME_HEADER + length;
    if (stream.at >= 0 && stream.end + needed > stream.limit) this.#close(stream);
    if (stream.at < 0) this.#begin(stream, needed);
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
    return packetOverhead(link.params.key !== undefined) + FRAME_HEADER + length <= MAX_DATAGRAM;
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
    const { params, settings } = stream.link;
    const encrypted = params.key !== undefined;
    const head = packetOverhead(encrypted);
    // Fill datagrams up to the MTU; a single frame that is longer gets one of its own, to be fragmented.
    const payload = settings.mtu + overhead(encrypted) - UDP_OVERHEAD;
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
    const { key } = link.params;
    if (key) {
      const { view } = this.arena;
      const high = (Math.floor(stream.sequence / 2 ** 32) | (stream.df ? DF_BIT : 0)) >>> 0;
      const low = stream.sequence >>> 0;
      view.setUint32(at + NAME, high, false);
      view.setUint32(at + NAME + 4, low, false);
      setBigEndian(link.sendNonce, NONCE - SEQUENCE, high, low);
      const sealed = at + NAME + SEQUENCE;
      this.secretbox.seal(sealed, end - sealed - MAC_LENGTH, link.sendNonce, key);
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

/** Write two 32-bit numbers as eight bytes. */
export function setBigEndian(bytes: Uint8Array, at: number, high: number, low: number): void {
  bytes[at] = high >>> 24;
  bytes[at + 1] = high >>> 16;
  bytes[at + 2] = high >>> 8;
  bytes[at + 3] = high;
  bytes[at + 4] = low >>> 24;
  bytes[at + 5] = low >>> 16;
  bytes[at + 6] = low >>> 8;
  bytes[at + 7] = low;
}
