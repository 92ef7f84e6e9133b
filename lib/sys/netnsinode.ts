// What tells network namespaces apart, whatever path they are seen by.
import { statSync } from "node:fs";

/** The inode of the namespace at a path; "" where there is none to be seen. */
export function netnsInode(path: string | undefined): string {
  if (!path) return "";
  try {
    return String(statSync(path, { bigint: true }).ino);
  } catch {
    return "";
  }
}
