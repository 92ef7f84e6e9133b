// Standard error: what is not the answer. Bun's console makes it red on a terminal, whatever NO_COLOR and --color say.
import { writeSync } from "node:fs";

/** Prints a line; written when this returns. */
export function warn(text: string): void {
  try {
    writeSync(2, `${text}\n`);
  } catch {
    // There is nobody to tell.
  }
}
