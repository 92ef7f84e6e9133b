// Time as the protocols see it: passed in, never asked of the machine, so that a test can be the clock.
import { LivedTime } from "./lived.ts";

/** Something that was set to happen later and can be called off. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds that this process has lived through since some moment: to measure by. Never goes back, never jumps. */
  now(): number;
  /** Milliseconds since the epoch, for people and for peers: somebody may set that clock at any time. */
  wall(): number;
  /** Runs `fn` once, `ms` milliseconds from now. */
  after(ms: number, fn: () => void): Timer;
}

/** How often somebody looks at the clock at least. */
const LOOK_MS = 1_000;

let lived: LivedTime | undefined;

/** CLOCK_MONOTONIC, but for what this process has not lived through. */
function livedNow(): number {
  if (!lived) {
    lived = new LivedTime(() => performance.now());
    setInterval(() => lived?.now(), LOOK_MS).unref();
  }
  return lived.now();
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: livedNow,
  wall: () => Date.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** The date of a moment of `clock.now()`, as the wall clock counts at present. */
export function dateOf(clock: Pick<Clock, "now" | "wall">, at: number): Date {
  return new Date(clock.wall() - (clock.now() - at));
}

/** The same to the second, in ISO 8601. */
export function timeText(clock: Pick<Clock, "now" | "wall">, at: number): string {
  return dateOf(clock, at).toISOString().replace(/\.\d+/, "");
}

/** Resolves after `ms` milliseconds. */
export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}

/** Runs `fn` every `ms` milliseconds until cancelled; the first time one interval from now. */
export function every(clock: Clock, ms: number, fn: () => void): Timer {
  let timer: Timer;
  const again = () => {
    timer = clock.after(ms, again);
    fn();
  };
  timer = clock.after(ms, again);
  return { cancel: () => timer.cancel() };
}
