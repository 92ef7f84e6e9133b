// Ethernet addresses: "5e:3a:00:00:00:01" in text, six octets on the wire.
import { AddressError } from "./ipv4.ts";

/** Bytes in front of a frame's payload: destination, source, type (IEEE 802.3). */
export const ETHERNET_HEADER = 14;

/** Parse six colon-separated octets; throws AddressError. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new AddressError(`"${text}" is not an Ethernet address`);
  }
  return Uint8Array.from(text.split(":"), (octet) => Number.parseInt(octet, 16));
}

const DIGITS = new TextEncoder().encode("0123456789abcdef");
const COLON = ":".charCodeAt(0);
const latin1 = new TextDecoder("latin1");

/** Return the text as a flat string: concatenation makes a rope, which is flattened when it is first compared. */
export function formatMac(octets: Uint8Array): string {
  const text = new Uint8Array(Math.max(0, 3 * octets.length - 1)).fill(COLON);
  for (let i = 0; i < octets.length; i++) {
    const octet = octets[i] ?? 0;
    text[3 * i] = DIGITS[octet >> 4] ?? 0;
    text[3 * i + 1] = DIGITS[octet & 15] ?? 0;
  }
  return latin1.decode(text);
}
