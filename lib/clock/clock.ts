// Clocks and timers, passed to the protocols so that tests can control time.
import { ActiveTime } from "./activetime.ts";

/** A pending timer. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since some moment, without suspensions of this process: monotonic, without jumps. */
  now(): number;
  /** Milliseconds since the epoch, for people and peers; this clock can be set at any time. */
  wall(): number;
  /** Run `fn` once, in `ms` milliseconds. */
  after(ms: number, fn: () => void): Timer;
}

/** Interval at which the clock is read at least. */
const LOOK_MS = 1_000;

let active: ActiveTime | undefined;

/** CLOCK_MONOTONIC without suspensions of this process. */
function activeNow(): number {
  if (!active) {
    active = new ActiveTime(() => performance.now());
    setInterval(() => active?.now(), LOOK_MS).unref();
  }
  return active.now();
}

/** The clocks of this machine. */
export const systemClock: Clock = {
  now: activeNow,
  wall: () => Date.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Return the date of a moment of `clock.now()`, by the present wall clock. */
export function dateOf(clock: Pick<Clock, "now" | "wall">, at: number): Date {
  return new Date(clock.wall() - (clock.now() - at));
}

/** The same to the second, in RFC 3339. */
export function timeText(clock: Pick<Clock, "now" | "wall">, at: number): string {
  return dateOf(clock, at).toISOString().replace(/\.\d+/, "");
}

/** Resolve after `ms` milliseconds. */
export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}

/** Run `fn` every `ms` milliseconds until cancelled; first after one interval. */
export function every(clock: Clock, ms: number, fn: () => void): Timer {
  let timer: Timer;
  const again = () => {
    timer = clock.after(ms, again);
    fn();
  };
  timer = clock.after(ms, again);
  return { cancel: () => timer.cancel() };
}
