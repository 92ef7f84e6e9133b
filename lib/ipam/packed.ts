// Entries of a ring in the state file: 18 bytes each, in base64. Peers can make a ring so long that saving it as JSON would
// block the event loop for 50 to 100 ms.
import { atOnce, type Work } from "../clock/slices.ts";
import { nameFromInteger, nameToInteger } from "../mesh/name.ts";
import { type Entry, STEP } from "./ring/entry.ts";

/** Offsets of the fields of an entry, big-endian, and its length. */
const TOKEN = 0;
const PEER_HIGH = 4;
const PEER_LOW = 6;
const VERSION = 10;
const FREE = 14;
const LENGTH = 18;

export function packEntries(entries: readonly Entry[]): string {
  return atOnce(packInSteps(entries));
}

/** As `packEntries`, in steps. */
export function* packInSteps(entries: readonly Entry[]): Work<string> {
  const bytes = new Uint8Array(entries.length * LENGTH);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { token, peer, version, free } of entries) {
    const name = nameToInteger(peer);
    view.setUint32(at + TOKEN, token);
    view.setUint16(at + PEER_HIGH, name / 2 ** 32);
    view.setUint32(at + PEER_LOW, name % 2 ** 32);
    view.setUint32(at + VERSION, version);
    view.setUint32(at + FREE, free);
    at += LENGTH;
    if (at % (STEP * LENGTH) === 0) yield;
  }
  return bytes.toBase64();
}

/** Throw RangeError or SyntaxError for text that packEntries() does not return. */
export function unpackEntries(text: string): Entry[] {
  const bytes = Uint8Array.fromBase64(text);
  const view = new DataView(bytes.buffer);
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length; at += LENGTH)
    entries.push({
      token: view.getUint32(at + TOKEN),
      peer: nameFromInteger(view.getUint16(at + PEER_HIGH) * 2 ** 32 + view.getUint32(at + PEER_LOW)),
      version: view.getUint32(at + VERSION),
      free: view.getUint32(at + FREE),
    });
  return entries;
}
