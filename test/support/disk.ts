// Disks that are full.
import { appendFileSync } from "node:fs";

/** Writes a file until its disk is full. */
export function fillUp(path: string): void {
  const block = new Uint8Array(4096);
  try {
    for (;;) appendFileSync(path, block);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
  }
}
