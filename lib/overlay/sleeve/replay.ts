// Anti-replay by a sliding window of sequence numbers (RFC 6479).

/** Size of the window in numbers: a power of two, and a multiple of the bits of a word. */
export const WINDOW = 1 << 16;
const WORD_BITS = 32;
const WORDS = WINDOW / WORD_BITS;

export class ReplayWindow {
  readonly #seen = new Uint32Array(WORDS);
  /** The highest word with a received number. */
  #last = 0;

  /** Accept a number below 2^53. Returns false for one that was seen, or is older than the window. */
  accept(sequence: number): boolean {
    const word = Math.floor(sequence / WORD_BITS);
    if (word <= this.#last - WORDS) return false;
    if (word > this.#last) {
      const fresh = Math.min(word - this.#last, WORDS);
      for (let i = 1; i <= fresh; i++) this.#seen[(this.#last + i) % WORDS] = 0;
      this.#last = word;
    }
    const index = word % WORDS;
    const bit = 1 << (sequence % WORD_BITS);
    const seen = this.#seen[index] ?? 0;
    if (seen & bit) return false;
    this.#seen[index] = seen | bit;
    return true;
  }
}
