// A steady stream of pings: how many in a row went unanswered after something happened. Pings are counted, not seconds: a
// machine that is slow sends fewer.
import { eventually } from "./hosts.ts";

/** Pings a second. */
export const RATE = 20;
/** As many answers in a row say that it flows again. */
const FLOWING = 5;

export class Stream implements Disposable {
  readonly #child: Bun.Subprocess<"ignore", "pipe", "ignore">;
  readonly #answered = new Set<number>();
  #highest = 0;
  #mark = 0;

  /** `within` is a command line to run ping by; `rate` is in pings a second. */
  constructor(
    readonly name: string,
    within: readonly string[],
    to: string,
    rate = RATE,
  ) {
    const ping = ["ping", "-n", "-O", "-W", "1", "-i", String(1 / rate), to];
    this.#child = Bun.spawn([...within, ...ping], { stdio: ["ignore", "pipe", "ignore"] });
    void this.#read();
  }

  async #read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      const lines = (rest + decoder.decode(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [, bytes, number] = /^(\d+ bytes)?.*icmp_seq=(\d+)/.exec(line) ?? [];
        if (number === undefined) continue;
        if (bytes !== undefined) this.#answered.add(Number(number));
        this.#highest = Math.max(this.#highest, Number(number));
      }
    }
  }

  /** From here on pings are counted. */
  mark(): void {
    this.#mark = this.#highest;
    for (const number of this.#answered) if (number < this.#mark) this.#answered.delete(number);
  }

  /** Resolves once the last pings, all of them sent after this was called, were answered. */
  async flows(timeoutMs?: number): Promise<void> {
    const from = this.#highest;
    await eventually(
      `${this.name} talk`,
      () => {
        const last = this.#highest;
        const row = Array.from({ length: FLOWING }, (_, i) => last - i);
        return last - from >= FLOWING && row.every((number) => this.#answered.has(number));
      },
      Boolean,
      timeoutMs,
    );
  }

  /** Resolves once so many more were sent, answered or not. */
  async sends(count: number): Promise<void> {
    const from = this.#highest;
    await eventually(
      `${count} pings of ${this.name}`,
      () => this.#highest - from,
      (sent) => sent >= count,
    );
  }

  /** Pings since the mark. */
  get sent(): number {
    return this.#highest - this.#mark;
  }

  /** Pings since the mark that were not answered. */
  get lost(): number {
    let lost = 0;
    for (let number = this.#mark + 1; number <= this.#highest; number++)
      if (!this.#answered.has(number)) lost++;
    return lost;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
