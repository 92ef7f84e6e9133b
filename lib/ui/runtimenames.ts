// Containers as Docker or podman calls them: asked for when there are containers that are not known yet.
import type { Names } from "../api/rates.ts";
import type { Clock } from "../clock/clock.ts";
import { containerNames } from "../container/runtime.ts";
import { detached } from "../log/unexpected.ts";

/** Runtimes are asked at most this often. */
const ASK_MS = 10_000;

export class RuntimeNames {
  #known: Names = new Map();
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly sockets: readonly string[],
    private readonly clock: Clock,
  ) {}

  /** Return the names known so far; those of new IDs are known a moment later. */
  of(ids: Iterable<string>): Names {
    const now = this.clock.now();
    if (now - this.#askedAt < ASK_MS || [...ids].every((id) => this.#known.has(id))) return this.#known;
    this.#askedAt = now;
    const asking = containerNames(this.sockets).then((names) => {
      this.#known = names;
    });
    detached("asking for names of containers", asking);
    return this.#known;
  }
}
