// All names of the network: by name and by address. Deleted ones are remembered, but found by neither.
import type { IPv4 } from "../address/ipv4.ts";
import type { Work } from "../clock/slices.ts";
import { Tally } from "../clock/tally.ts";
import type { PeerName } from "../mesh/name.ts";
import { compareEntries, type Entry, type EntryId, entryKey, newer } from "./entry.ts";

/** Characters of a name with its container's id and its peer; longer ones take more room. */
const COMMON_LENGTH = 256;
/** Names above a name that are known to exist by it. */
const MAX_PARENTS = 8;
/** Entries of one name, or of one address, that are looked at to answer a question. */
const MAX_FOUND = 1_024;
/** Entries looked at between two steps. */
const STEP = 512;

export class Entries {
  readonly #byKey = new Map<string, Entry>();
  readonly #byName = new Map<string, Set<string>>();
  readonly #byAddress = new Map<IPv4, Set<string>>();
  /** How many entries lie below a name; of the names with the fewest labels. */
  readonly #below = new Tally<string>();
  readonly #roomOf = new Tally<PeerName>();

  /** Another number after each change of what is found. */
  version = 0;

  readonly #livingOf = new Tally<PeerName>();

  /** Entries that were not deleted. */
  get living(): number {
    return this.#livingOf.total;
  }

  /** Those of a peer. */
  livingOf(origin: PeerName): number {
    return this.#livingOf.of(origin);
  }

  /** How much room all entries take. */
  get room(): number {
    return this.#roomOf.total;
  }

  get size(): number {
    return this.#byKey.size;
  }

  all(): IterableIterator<Entry> {
    return this.#byKey.values();
  }

  get(id: EntryId): Entry | undefined {
    return this.#byKey.get(entryKey(id));
  }

  /** The peers that entries come from. */
  origins(): PeerName[] {
    return [...this.#roomOf.keys()];
  }

  /** How much room the entries of a peer take, deleted ones included: 1 for each of common length. */
  countOf(origin: PeerName): number {
    return this.#roomOf.of(origin);
  }

  /** Puts an entry in the place of an older state of it. */
  set(entry: Entry): void {
    const key = entryKey(entry);
    const known = this.#byKey.get(key);
    if (known?.tombstone === 0) this.#unindex(key, known);
    if (!known) this.#roomOf.add(entry.origin, roomOf(key));
    this.#byKey.set(key, entry);
    if (entry.tombstone === 0) this.#index(key, entry);
  }

  /** Merge entries; return those that changed anything. New ones that do not `fit` are left out. */
  merge(incoming: Iterable<Entry>, fits: (entry: Entry) => boolean = () => true): Entry[] {
    const fresh: Entry[] = [];
    for (const entry of incoming) {
      const known = this.get(entry);
      if (known ? newer(known, entry) === known : !fits(entry)) continue;
      this.set(entry);
      fresh.push(entry);
    }
    return fresh;
  }

  /** Forgets entries. */
  *remove(unwanted: (entry: Entry) => boolean): Work {
    let steps = 0;
    for (const [key, entry] of this.#byKey) {
      if (++steps % STEP === 0) yield;
      if (!unwanted(entry)) continue;
      this.#byKey.delete(key);
      if (entry.tombstone === 0) this.#unindex(key, entry);
      this.#roomOf.add(entry.origin, -roomOf(key));
    }
  }

  /** Addresses of a fully qualified name, each once (RFC 2181, 5): several holders may have given it to one address. */
  lookup(hostname: string): IPv4[] {
    const found = this.#found(this.#byName.get(hostname.toLowerCase()));
    return [...new Set(found.map(({ address }) => address))];
  }

  /** The name of an address: the first in order, where it has several. */
  reverse(address: IPv4): string | undefined {
    return this.#found(this.#byAddress.get(address)).sort(compareEntries)[0]?.hostname;
  }

  /** True where a living name lies below this fully qualified one. */
  isParent(hostname: string): boolean {
    return this.#below.of(hostname.toLowerCase()) > 0;
  }

  /** The living entries behind these keys, as many as a question may cost. */
  #found(keys: Iterable<string> = []): Entry[] {
    const found: Entry[] = [];
    for (const key of keys) {
      const entry = this.#byKey.get(key);
      if (entry) found.push(entry);
      if (found.length >= MAX_FOUND) break;
    }
    return found;
  }

  #index(key: string, { hostname, address, origin }: Entry): void {
    const name = hostname.toLowerCase();
    this.version++;
    this.#livingOf.add(origin, 1);
    index(this.#byName, name, key);
    index(this.#byAddress, address, key);
    for (const parent of parentsOf(name)) this.#below.add(parent, 1);
  }

  #unindex(key: string, { hostname, address, origin }: Entry): void {
    const name = hostname.toLowerCase();
    this.version++;
    this.#livingOf.add(origin, -1);
    unindex(this.#byName, name, key);
    unindex(this.#byAddress, address, key);
    for (const parent of parentsOf(name)) this.#below.add(parent, -1);
  }
}

/** How much room an entry with this key takes: 1 where it has a common length. */
function roomOf(key: string): number {
  return Math.ceil(key.length / COMMON_LENGTH);
}

/**
 * The names above a fully qualified one, but for the topmost label's: "b.c." and so on, of "a.b.c."; of those with many
 * labels only the MAX_PARENTS topmost.
 */
function parentsOf(name: string): string[] {
  const parents: string[] = [];
  // The last dot ends the name, the one before begins the topmost label.
  let at = name.lastIndexOf(".", name.length - 2);
  while (at > 0 && parents.length < MAX_PARENTS) {
    at = name.lastIndexOf(".", at - 1);
    if (at >= 0) parents.push(name.slice(at + 1));
  }
  return parents;
}

function index<K>(map: Map<K, Set<string>>, at: K, key: string): void {
  const keys = map.get(at);
  if (keys) keys.add(key);
  else map.set(at, new Set([key]));
}

function unindex<K>(map: Map<K, Set<string>>, at: K, key: string): void {
  const keys = map.get(at);
  keys?.delete(key);
  if (keys?.size === 0) map.delete(at);
}
