// Files and folders that only we write: a symbolic link, FIFO or device in their place is refused, not followed.
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync } from "node:fs";
import { reasonOf } from "./reason.ts";

/** Something else is in the place of a file or folder of ours. */
export class InTheWayError extends Error {
  override readonly name = "InTheWayError";
}

const SAFE = constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Opens a regular file; `mode` is that of a new one. Throws InTheWayError for anything that is no regular file of this
 * user, and for what open(2) refuses. Never blocks.
 */
export function openOwnFile(path: string, flags: number, mode: number): number {
  let fd: number;
  try {
    fd = openSync(path, flags | SAFE, mode);
  } catch (error) {
    throw new InTheWayError(`cannot open ${path}: ${reasonOf(error)}`, { cause: error });
  }
  const stat = fstatSync(fd);
  if (!stat.isFile() || stat.uid !== process.geteuid?.()) {
    closeSync(fd);
    throw new InTheWayError(`${path} is in the way: it is no regular file of this user; remove it`);
  }
  return fd;
}

/** Makes a folder that others can read but not write; throws InTheWayError where they could, or for a symbolic link. */
export function makeOwnFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o755 });
  const stat = lstatSync(path);
  if (!stat.isDirectory()) throw new InTheWayError(`${path} is in the way: it is no folder; remove it`);
  if (stat.uid !== process.geteuid?.() || (stat.mode & 0o022) !== 0) {
    throw new InTheWayError(
      `${path} can be written by other users (uid ${stat.uid}, mode ${(stat.mode & 0o7777).toString(8)}): ` +
        "give it to this user, mode 755",
    );
  }
}
