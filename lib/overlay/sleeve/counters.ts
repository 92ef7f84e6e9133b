// Counters of the engine, in memory that it shares with the router's thread.

export const COUNTERS = {
  /** Frames from the kernel, frames sent, datagrams received. */
  captured: 0,
  sent: 1,
  received: 2,
  /** Dropped: no route, or a peer that is not known. */
  unroutable: 3,
  /** Dropped: truncated or invalid. */
  malformed: 4,
  /** Dropped: from no peer that we are connected to. */
  foreign: 5,
  undecryptable: 6,
  replayed: 7,
  /** Dropped: larger than the link carries. */
  tooBig: 8,
  /** Answered by 'fragmentation needed'. */
  refused: 9,
  /** Datagrams that our kernel refused. */
  unsent: 10,
  /** Dropped by the reverse path check, or on the way back to where they came from. */
  astray: 11,
  /** Bugs of ours: exceptions, each of which cost a frame or a datagram. */
  errors: 12,
  /** Messages of the router that the engine has handled. */
  messages: 13,
} as const;

const NAMES = Object.keys(COUNTERS) as (keyof typeof COUNTERS)[];

/** Links at one time. */
export const MAX_LINKS = 4096;

/**
 * Fields of each link: time of the last datagram received and of the last frame of pods sent (ms), errno of the last
 * datagram sent, bytes of frames of pods received and sent.
 */
const LINK = { heard: 0, carried: 1, refusal: 2, received: 3, sent: 4, fields: 5 } as const;

export class Counters {
  readonly #numbers: Float64Array;

  /** With memory of its own, or that of the other thread. */
  constructor(readonly memory = new SharedArrayBuffer(8 * (NAMES.length + LINK.fields * MAX_LINKS))) {
    this.#numbers = new Float64Array(memory);
  }

  add(counter: number, count: number): void {
    this.#numbers[counter] = (this.#numbers[counter] as number) + count;
  }

  get(counter: number): number {
    return this.#numbers[counter] as number;
  }

  /** Note a datagram received by a link; `now` in ms. */
  noteHeard(link: number, now: number): void {
    this.#numbers[at(link, LINK.heard)] = now;
  }

  /** Count a frame of pods sent by a link; `now` in ms. */
  countSent(link: number, now: number, bytes: number): void {
    const first = at(link, 0);
    this.#numbers[first + LINK.carried] = now;
    this.#numbers[first + LINK.sent] = (this.#numbers[first + LINK.sent] as number) + bytes;
  }

  /** Count a frame of pods received by a link. */
  countReceived(link: number, bytes: number): void {
    const field = at(link, LINK.received);
    this.#numbers[field] = (this.#numbers[field] as number) + bytes;
  }

  /** Return the bytes of frames of pods received and sent by a link. */
  frames(link: number): { received: number; sent: number } {
    const first = at(link, 0);
    return {
      received: this.#numbers[first + LINK.received] ?? 0,
      sent: this.#numbers[first + LINK.sent] ?? 0,
    };
  }

  /** Note the errno of a datagram to a link, 0 where it was sent. */
  noteSendResult(link: number, errno: number): void {
    this.#numbers[at(link, LINK.refusal)] = errno;
  }

  /** Reset a link's fields, when its number is reused. */
  resetLink(link: number): void {
    this.#numbers.fill(0, at(link, 0), at(link, LINK.fields));
  }

  /** Return the time of the last datagram received; 0 for never. */
  lastHeard(link: number): number {
    return this.#numbers[at(link, LINK.heard)] ?? 0;
  }

  /** Return the time of the last frame sent; 0 for never. */
  lastCarried(link: number): number {
    return this.#numbers[at(link, LINK.carried)] ?? 0;
  }

  /** Return the errno of the last datagram, 0 where it was sent. */
  refusal(link: number): number {
    return this.#numbers[at(link, LINK.refusal)] ?? 0;
  }

  all(): Record<string, number> {
    return Object.fromEntries(NAMES.map((name, i) => [name, this.#numbers[i] ?? 0]));
  }
}

const at = (link: number, field: number) => NAMES.length + link * LINK.fields + field;
