// One line an event, levelled, on standard error: "INFO: 2026/11/21 07:45:13.123456 text", as the original's logs.
import { printable } from "./printable.ts";

const LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LEVELS)[number];
export const LOG_LEVELS: readonly LogLevel[] = LEVELS;

const TAGS: Record<LogLevel, string> = { debug: "DEBU", info: "INFO", warning: "WARN", error: "ERRO" };

export interface Log {
  debug(text: string): void;
  info(text: string): void;
  warning(text: string): void;
  error(text: string): void;
}

/** A log that writes lines of `level` and above by `write` (to standard error unless told otherwise). */
export function createLog(level: LogLevel, write: (line: string) => void = writeStderr): Log {
  const threshold = LEVELS.indexOf(level);
  const at = (own: LogLevel) => {
    if (LEVELS.indexOf(own) < threshold) return () => {};
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
