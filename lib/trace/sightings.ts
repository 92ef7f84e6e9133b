// Sightings of a probe on one host, without duplicates.
import type { Seen } from "./side.ts";

/** Limit of sightings in an answer to a peer. */
const MAX_SEEN = 64;

export class Sightings {
  readonly #seen = new Map<string, Seen>();

  /** Add a sighting. Links off the path count as one: a broadcast leaves by the ports of all containers of a host. */
  add(seen: Seen): void {
    const { point, sign, out, link } = seen;
    const key = point === "elsewhere" ? `${sign} ${out}` : `${point} ${sign} ${out} ${link}`;
    if (this.#seen.size < MAX_SEEN && !this.#seen.has(key)) this.#seen.set(key, seen);
  }

  get all(): Seen[] {
    return [...this.#seen.values()];
  }
}
