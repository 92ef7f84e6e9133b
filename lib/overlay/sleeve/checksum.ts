// The internet checksum (RFC 1071) over an arena, summed in host byte order, as the sum allows.
import type { Arena } from "../../sys/arena.ts";

/** Swap the bytes of a 16-bit number. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

/** Fold a sum to 16 bits. */
export function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/**
 * The sum of the 16-bit numbers in `length` bytes at `at`, folded to 16 bits, host byte order; at most 64 KiB. An odd
 * last byte counts as the first of two.
 */
export function sum(arena: Arena, at: number, length: number): number {
  if (at & 1) return sumOdd(arena, at, length);
  const { halves, words, bytes } = arena;
  let total = 0;
  let p = at;
  const end = at + length;
  if (p & 2 && end - p >= 2) {
    total += halves[p >> 1] as number;
    p += 2;
  }
  const lastWord = (end & ~3) >> 2;
  let w = p >> 2;
  // Two halves of a word in one 32-bit sum: 16384 words of 0xffff twice do not overflow.
  let low = 0;
  let high = 0;
  for (; w + 4 <= lastWord; w += 4) {
    const a = words[w] as number;
    const b = words[w + 1] as number;
    const c = words[w + 2] as number;
    const d = words[w + 3] as number;
    low += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff);
    high += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16);
  }
  for (; w < lastWord; w++) {
    const a = words[w] as number;
    low += a & 0xffff;
    high += a >>> 16;
  }
  if (w << 2 > p) p = w << 2;
  if (end - p >= 2) {
    total += halves[p >> 1] as number;
    p += 2;
  }
  if (p < end) total += bytes[p] as number;
  return fold(fold(low) + fold(high) + fold(total));
}

function sumOdd({ bytes }: Arena, at: number, length: number): number {
  let total = 0;
  let p = at;
  const end = at + length;
  for (; p + 2 <= end; p += 2) total += (bytes[p] as number) | ((bytes[p + 1] as number) << 8);
  if (p < end) total += bytes[p] as number;
  return fold(total);
}

/** Return the checksum of bytes with this sum, host byte order. */
export function complement(total: number): number {
  return ~total & 0xffff;
}

/** Complete the checksum at `at`, which holds only the sum of the pseudo-header, of `length` bytes from `start` on. */
export function completeChecksum(arena: Arena, start: number, length: number, at: number): void {
  const value = complement(sum(arena, start, length));
  arena.view.setUint16(at, value === 0 ? 0xffff : value, true);
}
