// Generic receive offload for frames to the TAP link: consecutive segments of a TCP flow become one super-frame, as the
// kernel does for frames from a wire, which spares the host most of its work per frame.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Arena } from "../../sys/arena.ts";
import { complement, fold, sum } from "./checksum.ts";
import { IP, IP_DF, IP_HEADER, pseudoHeaderSum, TCP, TCP_ACK, TCP_PSH, tcpPayload } from "./ethernet.ts";
import { GSO_NONE, GSO_TCP4, NEEDS_CHECKSUM, VIRTIO, VIRTIO_HEADER } from "./virtio.ts";

export const IOVEC = 16;
const MAX_PIECES = 256;
/** The longest IPv4 packet. */
const MAX_PACKET = 65_535;

/** Write a frame of `pieces` parts, described by a table of struct iovec at `iovecs`. */
export type WriteFrame = (iovecs: number, pieces: number) => void;

export class GroCoalescer {
  readonly #iovecs: number;
  readonly #header: number;
  // The frame that can still grow: place of the first part (-1 for none), bytes of headers and of payload, parts.
  #at = -1;
  #headers = 0;
  #payload = 0;
  #pieces = 0;
  /** Bytes of payload of each segment. */
  #size = 0;
  #nextSequence = 0;
  #nextId = 0;
  /** Its first segment came without checksum. */
  #partial = false;

  constructor(
    private readonly arena: Arena,
    private readonly write: WriteFrame,
  ) {
    this.#iovecs = arena.reserve((MAX_PIECES + 1) * IOVEC);
    this.#header = arena.reserve(VIRTIO_HEADER);
    this.#setPiece(0, this.#header, VIRTIO_HEADER);
  }

