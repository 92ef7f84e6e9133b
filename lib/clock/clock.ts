// Time as the protocols see it: passed in, never asked of the machine, so that a test can be the clock.

/** Something that was set to happen later and can be called off. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Runs `fn` once, `ms` milliseconds from now. */
  after(ms: number, fn: () => void): Timer;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

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
