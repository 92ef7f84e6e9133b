// Changes of the topology, told to the overlay together: it derives forwarding tables from them.
import type { Clock } from "../clock/clock.ts";
import { Soon } from "../clock/soon.ts";

/** Changes are told together within this, and at most this often. */
const DELAY_MS = 10;
const INTERVAL_MS = 100;

export class RouteNotifier {
  readonly #soon: Soon;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly clock: Clock,
    tell: () => void,
  ) {
    this.#soon = new Soon(clock, () => {
      this.#toldAt = clock.now();
      tell();
    });
  }

  schedule(): void {
    this.#soon.within(Math.max(DELAY_MS, this.#toldAt + INTERVAL_MS - this.clock.now()));
  }

  stop(): void {
    this.#soon.stop();
  }
}
