// The log file of a router that runs in the background: standard error is the file. The router itself keeps it within
// bounds, since /run is memory, and nobody else rotates it.
import { closeSync, constants, fstatSync, ftruncateSync, renameSync, statSync, writeSync } from "node:fs";
import { noteUnwritten } from "../log/unexpected.ts";
import { openOwnFile } from "../sys/ownfile.ts";
import { reasonOf } from "../sys/reason.ts";
import { syscall } from "../sys/syscall.ts";

/** Bytes of the file; there is one more of that size, with the lines before. */
export const LOG_LIMIT = 8 << 20;
/** Permissions of the file. */
export const LOG_MODE = 0o640;
export const LOG_FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT;

const STDOUT = 1;
const STDERR = 2;

/** Where the lines before those of a log file are. */
export const previousLog = (file: string) => `${file}.1`;

/**
 * Return what writes lines to standard error if that is `file`, else undefined. The file is renamed to previousLog(file),
 * and begun anew, once it has `limit` bytes. If that fails, it is truncated: a log must not fill a disk. Lines are written
 * at once, so that the last one before a crash is there; process.stderr would keep the old file open, too.
 */
export function boundedLog(file: string, limit = LOG_LIMIT): ((line: string) => void) | undefined {
  if (!isFile(STDERR, file)) return undefined;
  let size = fstatSync(STDERR).size;
  return (line) => {
    if (size >= limit) {
      size = 0;
      const failure = startAnew(file);
      if (failure !== undefined) write(`weave-router: ${failure}\n`);
    }
    write(line);
    size += Buffer.byteLength(line);
  };
}

function write(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch (error) {
    noteUnwritten(error);
  }
}

/** Returns what failed. */
function startAnew(file: string): string | undefined {
  try {
    // What others have begun, or removed, in its place is not ours to rename.
    if (isFile(STDERR, file)) renameSync(file, previousLog(file));
    const fd = openOwnFile(file, LOG_FLAGS, LOG_MODE);
    try {
      for (const standard of isSame(STDOUT, STDERR) ? [STDOUT, STDERR] : [STDERR])
        syscall("replacing the log file", "dup3", fd, standard, 0);
    } finally {
      closeSync(fd);
    }
    return undefined;
  } catch (error) {
    ftruncateSync(STDERR);
    return `cannot rotate the log ${file}, truncated it: ${reasonOf(error)}`;
  }
}

function isFile(fd: number, path: string): boolean {
  try {
    const [ours, theirs] = [fstatSync(fd), statSync(path)];
    return ours.isFile() && ours.ino === theirs.ino && ours.dev === theirs.dev;
  } catch {
    return false;
  }
}

function isSame(one: number, other: number): boolean {
  try {
    return fstatSync(one).ino === fstatSync(other).ino;
  } catch {
    return false;
  }
}
