// Changes of the topology, told to the overlay together: it derives forwarding tables from them.
import type { Clock, Timer } from "../clock/clock.ts";

/** Changes are told together within this, and at most this often. */
const DELAY_MS = 10;
const INTERVAL_MS = 100;

export class RouteNotifier {
  #timer: Timer | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly clock: Clock,
    private readonly tell: () => void,
  ) {}

  schedule(): void {
    const delay = Math.max(DELAY_MS, this.#toldAt + INTERVAL_MS - this.clock.now());
    this.#timer ??= this.clock.after(delay, () => {
      this.#timer = undefined;
      this.#toldAt = this.clock.now();
      this.tell();
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }
}
