// Counts by key, of what comes and goes: keys that are back at zero are forgotten.

export class Tally<K> {
  readonly #counts = new Map<K, number>();
  #total = 0;

  /** Of all keys together. */
  get total(): number {
    return this.#total;
  }

  /** Keys with a count, in the order of their first. */
  keys(): MapIterator<K> {
    return this.#counts.keys();
  }

  of(key: K): number {
    return this.#counts.get(key) ?? 0;
  }

  /** Add to the count of a key, or take from it; return what it is then, which is never below zero. */
  add(key: K, change: number): number {
    const before = this.of(key);
    const after = Math.max(0, before + change);
    this.#total += after - before;
    if (after > 0) this.#counts.set(key, after);
    else this.#counts.delete(key);
    return after;
  }
}
