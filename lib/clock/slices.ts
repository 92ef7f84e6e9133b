// Cooperative scheduling: long work runs in time slices between turns of the event loop.
import { type Clock, type Timer, workedMs } from "./clock.ts";

/**
 * Work that can pause at each `yield`; its steps should take a few ms at most. A number that it yields is a wait in ms; 0 waits
 * until the next turn of the event loop.
 */
export type Work<T = void> = Generator<number | undefined, T, void>;

/** A result, or the work that computes it. */
export type Sliced<T> = T | Work<T>;

/** Longest slice in ms unless another is given, to which its last step comes. A request to the control API waits for two or three of them. */
const SLICE_MS = 3;

function isWork<T>(result: Sliced<T>): result is Work<T> {
  return typeof result === "object" && result !== null && "next" in result && Symbol.iterator in result;
}

/** Run the work, if it is work, as a part of the caller's. */
export function* finish<T>(result: Sliced<T>): Work<T> {
  return isWork(result) ? yield* result : result;
}

/** Return what `convert` makes of each element, with a pause after every `step` of them. */
export function* mapInSteps<T, R>(list: readonly T[], step: number, convert: (each: T) => R): Work<R[]> {
  const converted: R[] = [];
  for (const each of list) {
    if (converted.length % step === step - 1) yield;
    converted.push(convert(each));
  }
  return converted;
}

/** Mutual exclusion: one piece of work runs at a time, others wait until it has ended. */
export class OneByOne {
  #busy = false;

  *run<T>(work: () => Work<T>): Work<T> {
    while (this.#busy) yield 0;
    this.#busy = true;
    try {
      return yield* work();
    } finally {
      this.#busy = false;
    }
  }
}

/** Run all of the work at once. Throws if it yields a wait. */
export function atOnce<T>(work: Work<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    if (step.value !== undefined) throw new Error("work that waits cannot be done at once");
  }
}

interface Job {
  readonly work: Work;
  readonly done: (error?: Error) => void;
  givenUp: boolean;
  /** Timer of its wait. */
  timer?: Timer;
}

/** Runs several jobs round robin, one slice of them in each turn of the event loop. */
export class Slices {
  readonly #jobs: Job[] = [];
  /** Jobs whose wait has not passed. */
  readonly #resting = new Set<Job>();
  #timer: Timer | undefined;
  #running: Job | undefined;
  /** Milliseconds of work in this turn of the event loop. */
  #spent = 0;
  #turn: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly sliceMs = SLICE_MS,
  ) {}

  /** Number of unfinished jobs. */
  get waiting(): number {
    return this.#jobs.length + this.#resting.size;
  }

  /**
   * Start a job; it ends at once if it fits into this slice. `done` is called once, with the error that it has thrown. Returns
   * a function that abandons the job, without a call of `done`.
   */
  run(work: Work, done: (error?: Error) => void): () => void {
    const job: Job = { work, done, givenUp: false };
    const idle = this.#jobs.length === 0 && !this.#running && this.#spent < this.sliceMs;
    if (!(idle && this.#advance(job))) this.#put(job);
    return () => this.#giveUp(job);
  }

  /** Abandon all jobs. */
  stop(): void {
    this.#timer?.cancel();
    this.#turn?.cancel();
    // It may be one of them that stops them all.
    if (this.#running) this.#giveUp(this.#running);
    for (const job of [...this.#jobs, ...this.#resting]) this.#giveUp(job);
  }

  #put(job: Job): void {
    this.#jobs.push(job);
    this.#schedule();
  }

  #rest(job: Job, ms: number): void {
    this.#resting.add(job);
    job.timer = this.clock.after(ms, () => {
      this.#resting.delete(job);
      this.#put(job);
    });
  }

  #giveUp(job: Job): void {
    job.givenUp = true;
    if (this.#resting.delete(job)) job.timer?.cancel();
    const at = this.#jobs.indexOf(job);
    if (at >= 0) this.#jobs.splice(at, 1);
    // A job that abandons itself runs on to its next step.
    if (job !== this.#running) job.work.return();
  }

  #schedule(): void {
    this.#timer ??= this.clock.after(0, () => {
      this.#timer = undefined;
      this.#spent = 0;
      try {
        this.#advanceAll();
      } finally {
        // An error in `done` of one job must not stop the others.
        if (this.#jobs.length > 0) this.#schedule();
      }
    });
  }

  /** Continue each job once, as far as the slice goes: short ones do not wait for turns of a loop that is slow. */
  #advanceAll(): void {
    for (let left = this.#jobs.length; left > 0 && this.#spent < this.sliceMs; left--) {
      const job = this.#jobs.shift();
      if (job && !this.#advance(job)) this.#jobs.push(job);
    }
  }

  /** Continue a job. Return true if it has ended or waits for a time, false if it needs another turn of the event loop. */
  #advance(job: Job): boolean {
    const started = workedMs(this.clock);
    // A clock that goes back must not lengthen a slice.
    const spent = () => Math.abs(workedMs(this.clock) - started);
    let failure: Error | undefined;
    let ended = false;
    let wait: number | undefined;
    this.#running = job;
    try {
      // At least one step: jobs that wait for this one must not use up each slice.
      do {
        const step = job.work.next();
        ended = step.done === true;
        if (!step.done) wait = step.value;
      } while (!ended && wait === undefined && !job.givenUp && this.#spent + spent() < this.sliceMs);
    } catch (error) {
      ended = true;
      failure = error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#running = undefined;
    }
    this.#account(spent());
    if (job.givenUp) {
      job.work.return();
      return true;
    }
    if (ended) job.done(failure);
    else if (wait) this.#rest(job, wait);
    return ended || Boolean(wait);
  }

  /** Time counts until the next turn of the event loop. */
  #account(ms: number): void {
    if (ms === 0) return;
    this.#spent += ms;
    this.#turn ??= this.clock.after(0, () => {
      this.#turn = undefined;
      this.#spent = 0;
    });
  }
}
