// What the engine counts, in memory that the router reads while the engine is at work.

export const COUNTERS = {
  /** Frames from the kernel, frames sent, datagrams received. */
  captured: 0,
  sent: 1,
  received: 2,
  /** Dropped: no route, or a peer that is not known. */
  unroutable: 3,
  /** Dropped: truncated, or otherwise not what it should be. */
  malformed: 4,
  /** Dropped: of nobody that we are connected to. */
  foreign: 5,
  undecryptable: 6,
  replayed: 7,
  /** Dropped: larger than the link carries. */
  tooBig: 8,
  /** Answered by 'fragmentation needed'. */
  refused: 9,
  /** Datagrams that the kernel would not send. */
  unsent: 10,
  /** Dropped: a broadcast that came round by another way than the tree's. */
  astray: 11,
} as const;

const NAMES = Object.keys(COUNTERS) as (keyof typeof COUNTERS)[];

/** Links at one time; each notes when it was last heard of. */
export const MAX_LINKS = 4096;

export class Counters {
  readonly #numbers: Float64Array;

  /** On memory of one's own, or on what the other side has. */
  constructor(readonly memory = new SharedArrayBuffer(8 * (NAMES.length + MAX_LINKS))) {
    this.#numbers = new Float64Array(memory);
  }

  add(counter: number, count: number): void {
    this.#numbers[counter] = (this.#numbers[counter] as number) + count;
  }

  /** A datagram of that link has come in at this time (ms). */
  heard(link: number, now: number): void {
    this.#numbers[NAMES.length + link] = now;
  }

  /** When the last one came in; 0 for never. */
  lastHeard(link: number): number {
    return this.#numbers[NAMES.length + link] ?? 0;
  }

  all(): Record<string, number> {
    return Object.fromEntries(NAMES.map((name, i) => [name, this.#numbers[i] ?? 0]));
  }
}
