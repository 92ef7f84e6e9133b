// One line an event, levelled, on standard error: "INFO: 2026/11/21 07:45:13.123456 text", as the original's logs; for the
// journal, which has dates of its own, "<6>text".
import { fstatSync } from "node:fs";
import { printable } from "./printable.ts";

const LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LEVELS)[number];
export const LOG_LEVELS: readonly LogLevel[] = LEVELS;

const TAGS: Record<LogLevel, string> = { debug: "DEBU", info: "INFO", warning: "WARN", error: "ERRO" };
/** syslog(3), as sd-daemon(3) wants them in front of a line. */
const PRIORITIES: Record<LogLevel, number> = { debug: 7, info: 6, warning: 4, error: 3 };

const STDERR = 2;

export interface Log {
  debug(text: string): void;
  info(text: string): void;
  warning(text: string): void;
  error(text: string): void;
}

/** True if a file, standard error unless told otherwise, is the journal: $JOURNAL_STREAM has its device and inode. */
export function isJournal(stream = process.env["JOURNAL_STREAM"], fd = STDERR): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** What stands in front of a line of the journal, and of no other. */
export const journalPrefix = (level: LogLevel) => (isJournal() ? `<${PRIORITIES[level]}>` : "");

/** A log that writes lines of `level` and above by `write` (to standard error unless told otherwise). */
export function createLog(level: LogLevel, write: (line: string) => void = writeStderr): Log {
  const threshold = LEVELS.indexOf(level);
  const at = (own: LogLevel) => {
    if (LEVELS.indexOf(own) < threshold) return () => {};
    const prefix = journalPrefix(own);
    if (prefix !== "") return (text: string) => write(`${prefix}${printable(text)}\n`);
    return (text: string) => write(`${TAGS[own]}: ${timestamp(new Date())} ${printable(text)}\n`);
  };
  return { debug: at("debug"), info: at("info"), warning: at("warning"), error: at("error") };
}

/** A log that keeps nothing. */
export const silentLog: Log = { debug() {}, info() {}, warning() {}, error() {} };

function writeStderr(line: string): void {
  process.stderr.write(line);
}

function timestamp(date: Date): string {
  return date.toISOString().replace("T", " ").replaceAll("-", "/").replace("Z", "");
}
