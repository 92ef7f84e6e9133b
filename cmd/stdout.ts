// Standard output that cannot be written: the reader has gone (`| head -1`), or the disk is full.
import { reasonOf } from "../lib/sys/reason.ts";
import { fail } from "./main.ts";

/** Prints a line. Not by console.log, which hides that it could not. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Ends the program where its output cannot be written: silently where nobody reads it, else with one line. */
export function endWithOutput(program: string): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    fail(program, new Error(`cannot write standard output: ${reasonOf(error)}`));
    process.exit();
  });
}
