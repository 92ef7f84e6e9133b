// Spread queries over UDP over turns of the event loop. Bun reads a socket until it is empty: clients that send faster than
// we answer would starve the rest of the router.
import { systemClock, workedMs } from "../clock/clock.ts";
import { Tally } from "../clock/tally.ts";
import type { Limit } from "../sys/limit.ts";

/** Time for answers in a turn; further queries wait for the next turns. */
const ANSWERING_MS = 3;
/** Processor time for reading in a turn; after it the kernel drops queries until the next turn. */
const READING_MS = 10;
/** Limits of waiting queries: in total, and of one client address. */
const MAX_WAITING = 8_192;
const MAX_OF_ADDRESS = 4_096;
/** Bytes of a query that may wait: the maximum of our replies, and queries are shorter. */
const MAX_SIZE = 1_232;

/** Stops the queries of one socket. */
export interface Valve {
  /** Make the kernel drop incoming queries, or keep them again; must not throw. */
  shut(isShut: boolean): void;
}

export interface Waiting {
  /** IP address of the client. */
  readonly from: string;
  /** Must not throw. */
  answer(): void;
}

export interface ReadQuery extends Waiting {
  /** Bytes. */
  readonly size: number;
  readonly valve: Valve;
  /** Copy the query: the buffer of the read is reused. */
  keep(): Waiting;
}

export class QueryTurns {
  readonly #waiting: Waiting[] = [];
  readonly #addresses = new Tally<string>();
  readonly #shut = new Set<Valve>();
  #refused = 0;
  /** When this turn began to answer, and to read, in ms; undefined before. */
  #answering: number | undefined;
  #reading: number | undefined;
  /** Processor time at which this turn began to read, in ms. */
  #worked = 0;

  /** `now` and `worked`, the processor time of this thread, are in ms; `nextTurn` calls back in the next turn of the event loop. */
  constructor(
    private readonly now: () => number = () => performance.now(),
    private readonly nextTurn: (fn: () => void) => void = setImmediate,
    private readonly worked: () => number = () => workedMs(systemClock),
  ) {}

  /** Answer a query now or in one of the next turns. */
  take(query: ReadQuery): void {
    const { from, size, valve } = query;
    const now = this.now();
    if (this.#reading === undefined) {
      this.#reading = now;
      this.#worked = this.worked();
    }
    if (this.#answering === undefined) {
      this.#answering = now;
      this.nextTurn(() => this.#turn());
    }
    if (this.#waiting.length === 0 && now - this.#answering < ANSWERING_MS) return query.answer();
    if (this.#hasReadLong(now) && !this.#shut.has(valve)) {
      valve.shut(true);
      this.#shut.add(valve);
    }
    const isFull = this.#waiting.length >= MAX_WAITING || this.#addresses.of(from) >= MAX_OF_ADDRESS;
    if (isFull || size > MAX_SIZE) {
      this.#refused++;
      return;
    }
    this.#addresses.add(from, 1);
    this.#waiting.push(query.keep());
  }

  /** Forget the valve of a closed socket. */
  forget(valve: Valve): void {
    this.#shut.delete(valve);
  }

  limits(): Limit[] {
    const value = this.#waiting.length;
    const most = Math.max(0, ...Array.from(this.#addresses.keys(), (from) => this.#addresses.of(from)));
    return [
      { name: "dns-queries-waiting", value, max: MAX_WAITING, refused: this.#refused },
      { name: "dns-queries-waiting-of-one-address", value: most, max: MAX_OF_ADDRESS },
    ];
  }

  /** A pause in which a busy host runs other programs is no flood: it would cost clients a time-out. */
  #hasReadLong(now: number): boolean {
    return now - (this.#reading ?? now) >= READING_MS && this.worked() - this.#worked >= READING_MS;
  }

  #turn(): void {
    for (const valve of this.#shut) valve.shut(false);
    this.#shut.clear();
    this.#reading = undefined;
    const started = this.now();
    while (this.now() - started < ANSWERING_MS) {
      const next = this.#waiting.shift();
      if (!next) {
        this.#answering = undefined;
        return;
      }
      this.#addresses.add(next.from, -1);
      next.answer();
    }
    this.#answering = started;
    this.nextTurn(() => this.#turn());
  }
}
