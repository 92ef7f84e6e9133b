// Random histories of a simulated network, one a test: a few short ones in the suite, many long ones by
// $HISTORIES, their number, from $FIRST_HISTORY (1) on. A failure prints what happened.
import { describe, test } from "bun:test";

const HISTORIES = process.env["HISTORIES"];
const FIRST = BigInt(process.env["FIRST_HISTORY"] ?? 1);

/** Whether histories are as long, and networks as large, as they may be. */
export const LONG = HISTORIES !== undefined;

export interface History {
  readonly log: readonly string[];
  run(): Promise<void>;
}

/** Play so many histories in the suite. */
export function playHistories(title: string, count: number, begin: (seed: bigint) => History): void {
  const last = FIRST + BigInt(HISTORIES ?? count) - 1n;
  describe(title, () => {
    for (let seed = FIRST; seed <= last; seed++) {
      test(`seed ${seed}`, async () => {
        const history = begin(seed);
        try {
          await history.run();
        } catch (error) {
          throw new Error(`${error instanceof Error ? error.message : error}\n${history.log.join("\n")}`);
        }
      }, 60_000);
    }
  });
}
