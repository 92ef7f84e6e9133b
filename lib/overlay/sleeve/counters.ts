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
  /** Errors in our own code, each of which cost a frame or a datagram. */
  errors: 12,
} as const;

const NAMES = Object.keys(COUNTERS) as (keyof typeof COUNTERS)[];

/** Links at one time. */
export const MAX_LINKS = 4096;

/**
 * What is noted of each link: when it last received and last carried a frame of pods (ms), why its last datagram was not
 * sent, and how many bytes the frames of pods had that came in and went out.
 */
const LINK = { heard: 0, carried: 1, refusal: 2, received: 3, sent: 4, fields: 5 } as const;

export class Counters {
  readonly #numbers: Float64Array;

  /** On memory of one's own, or on what the other side has. */
  constructor(readonly memory = new SharedArrayBuffer(8 * (NAMES.length + LINK.fields * MAX_LINKS))) {
    this.#numbers = new Float64Array(memory);
  }

  add(counter: number, count: number): void {
    this.#numbers[counter] = (this.#numbers[counter] as number) + count;
  }

  /** A datagram of that link has come in at this time (ms). */
  noteHeard(link: number, now: number): void {
    this.#numbers[at(link, LINK.heard)] = now;
  }

  /** A frame of pods was sent on its way by that link at this time (ms). */
  countSent(link: number, now: number, bytes: number): void {
    const first = at(link, 0);
    this.#numbers[first + LINK.carried] = now;
    this.#numbers[first + LINK.sent] = (this.#numbers[first + LINK.sent] as number) + bytes;
  }

  /** A frame of pods has come in by that link. */
  countReceived(link: number, bytes: number): void {
    const field = at(link, LINK.received);
    this.#numbers[field] = (this.#numbers[field] as number) + bytes;
  }

  /** Bytes of the frames of pods that came in by that link and went out. */
  frames(link: number): { received: number; sent: number } {
    const first = at(link, 0);
    return {
      received: this.#numbers[first + LINK.received] ?? 0,
      sent: this.#numbers[first + LINK.sent] ?? 0,
    };
  }

  /** The kernel took a datagram of that link (0), or refused it with this errno. */
  noteSendResult(link: number, errno: number): void {
    this.#numbers[at(link, LINK.refusal)] = errno;
  }

  /** Forget what was noted of a link: its number is another's now. */
  resetLink(link: number): void {
    this.#numbers.fill(0, at(link, 0), at(link, LINK.fields));
  }

  /** When the last datagram came in; 0 for never. */
  lastHeard(link: number): number {
    return this.#numbers[at(link, LINK.heard)] ?? 0;
  }

  /** When the last frame went out; 0 for never. */
  lastCarried(link: number): number {
    return this.#numbers[at(link, LINK.carried)] ?? 0;
  }

  /** Errno of the last datagram, 0 where it was sent. */
  refusal(link: number): number {
    return this.#numbers[at(link, LINK.refusal)] ?? 0;
  }

  all(): Record<string, number> {
    return Object.fromEntries(NAMES.map((name, i) => [name, this.#numbers[i] ?? 0]));
  }
}

const at = (link: number, field: number) => NAMES.length + link * LINK.fields + field;
