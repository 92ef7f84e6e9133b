// Standard output and standard error of our commands.
import { writeSync } from "node:fs";
import { journalPrefix } from "../../lib/log/log.ts";
import { escapeUnprintable, printableLines } from "../../lib/log/printable.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { columnsOf, fit } from "./fitting.ts";
import { stdout } from "./stdout.ts";

/** Handle an error of standard output. */
let failed = (error: unknown): void => {
  throw error;
};

/** Write text or bytes as they are. console.log would hide write errors. */
export function write(data: string | Uint8Array): void {
  try {
    stdout.write(data);
  } catch (error) {
    failed(error);
  }
}

export const print = (line: string): void => write(`${line}\n`);

/** Write text for people, wrapped to a terminal; scripts get whole lines. Others choose the names in it. */
export function show(text: string): void {
  const safe = printableLines(text);
  write(stdout.isTTY ? fit(safe, columnsOf(process.stdout)) : safe);
}

/** Print JSON as a person can read it, or on one line. */
export const printJson = (value: unknown, indent = 2): void =>
  print(escapeUnprintable(JSON.stringify(value, null, indent)));

/** Print a line on standard error; written when this returns. Bun's console would make it red, whatever NO_COLOR says. */
export function warn(line: string): void {
  try {
    writeSync(2, `${printableLines(line)}\n`);
  } catch {
    // Standard error is closed.
  }
}

/** End the program if its output cannot be written: silently if the reader has gone (`| head -1`), else with an error. */
export function endWithOutput(program: string): void {
  failed = (error) => {
    if ((error as NodeJS.ErrnoException).code === "EPIPE") process.exit(0);
    warn(`${journalPrefix("error")}${program}: cannot write standard output: ${reasonOf(error)}`);
    process.exit(1);
  };
}
