// Causes and remedies of disk errors of the state file: SQLite often reports only "disk I/O error".
import { accessSync, constants, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { reasonOf } from "../sys/reason.ts";
import { codeOf } from "./error.ts";

/** Free bytes that SQLite needs: the index of its log has 32 kB. */
const LEAST_ROOM = 64 * 1024;

/** Return whether a file cannot be written because its disk is full; SQLite does not always say so. */
export function isFull(path: string, error: unknown): boolean {
  if (codeOf(error) === "SQLITE_FULL" || (error as NodeJS.ErrnoException).code === "ENOSPC") return true;
  return hasNoRoom(path);
}

/** Return what to do about a folder that cannot be written to; undefined where it can. */
export function folderRemedy(path: string): string | undefined {
  const folder = dirname(path);
  try {
    accessSync(folder, constants.W_OK);
    return undefined;
  } catch (denied) {
    const readOnly = (denied as NodeJS.ErrnoException).code === "EROFS";
    return readOnly
      ? `the file system of ${folder} is read-only: mount it read-write, or move the file with WEAVE_STATE_DIR`
      : `${folder} cannot be written to: ${reasonOf(denied, folder)}`;
  }
}

/** Return whether the disk of a file has less room than SQLite needs. */
export function hasNoRoom(path: string): boolean {
  try {
    const { blocks, bavail, bsize } = statfsSync(dirname(path));
    // Those of the kernel, /proc above all, have no blocks at all.
    return blocks > 0 && bavail * bsize < LEAST_ROOM;
  } catch {
    return false;
  }
}
