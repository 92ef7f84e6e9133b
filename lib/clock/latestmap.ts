// A map of the latest entries, for what others can make us remember.

/** Keeps at most `max` entries: set() makes an entry the latest, and forgets the oldest one above the limit. */
export class LatestMap<K, V> extends Map<K, V> {
  constructor(readonly max: number) {
    super();
  }

  override set(key: K, value: V): this {
    this.delete(key);
    super.set(key, value);
    for (const oldest of this.keys()) {
      if (this.size <= this.max) break;
      this.delete(oldest);
    }
    return this;
  }
}
