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
/** Numbers and octets by their names. */
const forms = new Map<PeerName, { readonly number: bigint; readonly octets: Uint8Array }>();
/** More than a network has peers. Who makes names up only makes this slow. */
const MAX_KNOWN = 4_096;

function formsOf(name: PeerName) {
  let found = forms.get(name);
  if (!found) {
    const octets = parseMac(name);
    // 48 bits fit a number, which is faster to parse.
    found = { number: BigInt(Number.parseInt(name.replaceAll(":", ""), 16)), octets };
    if (forms.size >= MAX_KNOWN) forms.clear();
    forms.set(name, found);
  }
  return found;
}

/** Return the name of a number of 48 bits. */
function named(number: number): PeerName {
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

/** Return the name as a number, first octet highest, as gob carries it. */
export function nameToNumber(name: PeerName): bigint {
  return formsOf(name).number;
}

/** Return the name of a number; throws PeerNameError for more than 48 bits. */
export function nameFromNumber(value: bigint): PeerName {
  if (value < 0n || value >= 1n << 48n) throw new PeerNameError(value.toString(16));
  return named(Number(value));
}

/** Return the six octets of a name. */
export function nameToBytes(name: PeerName): Uint8Array {
  return formsOf(name).octets.slice();
}

/** Return the name of six octets (fewer are the lower ones, as in the original); throws PeerNameError for more. */
export function nameFromBytes(bytes: Uint8Array): PeerName {
  if (bytes.length > NAME_LENGTH) throw new PeerNameError(bytes.toHex());
  let number = 0;
  for (const octet of bytes) number = number * 256 + octet;
  return named(number);
}
