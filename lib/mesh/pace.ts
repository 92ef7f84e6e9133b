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
    this.#bucket.charge(this.clock.now(), bytes);
  }

  /** Note that `bytes` were broadcast, to all neighbours together. */
  sent(bytes: number): void {
    this.#bucket.charge(this.clock.now(), bytes * SENT_COST);
  }

  /** Return the ms to wait before the next broadcast; spread, as all peers wait for the same. */
  wait(): number {
    const ms = this.#bucket.wait(this.clock.now());
    return ms === 0 ? 0 : ms * (0.5 + this.random.float());
  }
}
