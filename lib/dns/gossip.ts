// Gossip of names that waits for a peer: entries of several messages joined, or all entries at the time of sending.
import type { GossipData } from "../mesh/gossip.ts";
import type { Entries } from "./entries.ts";
import { type Entry, entryKey, newer } from "./entry.ts";
import { encodeNames } from "./wire.ts";

/** Entries in one message: a few milliseconds' work, and far below what a connection carries, whatever their length. */
const MAX_ENTRIES_PER_MESSAGE = 1_024;
/** Entries to merge while a peer does not read, or from one message; above this, all entries are sent. */
const MAX_JOINED = 4 * MAX_ENTRIES_PER_MESSAGE;

/** Entries by entryKey(). */
export type Keyed = ReadonlyMap<string, Entry>;

/** Entries of one message, to be relayed. */
export class Gathered {
  #some: Map<string, Entry> | undefined = new Map();

  /** The entries; undefined above MAX_JOINED, where all entries of this host are sent. */
  get some(): Keyed | undefined {
    return this.#some;
  }

  get isEmpty(): boolean {
    return this.#some?.size === 0;
  }

  add(entries: readonly Entry[]): this {
    for (const entry of entries) this.#some?.set(entryKey(entry), entry);
    if (this.#some && this.#some.size > MAX_JOINED) this.#some = undefined;
    return this;
  }
}

export class NamesGossip implements GossipData {
  readonly bytes = 0;

  constructor(
    /** Undefined where it is all of them. */
    readonly some: Keyed | undefined,
    readonly all: Entries,
    private readonly now: () => number,
  ) {}

  join(others: readonly GossipData[]): GossipData {
    const joined = new Map<string, Entry>();
    for (const data of [this, ...others]) {
      if (!(data instanceof NamesGossip))
        throw new TypeError("cannot join gossip of names with other gossip");
      if (!data.some || joined.size > MAX_JOINED) return new NamesGossip(undefined, this.all, this.now);
      for (const [key, entry] of data.some) {
        const known = joined.get(key);
        joined.set(key, known ? newer(known, entry) : entry);
      }
    }
    return new NamesGossip(joined, this.all, this.now);
  }

  *encode(): Generator<Uint8Array, void, void> {
    const list = [...(this.some?.values() ?? this.all.all())];
    for (let at = 0; at === 0 || at < list.length; at += MAX_ENTRIES_PER_MESSAGE) {
      const entries = list.slice(at, at + MAX_ENTRIES_PER_MESSAGE);
      yield encodeNames({ timestamp: this.now(), entries });
    }
  }
}
