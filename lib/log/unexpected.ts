// Uncaught errors of timers, event handlers and detached promises. A daemon counts and logs them, and is told of them for a crash
// report; other programs, and tests, end by them.
import { TokenBucket } from "../clock/tokenbucket.ts";
import { limitedWarnings } from "./limited.ts";
import type { Log } from "./log.ts";
import { unwrittenNotes } from "./unwritten.ts";

/** Uncaught errors since the start of this process. */
export interface UnexpectedErrors {
  readonly count: number;
  /** The last one as text; undefined if there was none. */
  readonly last: string | undefined;
}

let count = 0;
let last: string | undefined;
let report: ((error: unknown, what: string, caught?: boolean) => void) | undefined;

/** Burst, and number a minute, above which the state of the process must be wrong. */
export const STORM = 1_000;

/** An unexpected error; `caught` where a part of the program failed on its own, and the rest can go on. */
export type UnexpectedError = { readonly error: unknown; readonly what: string; readonly caught: boolean };

/** Places whose failures are told of. */
const MAX_PLACES = 100;

/**
 * Make this process survive uncaught errors: each is counted, and logged at most once a minute per place that threw it. Calls
 * `storm` once if there are more than STORM a minute, `tell` for each uncaught error, and for caught ones once a place. For
 * daemons.
 */
export function surviveUnexpectedErrors(
  log: Log,
  storm: (why: string) => void,
  tell: (unexpected: UnexpectedError) => void = () => {},
): void {
  const places = new Set<string>();
  const rate = new TokenBucket(STORM, STORM / 60, performance.now());
  let calm = true;
  const warn = limitedWarnings({ warning: log.error }, () => performance.now());
  report = (error, what, caught = true) => {
    count++;
    last = `${what}: ${textOf(error)}`;
    if (calm && !rate.take(performance.now())) {
      calm = false;
      storm(`more than ${STORM} unexpected errors within a minute, the last in ${last}`);
    }
    const place = placeOf(error) ?? what;
    warn(place, `unexpected error in ${last}`, { place: placeOf(error) });
    const isNew = !places.has(place) && places.size < MAX_PLACES;
    if (isNew) places.add(place);
    if (!caught || isNew) tell({ error, what, caught });
  };
  process.on("uncaughtException", (error) => report?.(error, "a callback", false));
  process.on("unhandledRejection", (error) => report?.(error, "a detached promise", false));
}

export function unexpectedErrors(): UnexpectedErrors {
  return { count, last };
}

/** Lines for the status. */
export function unexpectedNotes(): string[] {
  return [
    ...(count > 0 ? [`${count} unexpected errors since the start, the last in ${last}; see the log`] : []),
    ...unwrittenNotes(),
  ];
}

/** Count and tell of a part that has failed and is started again. */
export function noteFailure(what: string, error: unknown): void {
  report?.(error, what);
}

/** Count and tell of a part that has failed and cannot be started again: a daemon starts again as a whole. */
export function noteFatal(what: string, error: unknown): void {
  report?.(error, what, false);
}

/** Run one of several independent functions; an error is reported with `what`, not thrown. */
export function guarded(what: string, fn: () => void): void {
  try {
    fn();
  } catch (error) {
    if (!report) throw error;
    report(error, what);
  }
}

/** Detach a promise: its rejection is reported with `what`. */
export function detached(what: string, promise: Promise<unknown>): void {
  promise.catch((error) => {
    if (!report) throw error;
    report(error, what);
  });
}

const textOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Return the top frame of the stack, which no stranger can choose. */
function placeOf(error: unknown): string | undefined {
  return error instanceof Error ? /^ +at (.*)$/m.exec(error.stack ?? "")?.[1] : undefined;
}
