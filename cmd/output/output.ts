// Standard output and standard error of our commands.
import { writeSync } from "node:fs";
import { journalPrefix } from "../../lib/log/log.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { columnsOf, fit } from "./fitting.ts";

/** Write text as it is. console.log would hide write errors. */
export function write(text: string): void {
  process.stdout.write(text);
}

export const print = (line: string): void => write(`${line}\n`);

/** Write text for people, wrapped to a terminal; scripts get lines as they are. */
export function show(text: string): void {
  write(process.stdout.isTTY ? fit(text, columnsOf(process.stdout)) : text);
}

/** Print JSON as a person can read it. */
export const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2));

/** Print a line on standard error; written when this returns. Bun's console would make it red, whatever NO_COLOR says. */
export function warn(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // Standard error is closed.
  }
}

/** End the program if its output cannot be written: silently if the reader has gone (`| head -1`), else with an error. */
export function endWithOutput(program: string): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    warn(`${journalPrefix("error")}${program}: cannot write standard output: ${reasonOf(error)}`);
    process.exit(1);
  });
}
