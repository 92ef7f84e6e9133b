// The processes that can be seen from here, by /proc.
import { readdirSync } from "node:fs";

/** Their ids, as /proc has them; any may end before it is looked at. */
export function processIds(): string[] {
  try {
    return readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  } catch {
    return [];
  }
}
