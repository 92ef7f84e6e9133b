// The inode of a network namespace identifies it, by whatever path.
import { statSync } from "node:fs";

/** Return the inode of the namespace at a path; "" if there is none, or none visible. */
export function netnsInode(path: string | undefined): string {
  if (!path) return "";
  try {
    return String(statSync(path, { bigint: true }).ino);
  } catch {
    return "";
  }
}
