// A clock that moves only when told to. Timers fire in order of time, those of one moment in the order of their setting.
import type { Clock, Timer } from "./clock.ts";

interface Entry {
  at: number;
  order: number;
  fn: (() => void) | undefined;
}

/** A time of the wall clock that is far from any of the other clock: one that is taken for the other shows. */
const WALL = 1_700_000_000_000;

/** A simulated clock, starting at `start` milliseconds, when the wall clock says `wall`. */
export class SimulatedClock implements Clock {
  #now: number;
  /** Offset of the wall clock in ms. */
  wallOffset: number;
  #order = 0;
  #heap: Entry[] = [];

  constructor(start = 0, wall = WALL) {
    this.#now = start;
    this.wallOffset = wall - start;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now + this.wallOffset;
  }

  after(ms: number, fn: () => void): Timer {
    const entry: Entry = { at: this.#now + Math.max(0, ms), order: this.#order++, fn };
    this.#push(entry);
    return {
      cancel() {
        entry.fn = undefined;
      },
    };
  }

  /** Advance time by `ms`, firing the timers on the way. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (let next = this.#heap[0]; next && next.at <= end; next = this.#heap[0]) {
      this.#pop();
      this.#now = Math.max(this.#now, next.at);
      next.fn?.();
    }
    this.#now = end;
  }

  #before(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent];
      if (!above || this.#before(above, entry)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      let below = heap[child];
      const right = heap[child + 1];
      if (below && right && this.#before(right, below)) {
        child++;
        below = right;
      }
      if (!below || this.#before(last, below)) break;
      heap[i] = below;
      i = child;
    }
    heap[i] = last;
  }
}
