// Files that may well not be there.
import { readFileSync } from "node:fs";

/** What is in a file, as text; "" where it cannot be read. */
export function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
