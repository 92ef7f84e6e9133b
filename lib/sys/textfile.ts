// Text files that may not exist.
import { readFileSync } from "node:fs";

/** Return the text of a file; "" if it cannot be read. */
export function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
