// Open private files and folders safely: refuse symbolic links, FIFOs and devices in their place.
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmdirSync,
} from "node:fs";
import { dirname } from "node:path";
import { reasonOf } from "./reason.ts";

/** The path of a private file or folder is occupied or unsafe. */
class InTheWayError extends Error {
  override readonly name = "InTheWayError";
}

const SAFE = constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Open a regular file of this user without blocking; `mode` applies to a new file. Throws InTheWayError for any other
 * kind of file or owner, and if open(2) fails.
 */
export function openOwnFile(path: string, flags: number, mode: number): number {
  let fd: number;
  try {
    fd = openSync(path, flags | SAFE, mode);
  } catch (error) {
    throw new InTheWayError(`cannot open ${path}: ${reasonOf(error, path)}`, { cause: error });
  }
  const stat = fstatSync(fd);
  if (!stat.isFile() || stat.uid !== process.geteuid?.()) {
    closeSync(fd);
    throw new InTheWayError(`${path} is not a regular file of this user; remove it`);
  }
  return fd;
}

/** Create a folder with mode 755, and those above it, or none; throws InTheWayError if that fails, or if it is not a folder, or writable by others. */
export function makeOwnFolder(path: string): void {
  const missing = missingFolders(path);
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
  } catch (error) {
    if (!existsSync(path)) {
      for (const made of missing) removeEmpty(made);
      throw new InTheWayError(`cannot make the folder ${path}: ${reasonOf(error, path)}`, { cause: error });
    }
  }
  const stat = lstatSync(path);
  if (!stat.isDirectory()) throw new InTheWayError(`${path} is not a folder; remove it`);
  if (stat.uid !== process.geteuid?.() || (stat.mode & 0o022) !== 0) {
    throw new InTheWayError(
      `${path} is writable by other users (uid ${stat.uid}, mode ${(stat.mode & 0o7777).toString(8)}): ` +
        "change its owner to this user and its mode to 755",
    );
  }
}

/** Return the folder and those above it that do not exist, the lowest first. */
function missingFolders(path: string): string[] {
  return existsSync(path) || dirname(path) === path ? [] : [path, ...missingFolders(dirname(path))];
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It was not made, or another program has put something there.
  }
}
