// Kinds of failures, by which exit codes and `--json` tell errors apart. An error says its own in `failure`, so that its class
// need not be loaded to know it.

/** Exit code of each kind. */
export const EXIT_CODES = {
  /** The command line makes no sense. */
  usage: 2,
  "not-root": 1,
  /** The router does not run; or it runs, and does not answer; or it answered with an error. */
  "not-running": 1,
  "no-answer": 1,
  refused: 1,
  "state-file": 3,
  /** A daemon has crashed too often to start again. */
  crashed: 4,
  failed: 1,
} as const;

export type Failure = keyof typeof EXIT_CODES;

/** Return the kind that an error says it is, "failed" by default. */
export function failureOf(error: unknown): Failure {
  const failure = error instanceof Error && "failure" in error ? String(error.failure) : "";
  return Object.hasOwn(EXIT_CODES, failure) ? (failure as Failure) : "failed";
}
