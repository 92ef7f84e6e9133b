// Help, one-line errors and exit codes of all commands. 1: failure; 2: invalid command line; 3: unusable state file; 4: crashed too often.

import { requireAbsoluteFolders } from "../lib/api/paths.ts";
import type { Failure, Shape } from "../lib/api/shapes.ts";
import { journalPrefix } from "../lib/log/log.ts";
import { escapeUnprintable, printable } from "../lib/log/printable.ts";
import { causeOf } from "../lib/sys/cause.ts";
import { EXIT_CODES, failureOf } from "../lib/sys/failure.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { NotRootError } from "../lib/sys/rights.ts";
import { asksForHelp, type Command, readArguments, refuseUnexpected, UsageError } from "./arguments.ts";
import { colours } from "./output/colour.ts";
import { warn, write } from "./output/output.ts";
import { stdout } from "./output/stdout.ts";

/** The error that ended a daemon; its line is in the log already. */
export class LoggedError extends Error {
  override readonly name = "LoggedError";
}

/** Run a command; on failure, print one line and exit. */
export async function run(program: string, command: Command, argv: readonly string[]): Promise<void> {
  try {
    const { style, rest } = colours(argv, stdout);
    if (asksForHelp(rest, command.options, command.passesOver)) {
      const { usage } = await import("../lib/help/usage.ts");
      write(usage(program, command, style));
      return;
    }
    const args = { ...readArguments(command, rest), style };
    refuseUnexpected(command, args);
    requireAbsoluteFolders();
    for (const warning of args.warnings ?? []) warn(`${program}: ${warning}`);
    await command.run(args);
  } catch (error) {
    fail(program, error, argv.includes("--json"));
    // Timers and sockets of the command would keep the process alive.
    process.exit();
  }
}

/** Print an error, in one line or as JSON, and set the exit code. */
export function fail(program: string, error: unknown, json = false): void {
  process.exitCode = exitCodeOf(error instanceof LoggedError ? error.cause : error);
  if (error instanceof LoggedError) return;
  const message = withRemedy(error);
  const help = error instanceof UsageError ? `see '${program} --help'` : undefined;
  warn(
    json
      ? escapeUnprintable(
          JSON.stringify({
            error: { code: failureOf(error), message, hint: help ?? hintIn(message) } satisfies Shape<
              typeof Failure
            >["error"],
          }),
        )
      : `${journalPrefix("error")}${program}: ${printable(message)}${help === undefined ? "" : ` (${help})`}`,
  );
}

/** The message; where a connection failed and it names no remedy, with that of the cause. */
function withRemedy(error: unknown): string {
  const message = reasonOf(error);
  const remedy = error instanceof Error ? causeOf(error.cause)?.remedy : undefined;
  return !remedy || message.includes("; ") ? message : `${message}; ${remedy}`;
}

/** Messages are "what failed, on what: cause; remedy". */
function hintIn(message: string): string | null {
  const at = message.lastIndexOf("; ");
  return at < 0 ? null : message.slice(at + 2);
}

/** The exit code of an error: its own, or that of its kind. */
function exitCodeOf(error: unknown): number {
  const own = error instanceof Error && "exitCode" in error ? error.exitCode : undefined;
  return typeof own === "number" ? own : EXIT_CODES[failureOf(error)];
}

/** Throw unless we are root: nearly everything we do to a kernel needs it. */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new NotRootError();
}
