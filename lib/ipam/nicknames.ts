// What people call peers, as far as gossip has told; a peer that is gone may still own space, and be asked about.
import { type PeerName, PeerNameError, parsePeerName } from "../mesh/name.ts";

/** Names that are kept, and told others: more than a ring has owners. */
const MAX_NAMES = 4_096;
/** Characters of a nickname. The longest host name has 253. */
const MAX_LENGTH = 255;

export class Nicknames {
  readonly #byName = new Map<PeerName, string>();

  get all(): ReadonlyMap<PeerName, string> {
    return this.#byName;
  }

  /** Takes in names, as far as there is room: those that are `wanted` (all, unless given) before others. */
  learn(
    names: Iterable<readonly [PeerName, string]>,
    wanted: (name: PeerName) => boolean = () => true,
  ): void {
    for (const [name, nickname] of names) {
      if (this.#byName.size >= MAX_NAMES && !this.#byName.has(name)) {
        if (!wanted(name)) continue;
        this.prune(wanted);
        if (this.#byName.size >= MAX_NAMES) continue;
      }
      this.#byName.set(name, nickname.slice(0, MAX_LENGTH));
    }
  }

  get(name: PeerName): string | undefined {
    return this.#byName.get(name);
  }

  /** Forgets peers that `wanted` does not want. */
  prune(wanted: (name: PeerName) => boolean): void {
    for (const name of this.#byName.keys()) if (!wanted(name)) this.#byName.delete(name);
  }

  /** "name(nickname)", or the name alone. */
  annotate(name: PeerName): string {
    const nickname = this.#byName.get(name);
    return nickname === undefined ? name : `${name}(${nickname})`;
  }

  /** Return the peers that a name or a nickname stands for; several hosts may share a nickname. */
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
