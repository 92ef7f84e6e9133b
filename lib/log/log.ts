// Structured logs on standard error, one line an event: "INFO: 2026/11/21 07:45:13.123456 text name=value" as the original, or
// JSON {"time":…,"level":"info","msg":"text","name":"value"}; for the journal, which has its own times, "<6>text name=value".
import { fstatSync } from "node:fs";
import { type Fields, logfmt } from "./fields.ts";
import { escapeUnprintable, printable } from "./printable.ts";
import { remember } from "./recent.ts";
import { noteUnwritten } from "./unwritten.ts";

const LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LEVELS)[number];
export const LOG_LEVELS: readonly LogLevel[] = LEVELS;

export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

const TAGS: Record<LogLevel, string> = { debug: "DEBU", info: "INFO", warning: "WARN", error: "ERRO" };
/** Priorities of syslog(3), as prefixes for sd-daemon(3). */
const PRIORITIES: Record<LogLevel, number> = { debug: 7, info: 6, warning: 4, error: 3 };

const STDERR = 2;

type Write = (text: string, fields?: Fields) => void;

/** The text says what happened; what somebody searches for are fields. The functions need no `this`. */
export interface Log {
  readonly debug: Write;
  readonly info: Write;
  readonly warning: Write;
  readonly error: Write;
  /** Return a child logger with these fields in every line, before the line's own. */
  with(fields: Fields): Log;
}

/** Return a log that passes each line to `emit`. */
export function logTo(emit: (level: LogLevel, text: string, fields: Fields) => void, own: Fields = {}): Log {
  const at =
    (level: LogLevel): Write =>
    (text, fields) =>
      emit(level, text, fields ? { ...own, ...fields } : own);
  return {
    debug: at("debug"),
    info: at("info"),
    warning: at("warning"),
    error: at("error"),
    with: (fields) => logTo(emit, { ...own, ...fields }),
  };
}

/** True if standard error, or `fd`, is the journal: $JOURNAL_STREAM has its device and inode. */
export function isJournal(stream = process.env["JOURNAL_STREAM"], fd = STDERR): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Return the prefix of a line for the journal; empty elsewhere. */
export const journalPrefix = (level: LogLevel) => (isJournal() ? `<${PRIORITIES[level]}>` : "");

/** Return a log of lines of `level` and above, to standard error unless `write` is given. */
export function createLog(
  level: LogLevel,
  format: LogFormat = "text",
  write: (line: string) => void = writeStderr,
): Log {
  const threshold = LEVELS.indexOf(level);
  const journal = isJournal();
  return logTo((own, text, fields) => {
    if (LEVELS.indexOf(own) < threshold) return;
    const prefix = journal ? `<${PRIORITIES[own]}>` : "";
    const line = `${prefix}${(format === "json" ? jsonLine : textLine)(own, text, fields, journal)}\n`;
    remember(line);
    write(line);
  });
}

function textLine(level: LogLevel, text: string, fields: Fields, journal: boolean): string {
  const line = printable(text) + logfmt(fields);
  return journal ? line : `${TAGS[level]}: ${timestamp(new Date())} ${line}`;
}

/** Return a line of JSON, with the time in RFC 3339, UTC. */
function jsonLine(level: LogLevel, text: string, fields: Fields, journal: boolean): string {
  const time = journal ? {} : { time: new Date().toISOString() };
  return escapeUnprintable(JSON.stringify({ ...time, level, msg: text, ...fields }));
}

/** A log that drops all lines. */
export const silentLog: Log = logTo(() => {});

/** Characters of lines that wait for the reader of a pipe, beyond which lines are lost: it may have stopped for good. */
const MAX_WAITING = 1 << 20;
let waiting = 0;

let opened: NodeJS.WriteStream | undefined;

/** Return standard error as a stream. Opening it takes 2 ms, which a router that logs to a file does not spend. */
function standardError(): NodeJS.WriteStream {
  // On a full disk, or without a reader, only the log is lost.
  opened ??= process.stderr.on("error", noteUnwritten);
  return opened;
}

function writeStderr(line: string): void {
  if (waiting > MAX_WAITING) return noteUnwritten(new Error("its reader does not keep up"));
  waiting += line.length;
  standardError().write(line, () => {
    waiting -= line.length;
  });
}

function timestamp(date: Date): string {
  return date.toISOString().replace("T", " ").replaceAll("-", "/").replace("Z", "");
}
