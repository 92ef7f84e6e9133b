// Work that may wait for a moment at which this thread has little else to do.
import { type Clock, type Timer, workedMs } from "./clock.ts";

const LOOK_MS = 1_000;
/** Ms of work between two looks of a thread that is quiet. */
const QUIET_MS = 50;
/** Looks for a quiet moment; then it waits for the next time. */
const MAX_LOOKS = 60;

/** Run `fn` after `first` ms, then every `ms`, each time once the thread was quiet for a second; until cancelled. */
export function atQuietTimes(clock: Clock, first: number, ms: number, fn: () => void): Timer {
  const worked = () => workedMs(clock);
  let timer: Timer;
  const wait = (time: number) => {
    timer = clock.after(time, () => look(worked(), MAX_LOOKS));
  };
  const look = (before: number, left: number) => {
    timer = clock.after(LOOK_MS, () => {
      const now = worked();
      if (now - before >= QUIET_MS && left > 1) return look(now, left - 1);
      wait(ms);
      if (now - before < QUIET_MS) fn();
    });
  };
  wait(first);
  return { cancel: () => timer.cancel() };
}

/** The same times, in ms since `start`, for a loop that blocks and has no timers: it asks when it has nothing to do. */
export class QuietTimes {
  #next: number;

  constructor(
    first: number,
    private readonly ms: number,
    start: number,
  ) {
    this.#next = start + first;
  }

  /** Whether one of the times has come since the last one. */
  due(now: number): boolean {
    if (now < this.#next) return false;
    this.#next = now + this.ms;
    return true;
  }
}
