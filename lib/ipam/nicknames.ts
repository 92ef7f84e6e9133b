// Nicknames of peers, as gossip has told them. A peer that is gone may still own space, and be named.
import { type PeerName, PeerNameError, parsePeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";

/** Names that are kept and sent to other peers: more than a ring has owners. */
const MAX_NAMES = 4_096;
/** Characters of a nickname; the longest host name has 253. */
const MAX_LENGTH = 255;

export class Nicknames {
  readonly #byName = new Map<PeerName, string>();

  get all(): ReadonlyMap<PeerName, string> {
    return this.#byName;
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
    return this.#byName.get(name);
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
    const nickname = this.#byName.get(name);
    return nickname === undefined ? name : `${name}(${nickname})`;
  };

  /** Return the peers with a name or nickname; several hosts may share a nickname. */
  find(text: string): PeerName[] {
    const named = [...this.#byName].filter(([, nickname]) => nickname === text).map(([name]) => name);
    if (named.length > 0) return named;
    try {
      return [parsePeerName(text)];
    } catch (error) {
      if (error instanceof PeerNameError) return [];
      throw error;
    }
  }
}
