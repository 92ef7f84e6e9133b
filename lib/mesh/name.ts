// Peer names: six octets, written like an Ethernet address. As text of fixed length they sort like numbers, which the
// protocol relies on (spanning trees, short id disputes, the seeds of a ring).

import { AddressError } from "../address/ipv4.ts";
import { formatMac, parseMac } from "../address/mac.ts";

declare const brand: unique symbol;

/** A peer's name, "5e:3a:00:00:00:01", lower case. */
export type PeerName = string & { readonly [brand]: "PeerName" };

const NAME_LENGTH = 6;

/** A name that no peer has. */
export const UNKNOWN_PEER = "00:00:00:00:00:00" as PeerName;

/** Text that is no peer name. */
export class PeerNameError extends AddressError {
  override readonly name: string = "PeerNameError";
  constructor(text: string) {
    super(`invalid peer name format: "${text}" (six octets, such as 5e:3a:00:00:00:01)`);
  }
}

/**
 * Parse a peer name. Like the original it accepts one or two digits an octet and one "::" for a run of zero octets ("::1"
 * is 00:00:00:00:00:01). Throws PeerNameError.
 */
export function parsePeerName(text: string): PeerName {
  const halves = text.split("::");
  const octets = (part: string | undefined) => (part ? part.split(":") : []);
  const left = octets(halves[0]);
  const right = octets(halves[1]);
  const missing = NAME_LENGTH - left.length - right.length;
  const shaped = halves.length === 1 ? missing === 0 : halves.length === 2 && missing > 0;
  const all = [...left, ...Array<string>(Math.max(0, missing)).fill("0"), ...right];
  if (!shaped || all.length === 0 || text === "::" || !all.every((octet) => /^[0-9a-f]{1,2}$/i.test(octet))) {
    throw new PeerNameError(text);
  }
  return all.map((octet) => octet.toLowerCase().padStart(2, "0")).join(":") as PeerName;
}

/** Names by their numbers: gossip names the same peers again and again. */
const known = new Map<number, PeerName>();
/** Octets by names. */
const octets = new Map<PeerName, Uint8Array>();
/** More than a network has peers. Who makes names up only makes this slow. */
const MAX_KNOWN = 4_096;

function octetsOf(name: PeerName): Uint8Array {
  let found = octets.get(name);
  if (!found) {
    found = parseMac(name);
    if (octets.size >= MAX_KNOWN) octets.clear();
    octets.set(name, found);
  }
  return found;
}

/** Value of a digit of a name. */
const digit = (code: number) => (code < 58 ? code - 48 : code - 87);

/** Return the name of a number of 48 bits. */
export function nameFromInteger(number: number): PeerName {
  let name = known.get(number);
  if (name === undefined) {
    const octets = new Uint8Array(NAME_LENGTH);
    let rest = number;
    for (let i = NAME_LENGTH - 1; i >= 0; i--) {
      octets[i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    name = formatMac(octets) as PeerName;
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(number, name);
  }
  return name;
}

/** Return the name as a number of 48 bits, first octet highest. */
export function nameToInteger(name: PeerName): number {
  let number = 0;
  for (let i = 0; i < 3 * NAME_LENGTH; i += 3)
    number = number * 256 + digit(name.charCodeAt(i)) * 16 + digit(name.charCodeAt(i + 1));
  return number;
}

/** Return the name as gob carries it. */
export function nameToNumber(name: PeerName): bigint {
  return BigInt(nameToInteger(name));
}

/** Return the name of a number; throws PeerNameError for more than 48 bits. */
export function nameFromNumber(value: bigint): PeerName {
  if (value < 0n || value >= 1n << 48n) throw new PeerNameError(value.toString(16));
  return nameFromInteger(Number(value));
}

/** Return the six octets of a name. */
export function nameToBytes(name: PeerName): Uint8Array {
  return octetsOf(name).slice();
}

/** Return the name of six octets (fewer are the lower ones, as in the original); throws PeerNameError for more. */
export function nameFromBytes(bytes: Uint8Array): PeerName {
  if (bytes.length > NAME_LENGTH) throw new PeerNameError(bytes.toHex());
  let number = 0;
  for (const octet of bytes) number = number * 256 + octet;
  return nameFromInteger(number);
}
