// What all our commands share: help, one-line errors, exit codes. 1: failure; 2: wrong command line; 3: the state file cannot
// be used.

import { reasonOf } from "../lib/sys/reason.ts";
import { asksForHelp, type Command, readArguments, UsageError } from "./arguments.ts";
import { colours } from "./colour.ts";

/** Runs a command; on failure, prints one line and exits. */
export async function run(program: string, command: Command, argv: readonly string[]): Promise<void> {
  try {
    const { style, rest } = colours(argv, process.stdout);
    if (asksForHelp(rest, command.options)) {
      const { usage } = await import("../lib/help/usage.ts");
      process.stdout.write(usage(program, command, style));
      return;
    }
    const args = readArguments(command, rest);
    for (const warning of args.warnings ?? []) console.error(`${program}: ${warning}`);
    await command.run(args);
  } catch (error) {
    fail(program, error);
    // Timers and sockets of the command would keep the process alive.
    process.exit();
  }
}

/** Prints an error and sets the exit code. */
export function fail(program: string, error: unknown): void {
  const message = reasonOf(error);
  console.error(`${program}: ${message}${error instanceof UsageError ? ` (see '${program} --help')` : ""}`);
  process.exitCode = exitCodeOf(error);
}

// Told by name: the rooms these come from are only loaded where they are needed.
const EXIT_CODES: Record<string, number> = {
  UsageError: 2,
  OptionError: 2,
  AddonError: 2,
  AgentNameError: 2,
  StoreError: 3,
};

function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error)) return 1;
  if ("exitCode" in error && typeof error.exitCode === "number") return error.exitCode;
  return EXIT_CODES[error.name] ?? 1;
}

/** Throws unless we are root: nearly everything we do to a kernel needs it. */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new Error("must be run as root");
}