  /**
   * Take a frame, which has to stay in its place until `flush`; `partial`: a TCP segment that has the sum of the
   * pseudo-header in place of its checksum.
   */
  deliver(at: number, length: number, partial = false): void {
    const headers = tcpPayload(this.arena, at, length);
    const payload = length - headers;
    if (headers === 0 || payload === 0 || !this.#mergeable(at, length, partial)) {
      this.flush();
      this.#setPlainHeader(at, partial);
      this.#setPiece(1, at, length);
      this.write(this.#iovecs, 2);
      return;
    }
    if (!this.#append(at, headers, payload)) {
      this.flush();
      this.#begin(at, headers, payload);
      this.#partial = partial;
    }
    // A short segment, or one with PSH, is the last of its burst.
    const flags = this.arena.bytes[at + this.#tcp(at) + TCP.flags] as number;
    if (payload < this.#size || flags & TCP_PSH) this.flush();
  }

  /** Write the frame that is held back. */
  flush(): void {
    if (this.#at < 0) return;
    const at = this.#at;
    this.#at = -1;
    if (this.#pieces === 1) this.#setPlainHeader(at, this.#partial);
    else this.#finish(at);
    this.write(this.#iovecs, this.#pieces + 1);
  }

  /** Offset of the TCP header in a frame. */
  #tcp(at: number): number {
    return ETHERNET_HEADER + ((this.arena.bytes[at + ETHERNET_HEADER] as number) & 0xf) * 4;
  }

  /** Return true for a plain data segment: right checksums, no padding, no flags but ACK and PSH. */
  #mergeable(at: number, length: number, partial: boolean): boolean {
    const { arena } = this;
    const { bytes, view } = arena;
    const ip = at + ETHERNET_HEADER;
    const ipHeader = ((bytes[ip] as number) & 0xf) * 4;
    if (ipHeader !== IP_HEADER || view.getUint16(ip + IP.length, false) !== length - ETHERNET_HEADER)
      return false;
    const tcp = ip + ipHeader;
    if (((bytes[tcp + TCP.flags] as number) & ~TCP_PSH) !== TCP_ACK) return false;
    const segment = length - ETHERNET_HEADER - ipHeader;
    if (sum(arena, ip, ipHeader) !== 0xffff) return false;
    return partial || fold(pseudoHeaderSum(arena, ip, segment) + sum(arena, tcp, segment)) === 0xffff;
  }

  #begin(at: number, headers: number, payload: number): void {
    const { view } = this.arena;
    this.#at = at;
    this.#headers = headers;
    this.#payload = payload;
    this.#size = payload;
    this.#setPiece(1, at, headers + payload);
    this.#pieces = 1;
    this.#nextSequence = (view.getUint32(at + this.#tcp(at) + TCP.sequence, false) + payload) >>> 0;
    this.#nextId = (view.getUint16(at + ETHERNET_HEADER + IP.id, false) + 1) & 0xffff;
  }

  /** Add a segment to the frame that is held back. Returns false where it does not continue it. */
  #append(at: number, headers: number, payload: number): boolean {
    if (this.#at < 0 || headers !== this.#headers || payload > this.#size || this.#pieces >= MAX_PIECES)
      return false;
    if (headers - ETHERNET_HEADER + this.#payload + payload > MAX_PACKET) return false;
    const { view, bytes } = this.arena;
    const tcp = at + this.#tcp(at);
    if (view.getUint32(tcp + TCP.sequence, false) !== this.#nextSequence) return false;
    const ip = at + ETHERNET_HEADER;
    const fragment = view.getUint16(ip + IP.fragment, false);
    const id = view.getUint16(ip + IP.id, false);
    // With DF, ids mean nothing (RFC 6864).
    if (!(fragment & IP_DF) && id !== this.#nextId) return false;
    if (!this.#sameFlow(at, headers)) return false;
    if ((bytes[tcp + TCP.flags] as number) & TCP_PSH) {
      const first = this.#at + this.#tcp(this.#at) + TCP.flags;
      bytes[first] = (bytes[first] as number) | TCP_PSH;
    }
    this.#pieces++;
    this.#setPiece(this.#pieces, at + headers, payload);
    this.#payload += payload;
    this.#nextSequence = (this.#nextSequence + payload) >>> 0;
    this.#nextId = (id + 1) & 0xffff;
    return true;
  }

  /** Return true where the headers differ only in what varies from segment to segment. */
  #sameFlow(at: number, headers: number): boolean {
    const { view } = this.arena;
    const ours = this.#at;
    // Ethernet addresses and type; version, header length and type of service.
    for (let i = 0; i < ETHERNET_HEADER + IP.length; i += 2) {
      if (view.getUint16(at + i) !== view.getUint16(ours + i)) return false;
    }
    // Flags and offset, time to live and protocol; addresses.
    const ip = ETHERNET_HEADER;
    if (view.getUint32(at + ip + IP.fragment) !== view.getUint32(ours + ip + IP.fragment)) return false;
    if (view.getUint32(at + ip + IP.source) !== view.getUint32(ours + ip + IP.source)) return false;
    if (view.getUint32(at + ip + IP.destination) !== view.getUint32(ours + ip + IP.destination)) return false;
    // Ports; acknowledgement, header length, window; options.
    const tcp = ip + IP_HEADER;
    if (view.getUint32(at + tcp) !== view.getUint32(ours + tcp)) return false;
    if (view.getUint32(at + tcp + TCP.acknowledgement) !== view.getUint32(ours + tcp + TCP.acknowledgement))
      return false;
    if (view.getUint8(at + tcp + TCP.offset) !== view.getUint8(ours + tcp + TCP.offset)) return false;
    if (view.getUint16(at + tcp + TCP.window) !== view.getUint16(ours + tcp + TCP.window)) return false;
    for (let i = tcp + 20; i < headers; i += 4) {
      if (view.getUint32(at + i) !== view.getUint32(ours + i)) return false;
    }
    return true;
  }

  /** Write the headers of the super-frame; the kernel completes the TCP checksum where it is needed. */
  #finish(at: number): void {
    const { arena } = this;
    const { view } = arena;
    const ip = at + ETHERNET_HEADER;
    const tcp = ip + IP_HEADER;
    const total = this.#headers - ETHERNET_HEADER + this.#payload;
    view.setUint16(ip + IP.length, total, false);
    view.setUint16(ip + IP.checksum, 0);
    view.setUint16(ip + IP.checksum, complement(sum(arena, ip, IP_HEADER)), true);
    view.setUint16(tcp + TCP.checksum, pseudoHeaderSum(arena, ip, total - IP_HEADER), true);
    this.#setHeader(
      NEEDS_CHECKSUM,
      GSO_TCP4,
      this.#headers,
      this.#size,
      ETHERNET_HEADER + IP_HEADER,
      TCP.checksum,
    );
  }

  /** Write the header of a frame that is no super-frame; where it came without checksum the kernel completes it. */
  #setPlainHeader(at: number, partial: boolean): void {
    if (partial) this.#setHeader(NEEDS_CHECKSUM, GSO_NONE, 0, 0, this.#tcp(at), TCP.checksum);
    else this.#setHeader(0, GSO_NONE, 0, 0, 0, 0);
  }

  #setHeader(
    flags: number,
    type: number,
    headers: number,
    size: number,
    start: number,
    offset: number,
  ): void {
    const { view, bytes } = this.arena;
    const at = this.#header;
    bytes[at + VIRTIO.flags] = flags;
    bytes[at + VIRTIO.gsoType] = type;
    view.setUint16(at + VIRTIO.headerLength, headers, true);
    view.setUint16(at + VIRTIO.gsoSize, size, true);
    view.setUint16(at + VIRTIO.checksumStart, start, true);
    view.setUint16(at + VIRTIO.checksumOffset, offset, true);
  }

  #setPiece(index: number, at: number, length: number): void {
    const entry = this.#iovecs + index * IOVEC;
    this.arena.setPointer(entry, at);
    this.arena.view.setUint32(entry + 8, length, true);
    this.arena.view.setUint32(entry + 12, 0, true);
  }
}
