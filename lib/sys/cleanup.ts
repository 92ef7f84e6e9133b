// Clean-up after a failure, which must not hide it.
import { rmSync } from "node:fs";

/** Remove a file or folder that a failed step may have left; ignore errors: that of the step counts. */
export function removeLeftover(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // On a read-only file system even the removal of a missing file fails.
  }
}
