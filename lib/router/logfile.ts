// The log file of a router in the background, which is its standard error. The router rotates it itself: /run is memory.
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { noteUnwritten } from "../log/unwritten.ts";
import { fileIdentity } from "../sys/fileidentity.ts";
import { makeOwnFolder, openOwnFile } from "../sys/ownfile.ts";
import { reasonOf } from "../sys/reason.ts";
import { syscall } from "../sys/syscall.ts";

/** Bound in bytes of the file; the previous file is as large. */
export const LOG_LIMIT = 8 << 20;
/** Permissions of the file. */
export const LOG_MODE = 0o640;
export const LOG_FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT;

const STDOUT = 1;
const STDERR = 2;

/** Path of the rotated file. */
export const previousLog = (file: string) => `${file}.1`;

/**
 * Return a function that writes lines to standard error, if that is `file`, else undefined. At `limit` bytes the file is
 * renamed to previousLog(file) and begun anew; if that fails, it is truncated: a log must not fill a disk. Writes are
 * synchronous, so that the last line before a crash is written; process.stderr would also keep the old file open.
 */
export function boundedLog(file: string, limit = LOG_LIMIT): ((line: string) => void) | undefined {
  if (!isFile(STDERR, file)) return undefined;
  bounded = file;
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

/** Bytes of the end of a log that are read for a crash report. */
const END_BYTES = 64 * 1024;

/** Return the last lines of the log, if standard error is that file: those of the program that was there before, too. */
export function lastLines(file: string): string[] {
  if (!isFile(STDERR, file)) return [];
  const text = readFileSync(file).subarray(-END_BYTES).toString();
  return text.trimEnd().split("\n").slice(-200);
}

/** The log file that standard error is. */
let bounded: string | undefined;

/** Begin the file of this log again if it was removed; return whether it was. Throws the reason it cannot. */
export function restoreLog(file: string): boolean {
  const removed = fstatSync(STDERR);
  if (file !== bounded || removed.nlink > 0 || existsSync(file)) return false;
  makeOwnFolder(dirname(file));
  const failure = startAnew(file);
  if (failure !== undefined) throw new Error(failure);
  return true;
}

function write(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch (error) {
    noteUnwritten(error);
  }
}

/** Rotate the file; returns why that failed, undefined if it did not. */
function startAnew(file: string): string | undefined {
  try {
    // A file that another program has put in its place is not renamed.
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

const isFile = (fd: number, path: string) => isSame(fd, path) && fstatSync(fd).isFile();

function isSame(one: number, other: number | string): boolean {
  const file = fileIdentity(one);
  return file !== undefined && file === fileIdentity(other);
}
