// The last lines of this process's log, for crash reports.

const LINES = 200;
/** Characters of a line. */
const MAX_LINE = 2_000;

const lines: string[] = [];

/** Remember a line, with or without its end. */
export function remember(line: string): void {
  lines.push(line.trimEnd().slice(0, MAX_LINE));
  // Not at each line: it moves all others.
  if (lines.length >= 2 * LINES) lines.splice(0, lines.length - LINES);
}

/** Return the last 200 lines, the oldest first. */
export const recentLines = (): string[] => lines.slice(-LINES);
