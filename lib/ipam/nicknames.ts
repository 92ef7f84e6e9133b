// Nicknames of peers: those that they have now, and those that gossip has told of peers that are gone, which may still own
// space, and be named. Gossip of addresses has no order: what it tells of a host that was renamed may be older.
import { type PeerName, PeerNameError, parsePeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";

/** Names that are kept and sent to other peers: more than a ring has owners. */
const MAX_NAMES = 4_096;
/** Characters of a nickname; the longest host name has 253. */
const MAX_LENGTH = 255;

export class Nicknames {
  readonly #byName = new Map<PeerName, string>();

  /** `current` returns the nickname that a peer has now; undefined for one that is not known. */
  constructor(private readonly current: (name: PeerName) => string | undefined = () => undefined) {}

  get all(): ReadonlyMap<PeerName, string> {
    return new Map(Array.from(this.#byName, ([name, told]) => [name, this.current(name) ?? told]));
  }

  get limit(): Limit {
    return { name: "nicknames", value: this.#byName.size, max: MAX_NAMES };
  }

  /** Add names while there is room, those `wanted` (all, unless given) before others. */
  learn(
    names: Iterable<readonly [PeerName, string]>,
    wanted: (name: PeerName) => boolean = () => true,
  ): void {
    let pruned = false;
    for (const [name, nickname] of names) {
      if ((pruned || this.#byName.size >= MAX_NAMES) && !this.#byName.has(name)) {
        if (!wanted(name)) continue;
        if (!pruned) this.prune(wanted);
        pruned = true;
        if (this.#byName.size >= MAX_NAMES) continue;
      }
      this.#byName.set(name, nickname.slice(0, MAX_LENGTH));
    }
  }

  get(name: PeerName): string | undefined {
    return this.current(name) ?? this.#byName.get(name);
  }

  forget(name: PeerName): void {
    this.#byName.delete(name);
  }

  /** Forget peers that are not `wanted`. */
  prune(wanted: (name: PeerName) => boolean): void {
    for (const name of this.#byName.keys()) if (!wanted(name)) this.#byName.delete(name);
  }

  /** Return "name(nickname)", or the name alone. */
  readonly annotate = (name: PeerName): string => {
    const nickname = this.get(name);
    return nickname === undefined ? name : `${name}(${nickname})`;
  };

  /** Return the peers with a name or nickname; several hosts may share a nickname. */
  find(text: string): PeerName[] {
    const named = [...this.all].filter(([, nickname]) => nickname === text).map(([name]) => name);
    if (named.length > 0) return named;
    try {
      return [parsePeerName(text)];
    } catch (error) {
      if (error instanceof PeerNameError) return [];
      throw error;
    }
  }
}
