// Segmentation of TCP super-frames, which the kernel leaves to the TAP link (TSO).
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Arena } from "../../sys/arena.ts";
import { complement, fold, sum, swap16 } from "./checksum.ts";
import { IP, pseudoHeaderSum, TCP, TCP_CWR, TCP_FIN, TCP_PSH, tcpPayload } from "./ethernet.ts";

/** Segment one frame at a time: `start`, then `next` and `write` for each segment. */
export class Segmenter {
  /** Bytes of headers in front of each segment's payload. */
  headers = 0;
  #at = 0;
  #size = 0;
  #ipHeader = 0;
  #payload = 0;
  #offset = 0;
  #taken = 0;
  #index = 0;
  #id = 0;
  #sequence = 0;
  #flags = 0;
  /** Sums of the headers, without the fields that vary. */
  #ipSum = 0;
  #tcpSum = 0;
  #pseudoSum = 0;

  constructor(private readonly arena: Arena) {}

  /** Begin with the frame at `at`, `size` bytes of payload per segment. Returns false where it is no TCP frame. */
  start(at: number, length: number, size: number): boolean {
    const { arena } = this;
    this.headers = tcpPayload(arena, at, length);
    if (this.headers === 0 || size === 0) return false;
    const { bytes, view } = arena;
    const ip = at + ETHERNET_HEADER;
    const ipHeader = ((bytes[ip] as number) & 0xf) * 4;
    const tcp = ip + ipHeader;
    this.#at = at;
    this.#size = size;
    this.#ipHeader = ipHeader;
    this.#payload = length - this.headers;
    this.#offset = 0;
    this.#taken = 0;
    this.#index = -1;
    this.#id = view.getUint16(ip + IP.id, false);
    this.#sequence = view.getUint32(tcp + TCP.sequence, false);
    this.#flags = bytes[tcp + TCP.flags] as number;
    const tcpHeader = this.headers - ETHERNET_HEADER - ipHeader;
    // Subtract by adding the complement (RFC 1624).
    const without = (place: number) => 0xffff - view.getUint16(place, true);
    this.#ipSum = fold(
      sum(arena, ip, ipHeader) + without(ip + IP.length) + without(ip + IP.id) + without(ip + IP.checksum),
    );
    this.#pseudoSum = pseudoHeaderSum(arena, ip, 0);
    this.#tcpSum = fold(
      sum(arena, tcp, tcpHeader) +
        this.#pseudoSum +
        without(tcp + TCP.sequence) +
        without(tcp + TCP.sequence + 2) +
        without(tcp + TCP.checksum) +
        (0xffff - swap16(this.#flags)),
    );
    return true;
  }

  /** Return the length of the next segment as a frame; 0 at the end. */
  next(): number {
    this.#offset += this.#taken;
    this.#taken = Math.min(this.#size, this.#payload - this.#offset);
    this.#index++;
    return this.#taken > 0 ? this.headers + this.#taken : 0;
  }

  /** Write that segment; `partial`: with the sum of the pseudo-header in place of its checksum. */
  write(to: number, partial = false): void {
    const { arena, headers } = this;
    const { bytes, view } = arena;
    const from = this.#at + headers + this.#offset;
    const length = this.#taken;
    bytes.copyWithin(to, this.#at, this.#at + headers);
    bytes.copyWithin(to + headers, from, from + length);

    const ip = to + ETHERNET_HEADER;
    const total = headers - ETHERNET_HEADER + length;
    const id = (this.#id + this.#index) & 0xffff;
    view.setUint16(ip + IP.length, total, false);
    view.setUint16(ip + IP.id, id, false);
    view.setUint16(ip + IP.checksum, complement(fold(this.#ipSum + swap16(total) + swap16(id))), true);

    const tcp = ip + this.#ipHeader;
    const sequence = (this.#sequence + this.#offset) >>> 0;
    let flags = this.#flags;
    if (this.#index > 0) flags &= ~TCP_CWR;
    if (this.#offset + length < this.#payload) flags &= ~(TCP_FIN | TCP_PSH);
    view.setUint32(tcp + TCP.sequence, sequence, false);
    bytes[tcp + TCP.flags] = flags;
    if (partial) {
      const pseudo = fold(this.#pseudoSum + swap16(total - this.#ipHeader));
      view.setUint16(tcp + TCP.checksum, pseudo, true);
      return;
    }
    const whole =
      this.#tcpSum +
      swap16(total - this.#ipHeader) +
      swap16(sequence >>> 16) +
      swap16(sequence & 0xffff) +
      swap16(flags) +
      sum(arena, from, length);
    view.setUint16(tcp + TCP.checksum, complement(fold(whole)), true);
  }
}
