// Strict parsing of command lines: an unknown option is an error that suggests the nearest known one.
import { type ArgsDef, parseArgs } from "citty";
import type { Style } from "../lib/help/layout.ts";
import { suggestion } from "../lib/help/nearest.ts";
import type { CommandSpec, OptionSpec, OptionTable } from "../lib/help/spec.ts";

/** An invalid command line. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly failure = "usage" as const;
}

/** Return the error of an unknown command, with the nearest known one; `program` goes before that. */
export function unknownCommand(word: string, known: readonly string[], program: string): UsageError {
  const [nearest = ""] = word.split(" ").slice(-1);
  const hint = word === "" ? "" : suggestion(nearest, known, `${program} `);
  return new UsageError(`unknown command '${word}'${hint}`);
}

/** Parsed arguments of a command. */
export interface Arguments {
  /** Options by name; a `--no-` form sets its boolean to false. */
  readonly options: Record<string, string | boolean | undefined>;
  readonly positionals: readonly string[];
  /** All values of the options that may be given more than once. */
  readonly lists?: Record<string, readonly string[]>;
  /** Style of emphasis in its output. */
  readonly style?: Style;
  /** Warnings about options without effect. */
  readonly warnings?: readonly string[];
}

export interface Command extends CommandSpec {
  run(args: Arguments): void | Promise<void>;
}

/** The option that an argument names, and whether it is its `--no-` form; throws UsageError where there is none. */
function optionOf(arg: string, options: OptionTable): readonly [name: string, negated: boolean] {
  const [given = ""] = arg.split("=");
  const word = given.replace(/^--?/, "");
  if (given.startsWith("--")) {
    if (Object.hasOwn(options, word)) return [word, false];
    const negated = word.startsWith("no-") ? word.slice(3) : "";
    if (Object.hasOwn(options, negated) && options[negated]?.type === "boolean") return [negated, true];
  }
  const [name] = Object.entries(options).find(([, { alias }]) => given === `-${alias}`) ?? [];
  if (name !== undefined) return [name, false];
  const [renamed] = Object.entries(options).find(([, { formerly }]) => formerly === word) ?? [];
  if (renamed !== undefined) throw new UsageError(`option ${given} is called --${renamed}`);
  const known = Object.entries(options)
    .filter(([, { retired }]) => retired === undefined)
    .flatMap(([each, { type, default: preset }]) =>
      type === "boolean" && preset === true ? [each, `no-${each}`] : [each],
    );
  throw new UsageError(`unknown option ${given}${suggestion(word, known, "--")}`);
}

/** "--watch 5" and "--watch" as "--watch=5" and "--watch=2", for options whose value may be left out. */
function withOptionalValues(argv: readonly string[], options: OptionTable): string[] {
  const found: string[] = [];
  const optionals = new Map(
    Object.entries(options).flatMap(([name, { alias, optional }]) =>
      optional === undefined
        ? []
        : [`--${name}`, `-${alias}`].map((given) => [given, { name, optional }] as const),
    ),
  );
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? "";
    if (arg === "--") return [...found, ...argv.slice(i)];
    const option = optionals.get(arg);
    if (option === undefined) {
      found.push(arg);
      continue;
    }
    const isGiven = /^\d/.test(argv[i + 1] ?? "");
    found.push(`--${option.name}=${isGiven ? argv[i + 1] : option.optional}`);
    if (isGiven) i++;
  }
  return found;
}

/** Throw UsageError for another value of an option that has one; it is not shown, as it may be a password. */
function refuseSecond(
  name: string,
  { repeatable, retired, valueHint }: OptionSpec | undefined = { type: "string", description: "" },
  first: string | undefined,
  second: string,
): void {
  if (first === undefined || first === second || repeatable || retired !== undefined) return;
  const remedy = valueHint?.endsWith(",…") ? `give one list: --${name} ${valueHint}` : "name one";
  throw new UsageError(`option --${name} is given twice, with different values: ${remedy}`);
}

/** Read arguments against a command's options; throw UsageError for what it does not know. */
export function readArguments(
  command: Pick<Command, "options" | "passesOver">,
  given: readonly string[],
): Arguments {
  const { options = {} } = command;
  if (command.passesOver) {
    const named = Object.keys(options).map((name) => [name, given.includes(`--${name}`)] as const);
    return { options: Object.fromEntries(named), positionals: [] };
  }
  const argv = withOptionalValues(given, options);
  const warnings: string[] = [];
  const words: string[] = [];
  const lists: Record<string, string[]> = {};
  for (const [name, { repeatable }] of Object.entries(options)) if (repeatable) lists[name] = [];
  // citty reads one form of each option; in others it takes a text for a boolean, or lets --no-dns win over a later --dns.
  const normal: string[] = [];
  const values = new Map<string, string>();
  const used: ArgsDef = {};
  const add = (name: string, type: "string" | "boolean", value: string | boolean) => {
    normal.push(`--${name}=${value}`);
    used[name] = { type };
  };
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? "";
    if (arg === "--") {
      words.push(...argv.slice(i + 1));
      break;
    }
    if (!arg.startsWith("-") || arg === "-") {
      words.push(arg);
      continue;
    }
    const [name, negated] = optionOf(arg, options);
    const retired = options[name]?.retired;
    if (retired !== undefined) warnings.push(`${arg.replace(/=.*/s, "")} has no effect: ${retired}`);
    const [, inline] = arg.split(/=(.*)/s);
    if (options[name]?.type === "boolean") {
      if (inline !== undefined && inline !== "true" && inline !== "false") {
        throw new UsageError(`option --${name} is true or false, not "${inline}"`);
      }
      add(name, "boolean", (inline !== "false") !== negated);
      continue;
    }
    const value = inline ?? argv[++i];
    if (value === undefined || (inline === undefined && value.startsWith("--")))
      throw new UsageError(`option --${name} needs a value`);
    refuseSecond(name, options[name], values.get(name), value);
    values.set(name, value);
    add(name, "string", value);
    lists[name]?.push(value);
  }
  const { _: positionals, ...parsed }: Record<string, unknown> & { _: string[] } = parseArgs(
    [...normal, "--", ...words],
    used,
  );
  const read = Object.entries(options).map(([name, { default: preset }]) => {
    const value = Object.hasOwn(used, name) ? (parsed[name] as string | boolean) : preset;
    return [name, value] as const;
  });
  return { options: Object.fromEntries(read), positionals, lists, warnings };
}

/** Throw UsageError for arguments of a command that takes none, and for an empty one, which names nothing. */
export function refuseUnexpected(
  { name, positionals, passesOver }: Pick<Command, "name" | "positionals" | "passesOver">,
  given: Pick<Arguments, "positionals">,
): void {
  const [first] = given.positionals;
  if (passesOver || first === undefined) return;
  if (positionals === undefined) throw new UsageError(`${name} takes no arguments; got "${first}"`);
  if (given.positionals.includes("")) throw new UsageError("an argument is empty");
}

/**
 * Whether these arguments ask for help. `-h` alone does, even where it is the letter of an option with a value; with
 * `alone`, where others are for another program, nothing but help alone does.
 */
export function asksForHelp(argv: readonly string[], options: OptionTable = {}, alone = false): boolean {
  if (alone) return argv.length === 1 && /^(-h|--help)$/.test(argv[0] ?? "");
  const own = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  if (own.includes("--help")) return true;
  const taken = Object.values(options).some(({ alias }) => alias === "h");
  return own.includes("-h") && (!taken || own.length === 1);
}
