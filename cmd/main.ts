// What all our commands share: help, one-line errors, exit codes. 1: failure; 2: wrong command line; 3: the state file cannot
// be used.

import type { Failure as FailureShape, Shape } from "../lib/api/shapes.ts";
import { journalPrefix } from "../lib/log/log.ts";
import { escapeUnprintable, printable } from "../lib/log/printable.ts";
import { causeOf } from "../lib/sys/cause.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { NotRootError } from "../lib/sys/rights.ts";
import { asksForHelp, type Command, readArguments, refuseUnexpected, UsageError } from "./arguments.ts";
import { colours } from "./colour.ts";
import { warn } from "./stderr.ts";

/** Runs a command; on failure, prints one line and exits. */
export async function run(program: string, command: Command, argv: readonly string[]): Promise<void> {
  try {
    const { style, rest } = colours(argv, process.stdout);
    if (asksForHelp(rest, command.options, command.passesOver)) {
      const { usage } = await import("../lib/help/usage.ts");
      process.stdout.write(usage(program, command, style));
      return;
    }
    const args = { ...readArguments(command, rest), style };
    refuseUnexpected(command, args);
    for (const warning of args.warnings ?? []) warn(`${program}: ${warning}`);
    await command.run(args);
  } catch (error) {
    fail(program, error, argv.includes("--json"));
    // Timers and sockets of the command would keep the process alive.
    process.exit();
  }
}

/** Prints an error, in one line or as JSON, and sets the exit code. */
export function fail(program: string, error: unknown, json = false): void {
  if (error instanceof Error && error.name === LOGGED) {
    process.exitCode = kindOf(error.cause).exit;
    return;
  }
  const message = withRemedy(error);
  const { code, exit } = kindOf(error);
  const help = error instanceof UsageError ? `see '${program} --help'` : undefined;
  warn(
    json
      ? escapeUnprintable(
          JSON.stringify({
            error: { code, message, hint: help ?? hintIn(message) } satisfies Failure["error"],
          }),
        )
      : `${journalPrefix("error")}${program}: ${printable(message)}${help === undefined ? "" : ` (${help})`}`,
  );
  process.exitCode = exit;
}

/** The message; where a connection failed and it names no remedy, with that of the cause. */
function withRemedy(error: unknown): string {
  const message = reasonOf(error);
  const remedy = error instanceof Error ? causeOf(error.cause)?.remedy : undefined;
  return !remedy || message.includes("; ") ? message : `${message}; ${remedy}`;
}

type Failure = Shape<typeof FailureShape>;

/** Messages are "what failed, on what: cause; remedy". */
function hintIn(message: string): string | null {
  const at = message.lastIndexOf("; ");
  return at < 0 ? null : message.slice(at + 2);
}

interface Kind {
  readonly code: string;
  readonly exit: number;
}

const USAGE: Kind = { code: "usage", exit: 2 };
const FAILED: Kind = { code: "failed", exit: 1 };

/** Of cmd/shutdown.ts. */
const LOGGED = "LoggedError";

// Told by name: the rooms these come from are only loaded where they are needed.
const KINDS: Readonly<Record<string, Kind>> = {
  UsageError: USAGE,
  OptionError: USAGE,
  AddonError: USAGE,
  AgentNameError: USAGE,
  StoreError: { code: "state-file", exit: 3 },
  NotRootError: { code: "not-root", exit: 1 },
  RouterDownError: { code: "not-running", exit: 1 },
  RouterSilentError: { code: "no-answer", exit: 1 },
  ApiError: { code: "refused", exit: 1 },
};

function kindOf(error: unknown): Kind {
  if (!(error instanceof Error)) return FAILED;
  const kind = KINDS[error.name] ?? FAILED;
  return "exitCode" in error && typeof error.exitCode === "number" ? { ...kind, exit: error.exitCode } : kind;
}

/** Throws unless we are root: nearly everything we do to a kernel needs it. */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new NotRootError();
}
