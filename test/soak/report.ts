// What samples of a soak say: for each program that ran long enough, whether each quantity is flat, and a graph of memory.
import { graph } from "./graph.ts";
import { LIMITS, type Quantity, type Sample } from "./sample.ts";
import { type Point, verdict } from "./trend.ts";

const QUANTITIES = Object.keys(LIMITS) as Quantity[];

const points = (samples: readonly Sample[], quantity: Quantity): Point[] =>
  samples.flatMap(({ seconds, values }) => {
    const value = values[quantity];
    return value === undefined ? [] : [[seconds / 3600, value] as const];
  });

/** Return the report, and whether all that can be judged is flat. */
export function report(samples: readonly Sample[]): { text: string; flat: boolean } {
  const lines: string[] = [];
  let flat = true;
  const by = Map.groupBy(samples, ({ host, program, pid }) => `host ${host} ${program} ${pid}`);
  for (const [name, own] of by) {
    const memory = points(own, "rssKb");
    const judged = QUANTITIES.flatMap((quantity) => {
      const found = verdict(points(own, quantity), LIMITS[quantity]);
      if (!found) return [];
      flat &&= found.flat;
      return [
        `  ${quantity.padEnd(12)} ${found.first} to ${found.last}, ${found.slope.toFixed(1)} an hour: ${found.flat ? "flat" : `GROWS by more than ${LIMITS[quantity]}`}`,
      ];
    });
    if (judged.length === 0) continue;
    const values = memory.map(([, value]) => value);
    lines.push(
      `${name}: ${own.length} samples in ${((own.at(-1)?.seconds ?? 0) / 3600).toFixed(2)} h; the second half counts`,
      ...judged,
      `  memory       ${Math.min(...values)} to ${Math.max(...values)} kB`,
      `  ${graph(memory)}`,
    );
  }
  return { text: `${lines.join("\n")}\n`, flat };
}
