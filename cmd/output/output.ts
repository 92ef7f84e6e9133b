// Standard output and standard error of our commands.
import { writeSync } from "node:fs";
import { journalPrefix } from "../../lib/log/log.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { columnsOf, fit } from "./fitting.ts";

/** Writes text as it is. Not by console.log, which hides that it could not. */
export function write(text: string): void {
  process.stdout.write(text);
}

export const print = (line: string): void => write(`${line}\n`);

/** Writes text for people: a terminal gets lines that fit, a script each line as it is. */
export function show(text: string): void {
  write(process.stdout.isTTY ? fit(text, columnsOf(process.stdout)) : text);
}

/** Prints JSON as a person can read it. */
export const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2));

/** Prints a line on standard error; written when this returns. Bun's console would make it red, whatever NO_COLOR says. */
export function warn(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // There is nobody to tell.
  }
}

/** Ends the program where its output cannot be written: silently where nobody reads it (`| head -1`), else with one line. */
export function endWithOutput(program: string): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    warn(`${journalPrefix("error")}${program}: cannot write standard output: ${reasonOf(error)}`);
    process.exit(1);
  });
}
