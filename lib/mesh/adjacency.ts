// The neighbours that peers announce, by numbers.
import { numberEra, numberOf } from "./numbers.ts";
import { type Announced, announcedBy, type Peer } from "./peer.ts";

const known = new WeakMap<Announced, { readonly era: number; readonly numbers: Uint16Array }>();

/** Return the numbers of the peers that a peer announces connections to; see numberEra(). */
export function neighbourNumbers(peer: Pick<Peer, "connections">): Uint16Array {
  const announced = announcedBy(peer);
  // Our own connections change, and those that tests make up.
  const isFixed = announced !== peer.connections;
  const kept = isFixed ? known.get(announced) : undefined;
  if (kept?.era === numberEra()) return kept.numbers;
  const numbers = new Uint16Array(announced.size);
  let i = 0;
  for (const name of announced.keys()) numbers[i++] = numberOf(name);
  if (isFixed) known.set(announced, { era: numberEra(), numbers });
  return numbers;
}
