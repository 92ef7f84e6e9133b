// What holds the event loop of this thread up: how late its timers are, and the kernel calls that it waits for.
import { Histogram, type HistogramCounts } from "./histogram.ts";

const lag = new Histogram();
const calls = new Histogram();
let longest = { Operation: "", Seconds: 0 };

/** In the report. */
export interface EventLoopReport {
  /** Delay of timers. */
  Lag: HistogramCounts;
  KernelCalls: HistogramCounts;
  LongestCall: { Operation: string; Seconds: number };
}

/** Note that a timer was so many ms late. */
export function noteLag(ms: number): void {
  lag.add(Math.max(0, ms) / 1_000);
}

/** Run a kernel call, and note how long it takes. */
export function timedCall<T>(operation: string, call: () => T): T {
  const started = performance.now();
  try {
    return call();
  } finally {
    const seconds = (performance.now() - started) / 1_000;
    calls.add(seconds);
    if (seconds > longest.Seconds) longest = { Operation: operation, Seconds: seconds };
  }
}

export function eventLoopReport(): EventLoopReport {
  return { Lag: lag.counts, KernelCalls: calls.counts, LongestCall: { ...longest } };
}
