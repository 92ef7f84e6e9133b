// What all our commands share: strict arguments, help, one-line errors, exit codes. 1: it failed; 2: wrongly called;
// 3: the state file cannot be used.

import { type ArgsDef, type CommandDef, parseArgs, renderUsage } from "citty";
import { reasonOf } from "../lib/sys/reason.ts";
import { VERSION } from "../lib/version.ts";

/** A command line that makes no sense; the message says what is wrong with it. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The arguments of a command, as it gets them. */
export interface Arguments {
  /** Options by name; a `--no-` form sets its boolean to false. */
  readonly options: Record<string, string | boolean | undefined>;
  readonly positionals: readonly string[];
  /** All values of the options that may be given more than once. */
  readonly lists?: Record<string, readonly string[]>;
}

export interface Command {
  readonly name: string;
  readonly description: string;
  /** How positionals are shown in the usage, e.g. "PEERS…". */
  readonly positionals?: string;
  readonly options?: ArgsDef;
  /** Options that may be given more than once. */
  readonly repeatable?: readonly string[];
  run(args: Arguments): void | Promise<void>;
}

/** Reads arguments against a command's options; throws UsageError for what it does not know. */
export function readArguments(command: Command, argv: readonly string[]): Arguments {
  const defs = command.options ?? {};
  const known = new Map<string, string>();
  for (const [name, def] of Object.entries(defs)) {
    known.set(name, name);
    for (const alias of [("alias" in def && def.alias) || []].flat()) known.set(alias, name);
  }
  const lists: Record<string, string[]> = Object.fromEntries(
    (command.repeatable ?? []).map((name) => [name, []]),
  );
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? "";
    if (arg === "--") break;
    if (!arg.startsWith("-") || arg === "-") continue;
    const [given = "", value] = arg.replace(/^--?/, "").split(/=(.*)/s);
    const negated = arg.startsWith("--no-") ? known.get(given.slice(3)) : undefined;
    const name = known.get(given) ?? (negated && defs[negated]?.type === "boolean" ? negated : undefined);
    if (!name) throw new UsageError(`unknown option ${arg.split("=")[0]}`);
    if (defs[name]?.type === "boolean") {
      if (value !== undefined && value !== "true" && value !== "false") {
        throw new UsageError(`option --${name} is true or false, not "${value}"`);
      }
      continue;
    }
    if (value === undefined) {
      i++;
      if (argv[i] === undefined || argv[i]?.startsWith("--"))
        throw new UsageError(`option --${name} needs a value`);
    }
    lists[name]?.push(value ?? argv[i] ?? "");
  }
  const normal = argv.map((arg) =>
    arg.replace(/^--([\w-]+)=true$/, "--$1").replace(/^--([\w-]+)=false$/, "--no-$1"),
  );
  const parsed = parseArgs(normal, defs);
  const options = Object.fromEntries(
    Object.keys(defs).map((name) => [name, parsed[name] as string | boolean | undefined]),
  );
  return { options, positionals: parsed._, lists };
}

function definition(program: string, command: Command): CommandDef {
  const positionals = command.positionals ? ` ${command.positionals}` : "";
  return {
    meta: { name: `${program}${positionals}`, version: VERSION, description: command.description },
    args: command.options ?? {},
  };
}

/** The help text of a command. */
export async function usage(program: string, command: Command): Promise<string> {
  const text = await renderUsage(definition(program, command));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are for terminals only
  return process.stdout.isTTY ? text : text.replace(/\u001b\[[0-9;]*m/g, "");
}

/** Run a command; on failure, print one line and exit. */
export async function run(program: string, command: Command, argv: readonly string[]): Promise<void> {
  try {
    if (argv.includes("--help")) {
      console.log(await usage(program, command));
      return;
    }
    await command.run(readArguments(command, argv));
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
