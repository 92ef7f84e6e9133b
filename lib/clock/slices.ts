// Work that may take long, done in slices: whoever shares the event loop gets its turn in between.
import type { Clock, Timer } from "./clock.ts";

/** Work that may be put aside at each `yield`. Its steps should take a few milliseconds at most. */
export type Work<T = void> = Generator<void, T, void>;

/** The result, or the work that leads to it. */
export type Sliced<T> = T | Work<T>;

/** Longest slice, in ms; with the step that is under way when it ends, the loop is held for less than 20. */
const SLICE_MS = 8;

function isWork<T>(result: Sliced<T>): result is Work<T> {
  return typeof result === "object" && result !== null && "next" in result && Symbol.iterator in result;
}

/** Does the work, if it is work, within the caller's. */
export function* finish<T>(result: Sliced<T>): Work<T> {
  return isWork(result) ? yield* result : result;
}

/** Does all of the work at once. */
export function atOnce<T>(work: Work<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

interface Job {
  readonly work: Work;
  readonly done: (error?: Error) => void;
  givenUp: boolean;
}

/** Does several pieces of work in turn, all of them together one slice at a time. */
export class Slices {
  readonly #jobs: Job[] = [];
  #timer: Timer | undefined;
  #running: Job | undefined;
  /** Milliseconds of the present turn of the event loop that have gone into work. */
  #spent = 0;
  #turn: Timer | undefined;

  constructor(private readonly clock: Clock) {}

  /** Pieces of work that are not done yet. */
  get waiting(): number {
    return this.#jobs.length;
  }

  /**
   * Begins the work, and does all of it now where little is to be done. `done` is called once, when it has ended, with
   * what it has thrown. Returns how to give it up; `done` is not called then.
   */
  run(work: Work, done: (error?: Error) => void): () => void {
    const job: Job = { work, done, givenUp: false };
    const idle = this.#jobs.length === 0 && !this.#running && this.#spent < SLICE_MS;
    if (!(idle && this.#advance(job))) {
      this.#jobs.push(job);
      this.#schedule();
    }
    return () => this.#giveUp(job);
  }

  /** Gives up all work. */
  stop(): void {
    this.#timer?.cancel();
    this.#turn?.cancel();
    for (const job of [...this.#jobs]) this.#giveUp(job);
  }

  #giveUp(job: Job): void {
    job.givenUp = true;
    const at = this.#jobs.indexOf(job);
    if (at >= 0) this.#jobs.splice(at, 1);
    // Work that gives itself up goes on to its next step.
    if (job !== this.#running) job.work.return();
  }

  #schedule(): void {
    this.#timer ??= this.clock.after(0, () => {
      this.#timer = undefined;
      this.#spent = 0;
      const job = this.#jobs.shift();
      try {
        if (job && !this.#advance(job)) this.#jobs.push(job);
      } finally {
        // What one job's end throws does not keep the others waiting.
        if (this.#jobs.length > 0) this.#schedule();
      }
    });
  }

  /** Goes on with a job until it is done (true) or the slice is over. */
  #advance(job: Job): boolean {
    const started = this.clock.now();
    // A clock that is set back does not make a slice longer.
    const spent = () => Math.abs(this.clock.now() - started);
    let failure: Error | undefined;
    let ended = false;
    this.#running = job;
    try {
      while (!ended && !job.givenUp && this.#spent + spent() < SLICE_MS)
        ended = job.work.next().done === true;
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
    return ended;
  }

  /** What was spent counts until the loop has turned. */
  #account(ms: number): void {
    if (ms === 0) return;
    this.#spent += ms;
    this.#turn ??= this.clock.after(0, () => {
      this.#turn = undefined;
      this.#spent = 0;
    });
  }
}
