// Lines that could not be written to the log.

let count = 0;
let why = "";

/** Count one. */
export function noteUnwritten(error: unknown): void {
  count++;
  why = error instanceof Error ? error.message : String(error);
}

/** Lines for the status. */
export const unwrittenNotes = (): string[] =>
  count > 0 ? [`cannot write to the log, lost ${count} lines: ${why}`] : [];
