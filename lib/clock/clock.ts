// Clocks and timers, passed to the protocols so that tests can control time.
import { ActiveTime } from "./activetime.ts";
import { noteLag } from "./eventloop.ts";

/** A pending timer. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since some moment, without suspensions of this process: monotonic, without jumps. */
  now(): number;
  /** Milliseconds since the epoch, for people and peers; this clock can be set at any time. */
  wall(): number;
  /**
   * Milliseconds of work of this thread since some moment: a thread that gets little of a processor does not work while it
   * waits for one. Unless given, `now()`.
   */
  worked?(): number;
  /** Run `fn` once, in `ms` milliseconds; as soon as possible if `ms` is negative. */
  after(ms: number, fn: () => void): Timer;
  /** Return the ms until a wake-up that a periodic timer of `ms` can share with others; unless given, `ms`. */
  sharedWakeUp?(ms: number): number;
}

/** Interval at which the clock is read at least. */
const LOOK_MS = 1_000;

/** Periodic timers of this and longer fire at its multiples: one wake-up of an idle process costs as much as their work. */
const SHARED_MS = 1_000;

let active: ActiveTime | undefined;

/** CLOCK_MONOTONIC without suspensions of this process. */
function activeNow(): number {
  if (!active) {
    active = new ActiveTime(() => performance.now());
    lookAgain();
  }
  return active.now();
}

function lookAgain(): void {
  setTimeout(lookAgain, sharedWait(systemClock, LOOK_MS)).unref();
}

/** The clocks of this machine. */
export const systemClock: Clock = {
  now: activeNow,
  wall: () => Date.now(),
  worked() {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1_000;
  },
  after(ms, fn) {
    // A time that has passed is due at once; the runtime would warn of it, too.
    const wait = Math.max(0, ms);
    const due = performance.now() + wait;
    const timer = setTimeout(() => {
      noteLag(performance.now() - due);
      fn();
    }, wait);
    return { cancel: () => clearTimeout(timer) };
  },
  sharedWakeUp(ms) {
    if (ms < SHARED_MS) return ms;
    const now = activeNow();
    return Math.ceil(Math.round((now + ms) / SHARED_MS) * SHARED_MS - now);
  },
};

/** Return the ms of work of this thread since some moment: see Clock.worked. */
export const workedMs = (clock: Pick<Clock, "now" | "worked">): number => clock.worked?.() ?? clock.now();

/** Return the ms until a wake-up that a periodic timer of `ms` shares with others: see Clock.sharedWakeUp. */
export const sharedWait = (clock: Pick<Clock, "sharedWakeUp">, ms: number): number =>
  clock.sharedWakeUp?.(ms) ?? ms;

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

/** Run `fn` every `ms` milliseconds until cancelled; first after one interval, or up to half a second more or less. */
export function every(clock: Clock, ms: number, fn: () => void): Timer {
  let timer: Timer;
  const begin = () => {
    timer = clock.after(sharedWait(clock, ms), again);
  };
  const again = () => {
    begin();
    fn();
  };
  begin();
  return { cancel: () => timer.cancel() };
}
