// Visible processes, from /proc.
import { readdirSync } from "node:fs";

/** Return their pids; any process may end before it is looked at. */
export function processIds(): string[] {
  try {
    return readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  } catch {
    return [];
  }
}
