// Crash reports of the last 24 h.
import { crashLine, readCrashes, recentCrashes } from "../api/crashes.ts";
import { type Finding, warning } from "./finding.ts";

/** What crashed lately; nothing where nothing did. */
export function crashFindings(now = Date.now(), crashes = readCrashes()): Finding[] {
  const recent = recentCrashes(now, crashes);
  const last = recent.at(-1);
  if (!last) return [];
  const count = recent.length === 1 ? "1 crash report" : `${recent.length} crash reports`;
  return [
    warning(
      "crashes",
      `${count} within 24 h, the last at ${last.time}: ${crashLine(last)}`,
      `see ${last.file}; 'weave bugreport' packs all of them: attach it when you report the fault`,
    ),
  ];
}
