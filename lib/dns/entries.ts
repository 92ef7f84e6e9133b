// All names of the network: by name and by address.
import type { IPv4 } from "../address/ipv4.ts";
import { compareEntries, type Entry, type EntryId, entryKey, newer } from "./entry.ts";

export class Entries {
  readonly #byKey = new Map<string, Entry>();
  readonly #byName = new Map<string, Set<string>>();
  readonly #byAddress = new Map<IPv4, Set<string>>();

  get size(): number {
    return this.#byKey.size;
  }

  all(): IterableIterator<Entry> {
    return this.#byKey.values();
  }

  get(id: EntryId): Entry | undefined {
    return this.#byKey.get(entryKey(id));
  }

  /** Puts an entry in the place of an older state of it. */
  set(entry: Entry): void {
    const key = entryKey(entry);
    this.#byKey.set(key, entry);
    index(this.#byName, entry.hostname.toLowerCase(), key);
    index(this.#byAddress, entry.address, key);
  }

  /** Takes in entries; returns those that were news. */
  merge(incoming: Iterable<Entry>): Entry[] {
    const fresh: Entry[] = [];
    for (const entry of incoming) {
      const known = this.get(entry);
      if (known && newer(known, entry) === known) continue;
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
      unindex(this.#byName, entry.hostname.toLowerCase(), key);
      unindex(this.#byAddress, entry.address, key);
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

  #living(keys: Iterable<string> = []): Entry[] {
    const living: Entry[] = [];
    for (const key of keys) {
      const entry = this.#byKey.get(key);
      if (entry?.tombstone === 0) living.push(entry);
    }
    return living;
  }
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
