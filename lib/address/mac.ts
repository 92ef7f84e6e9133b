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

export function formatMac(octets: Uint8Array): string {
  let text = "";
  for (const octet of octets) text += text === "" ? HEX[octet] : `:${HEX[octet]}`;
  return text;
}

const HEX = Array.from({ length: 256 }, (_, octet) => octet.toString(16).padStart(2, "0"));
