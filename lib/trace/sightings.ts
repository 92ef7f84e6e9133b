// What was seen of a probe on one host, each thing once.
import type { Seen } from "./side.ts";

/** Sightings in an answer. */
const MAX_SEEN = 64;

export class Sightings {
  readonly #seen = new Map<string, Seen>();

  /** Links off the path count as one: broadcasts leave by the ports of all containers of a host. */
  add(seen: Seen): void {
    const { point, sign, out, link } = seen;
    const key = point === "elsewhere" ? `${sign} ${out}` : `${point} ${sign} ${out} ${link}`;
    if (this.#seen.size < MAX_SEEN && !this.#seen.has(key)) this.#seen.set(key, seen);
  }

  get all(): Seen[] {
    return [...this.#seen.values()];
  }
}
