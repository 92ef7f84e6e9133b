// What is to be sent: frames are packed into datagrams in the arena, each sealed in place once it is full, and all
// handed to the kernel together. Nothing is allocated for a frame or a datagram.
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

/** Bytes for datagrams until they are sent: 64 KiB super-frames of several connections, cut up. */
const SPACE = 1 << 20;
/** Datagrams until they are sent. */
const MAX_DATAGRAMS = 512;
const DF_BIT = 0x8000_0000;

/** May be fragmented; must not be; must not be, and is tried though the kernel remembers that the path takes less. */
export const MODE = { fragment: 0, df: 1, probe: 2 } as const;

/** Send the datagrams of a batch, which is empty afterwards. */
export type Send = (batch: DatagramBatch) => void;

export class DatagramBatch {
  /** Datagrams to send: their number, and of each its link, its place, its length and how it is sent (MODE). */
  count = 0;
  readonly links: (Link | undefined)[] = new Array(MAX_DATAGRAMS).fill(undefined);
  readonly at = new Int32Array(MAX_DATAGRAMS);
  readonly lengths = new Int32Array(MAX_DATAGRAMS);
  readonly mode = new Uint8Array(MAX_DATAGRAMS);
  /** What is added is to be sent whatever the kernel remembers of the path. */
  probing = false;
  readonly #start: number;
  #cursor: number;
  /** Streams with a datagram that is being filled. */
  readonly #open: Stream[] = [];

  constructor(
    private readonly arena: Arena,
    private readonly secretbox: Secretbox,
    /** Place of our name, which is at the head of every datagram. */
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

  /** Room for a frame in VXLAN, in a datagram of its own; `vni` is the network identifier. Returns where it goes. */
  vxlan(stream: Stream, vni: number, length: number): number {
    const at = this.#place(VXLAN_HEADER + length);
    putVxlanHeader(this.arena.view, at, vni);
    this.#add(stream, at, VXLAN_HEADER + length);
    return at + VXLAN_HEADER;
  }

  /** True when a frame of so many bytes can be carried at all. */
  fits(link: Link, length: number): boolean {
    return packetOverhead(link.params.key !== undefined) + FRAME_HEADER + length <= MAX_DATAGRAM;
  }

  /** Close all datagrams and sends them. */
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
    // Datagrams are filled up to the MTU; only a frame that is longer by itself gets more, and is fragmented.
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

  /** A place for `size` bytes; sends what there is when there is no other. */
  #place(size: number): number {
    // The frame's IP header, 34 or 58 bytes on, lies on a multiple of 4: checksums are faster so.
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
    // Not once it is full: the last frame is still to be written into its place.
    if (this.count === MAX_DATAGRAMS) this.#drain();
    const i = this.count++;
    this.links[i] = stream.link;
    this.at[i] = at;
    this.lengths[i] = length;
    this.mode[i] = stream.df ? (this.probing ? MODE.probe : MODE.df) : MODE.fragment;
  }
}

/** Two 32-bit numbers as eight bytes. */
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
