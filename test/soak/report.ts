// What samples of a soak say: for each program that ran long enough, whether each quantity is flat, and a graph of memory.
import { graph } from "./graph.ts";
import { LIMITS, type Quantity, type Sample } from "./sample.ts";
import { type Point, type Result, type Verdict, verdict, WARM_UP } from "./trend.ts";

const QUANTITIES = Object.keys(LIMITS) as Quantity[];

const points = (samples: readonly Sample[], quantity: Quantity): Point[] =>
  samples.flatMap(({ seconds, values }) => {
    const value = values[quantity];
    return value === undefined ? [] : [[seconds / 3600, value] as const];
  });

const TEXTS: Readonly<Record<Result, (limit: number) => string>> = {
  flat: () => "flat",
  unclear: (limit) => `UNCLEAR whether it grows by more than ${limit}: run longer`,
  grows: (limit) => `GROWS by more than ${limit}`,
};

function line(quantity: Quantity, { first, last, perHour, low, high, result }: Verdict): string {
  const interval = `${perHour.toFixed(1)} (${low.toFixed(1)} to ${high.toFixed(1)}) an hour`;
  return `  ${quantity.padEnd(12)} ${first} to ${last}, ${interval}: ${TEXTS[result](LIMITS[quantity])}`;
}

/** Return the report, and the worst result of all series that are long enough. */
export function report(samples: readonly Sample[]): { text: string; result: Result } {
  const lines: string[] = [];
  const results = new Set<Result>();
  const by = Map.groupBy(samples, ({ host, program, pid }) => `host ${host} ${program} ${pid}`);
  for (const [name, own] of by) {
    const memory = points(own, "anonKb");
    const judged = QUANTITIES.flatMap((quantity) => {
      const found = verdict(points(own, quantity), LIMITS[quantity]);
      if (!found) return [];
      results.add(found.result);
      return [line(quantity, found)];
    });
    if (judged.length === 0) continue;
    const values = memory.map(([, value]) => value);
    const hours = ((own.at(-1)?.seconds ?? 0) - (own[0]?.seconds ?? 0)) / 3600;
    lines.push(
      `${name}: ${own.length} samples in ${hours.toFixed(2)} h, of which the first ${(WARM_UP * hours * 60).toFixed(0)} min are warm-up`,
      ...judged,
      `  memory       ${Math.min(...values)} to ${Math.max(...values)} kB`,
      `  ${graph(memory)}`,
    );
  }
  if (results.size === 0) return { text: "no program ran long enough to be judged\n", result: "unclear" };
  const worst = (["grows", "unclear"] as const).find((result) => results.has(result)) ?? "flat";
  return { text: `${lines.join("\n")}\n`, result: worst };
}
