// The pace of topology broadcasts: by what arrives and leaves, not by the size of the network. Every peer receives about the
// same broadcasts, so that all slow down together.
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";

/** Bytes of broadcasts that a peer receives within a second, and at once. */
const RECEIVED_PER_S = 256 * 1024;
const BURST = 256 * 1024;
/** Bytes sent are cheaper than those received, which many peers decode. */
const SENT_COST = 1 / 16;
/** While the wait is this long, nothing more is counted: a peer that floods us must not silence us for hours. */
const MAX_WAIT_MS = 60_000;

export class Pace {
  readonly #bucket: TokenBucket;

  constructor(
    private readonly clock: Clock,
    private readonly random: Random,
  ) {
    this.#bucket = new TokenBucket(BURST, RECEIVED_PER_S, clock.now());
  }

  /** Note that a broadcast of `bytes` has arrived. */
  received(bytes: number): void {
    this.#charge(bytes);
  }

  /** Note that `bytes` were broadcast, to all neighbours together. */
  sent(bytes: number): void {
    this.#charge(bytes * SENT_COST);
  }

  #charge(bytes: number): void {
    const now = this.clock.now();
    if (this.#bucket.wait(now) < MAX_WAIT_MS) this.#bucket.charge(now, bytes);
  }

  /** Return the ms to wait before the next broadcast; spread, as all peers wait for the same. */
  wait(): number {
    const ms = this.#bucket.wait(this.clock.now());
    return ms === 0 ? 0 : ms * (0.5 + this.random.float());
  }
}
