// Errors that nobody caught: in a timer, an event handler or a detached promise. A daemon reports them here and goes on;
// other programs end by them, as do tests.
import { TokenBucket } from "../clock/tokenbucket.ts";
import { limitedWarnings } from "./limited.ts";
import type { Log } from "./log.ts";

/** What nobody caught since this process started. */
export interface UnexpectedErrors {
  readonly count: number;
  /** The latest one, in words; undefined where there was none. */
  readonly last: string | undefined;
}

let count = 0;
let last: string | undefined;
let unwritten = 0;
let whyUnwritten = "";
let report: ((error: unknown, what: string) => void) | undefined;

/** So many at once, and a minute, are no accidents any more: some state cannot be right. */
export const STORM = 1_000;

/**
 * Makes this process survive errors that nobody caught: each is counted, and logged at most once a minute per place it
 * was thrown at. Calls `storm`, once, if there are more than STORM of them a minute. For daemons.
 */
export function surviveUnexpectedErrors(log: Log, storm: (why: string) => void): void {
  const rate = new TokenBucket(STORM, STORM / 60, performance.now());
  let calm = true;
  const warn = limitedWarnings({ warning: log.error }, () => performance.now());
  report = (error, what) => {
    count++;
    last = `${what}: ${textOf(error)}`;
    if (calm && !rate.take(performance.now())) {
      calm = false;
      storm(`more than ${STORM} unexpected errors within a minute, the last in ${last}`);
    }
    warn(placeOf(error) ?? what, `unexpected error in ${last}`, { place: placeOf(error) });
  };
  // On a full disk, or with nobody who reads it, the log is lost, and nothing else.
  process.stderr.on("error", noteUnwritten);
  process.on("uncaughtException", (error) => report?.(error, "a callback"));
  process.on("unhandledRejection", (error) => report?.(error, "a detached promise"));
}

/** Counts a line that could not be written to the log. */
export function noteUnwritten(error: unknown): void {
  unwritten++;
  whyUnwritten = textOf(error);
}

export function unexpectedErrors(): UnexpectedErrors {
  return { count, last };
}

/** What of them is worth a line in status, and whether there is a log to look into. */
export function unexpectedNotes(): string[] {
  return [
    ...(count > 0 ? [`${count} unexpected errors since the start, the last in ${last}; see the log`] : []),
    ...(unwritten > 0 ? [`cannot write to the log, lost ${unwritten} lines: ${whyUnwritten}`] : []),
  ];
}

/** Runs one of several things that do not depend on each other; what it throws is reported as of `what`. */
export function guarded(what: string, fn: () => void): void {
  try {
    fn();
  } catch (error) {
    if (!report) throw error;
    report(error, what);
  }
}

/** Lets a promise go: nobody waits for it, and its failure is reported as `what`. */
export function detached(what: string, promise: Promise<unknown>): void {
  promise.catch((error) => {
    if (!report) throw error;
    report(error, what);
  });
}

const textOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** The topmost line of the stack, without its "at": no stranger chooses it. */
function placeOf(error: unknown): string | undefined {
  return error instanceof Error ? /^ +at (.*)$/m.exec(error.stack ?? "")?.[1] : undefined;
}
