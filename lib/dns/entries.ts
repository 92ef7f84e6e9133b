// All names of the network: by name and by address.
import type { IPv4 } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";
import { compareEntries, type Entry, type EntryId, entryKey, newer } from "./entry.ts";

export class Entries {
  readonly #byKey = new Map<string, Entry>();
  readonly #byName = new Map<string, Set<string>>();
  readonly #byAddress = new Map<IPv4, Set<string>>();
  /** Entries below a name, however deep. */
  readonly #below = new Map<string, Set<string>>();
  readonly #perOrigin = new Map<PeerName, number>();

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
    return [...this.#perOrigin.keys()];
  }

  /** How many entries come from a peer, deleted ones included. */
  countOf(origin: PeerName): number {
    return this.#perOrigin.get(origin) ?? 0;
  }

  /** Puts an entry in the place of an older state of it. */
  set(entry: Entry): void {
    const key = entryKey(entry);
    if (!this.#byKey.has(key)) this.#perOrigin.set(entry.origin, this.countOf(entry.origin) + 1);
    this.#byKey.set(key, entry);
    const name = entry.hostname.toLowerCase();
    index(this.#byName, name, key);
    index(this.#byAddress, entry.address, key);
    for (const parent of parentsOf(name)) index(this.#below, parent, key);
  }

  /** Takes in entries; returns those that were news. New ones that do not `fit` are left out. */
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
  remove(unwanted: (entry: Entry) => boolean): void {
    for (const [key, entry] of this.#byKey) {
      if (!unwanted(entry)) continue;
      this.#byKey.delete(key);
      const name = entry.hostname.toLowerCase();
      unindex(this.#byName, name, key);
      unindex(this.#byAddress, entry.address, key);
      for (const parent of parentsOf(name)) unindex(this.#below, parent, key);
      const left = this.countOf(entry.origin) - 1;
      if (left > 0) this.#perOrigin.set(entry.origin, left);
      else this.#perOrigin.delete(entry.origin);
    }
  }

  /** Addresses of a fully qualified name. */
  lookup(hostname: string): IPv4[] {
    return this.#living(this.#byName.get(hostname.toLowerCase())).map(({ address }) => address);
  }

  /** The name of an address: the first in order, where it has several. */
  reverse(address: IPv4): string | undefined {
    return this.#living(this.#byAddress.get(address)).sort(compareEntries)[0]?.hostname;
  }

  /** True where a living name lies below this fully qualified one. */
  isParent(hostname: string): boolean {
    for (const key of this.#below.get(hostname.toLowerCase()) ?? []) {
      if (this.#byKey.get(key)?.tombstone === 0) return true;
    }
    return false;
  }

  #living(keys: Iterable<string> = []): Entry[] {
    const living: Entry[] = [];
    for (const key of keys) {
      const entry = this.#byKey.get(key);
      if (entry?.tombstone === 0) living.push(entry);
    }
    return living;
  }
}

/** The names above a fully qualified one, but for the topmost label's: "b.c." and so on, of "a.b.c.". */
function parentsOf(name: string): string[] {
  const parents: string[] = [];
  for (let at = name.indexOf(".") + 1; at > 0 && at < name.length; at = name.indexOf(".", at) + 1) {
    if (name.indexOf(".", at) < name.length - 1) parents.push(name.slice(at));
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
