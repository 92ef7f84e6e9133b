// Findings: what was examined, its state, and the remedy.

import { printedLines } from "../log/printable.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import type { Fix } from "./fix.ts";

/** "ok", "warning" (it works, but…), "problem" (it does not work, or not for long). */
export type Level = "ok" | "warning" | "problem";

export interface Finding {
  /** What was looked at, in a word. */
  readonly check: string;
  readonly level: Level;
  readonly found: string;
  /** What to do. */
  readonly advice?: string;
  /** What 'weave doctor --fix' can do. */
  readonly fixes?: readonly Fix[];
}

export const ok = (check: string, found: string): Finding => ({ check, level: "ok", found });
const wrong =
  (level: Level) =>
  (check: string, found: string, advice: string, fixes: readonly Fix[] = []): Finding => ({
    check,
    level,
    found,
    advice,
    ...(fixes.length > 0 ? { fixes } : {}),
  });
export const warning = wrong("warning");
export const problem = wrong("problem");
/** Return the finding for a problem that a router reports. */
export const reported = ({ Check, Found, Advice }: Omit<ProblemReport, "Address">): Finding =>
  problem(Check, Found, Advice);

/** The findings as text, one or two lines each. */
export function findingsText(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.flatMap(({ check, level, found, advice }) => {
    const line = `${level.padEnd("warning".length)}  ${check.padEnd(width)}  ${found}`;
    return advice === undefined ? [line] : [line, `${" ".repeat("warning".length + width + 4)}-> ${advice}`];
  });
  return printedLines(lines);
}
