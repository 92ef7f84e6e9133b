// The table of commands and options. Help, man pages, completion and the environment are made from it, and what a
// command line is read by.

/** What is completed in place of an option's value or an argument. */
export type Completes = "peers" | "targets" | "containers" | "files" | "folders";

export interface OptionSpec {
  readonly type: "boolean" | "string";
  /** What it does, verb first for a switch; without a full stop, without its default. */
  readonly description: string;
  /** A boolean that is true by default is shown, and given, as --no-NAME. */
  readonly default?: boolean | string;
  /** The default in words, where it is no constant: "the host name". */
  readonly defaultText?: string;
  /** A letter. */
  readonly alias?: string;
  readonly valueHint?: string;
  /** Its value where none is given; one that is given begins with a digit. */
  readonly optional?: string;
  /** The variable that stands for it. */
  readonly env?: string;
  /** The variable that switches a boolean off, whatever is in it. */
  readonly envOff?: string;
  /** An empty variable counts, too: it switches off what there is by default. */
  readonly emptyCounts?: boolean;
  /** Heading that help lists it under; "Options" where there is none. */
  readonly group?: string;
  readonly repeatable?: boolean;
  /** The values it can have. */
  readonly values?: readonly string[];
  readonly completes?: Completes;
  /** What it was called in 1.x: whoever says that is told the name. */
  readonly formerly?: string;
  /** It has no effect any more, and why: accepted with a warning, and left out of help. */
  readonly retired?: string;
}

export type OptionTable = Readonly<Record<string, OptionSpec>>;

interface Example {
  readonly command: string;
  readonly does: string;
}

/** The chapters of the overview, in order. */
export const GROUPS = [
  "Life cycle",
  "Network",
  "Containers",
  "Names",
  "Addresses",
  "Kubernetes and Mesos",
  "Troubleshooting",
] as const;

export interface CommandSpec {
  /** Its words: "manifest kubernetes". */
  readonly name: string;
  /** One sentence without its full stop, verb first, at most 55 characters. */
  readonly description: string;
  readonly group?: (typeof GROUPS)[number];
  /** Positional arguments as usage shows them: "[PEER…]". */
  readonly positionals?: string;
  readonly positionalsComplete?: Completes | readonly string[];
  /** What the arguments mean, and what else there is to know; paragraphs. */
  readonly details?: readonly string[];
  readonly options?: OptionTable;
  /** What it does not know among its arguments is meant for another program, and passed over. */
  readonly passesOver?: boolean;
  readonly examples?: readonly Example[];
  /** Variables beside those of the options. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Exit codes beside 0, 1 (failed), 2 (usage). */
  readonly exitCodes?: Readonly<Record<number, string>>;
}

export const EXIT_CODES: Readonly<Record<number, string>> = {
  0: "success",
  1: "failure",
  2: "wrong command line; nothing was changed",
};

/** "--[no-]discovery", "--port PORT", "-h, --hostname FQDN". */
export function flagText(
  name: string,
  { type, default: preset, alias, valueHint, optional }: OptionSpec,
): string {
  const letter = alias === undefined ? "" : `-${alias}, `;
  if (type === "boolean") return `${letter}--${preset === true ? "[no-]" : ""}${name}`;
  const value = valueHint ?? "VALUE";
  return `${letter}--${name} ${optional === undefined ? value : `[${value}]`}`;
}

/** What is said of an option: its description, then values, default and variable in brackets. */
export function optionText(spec: OptionSpec): string {
  const { description, default: preset, defaultText, env, envOff, repeatable, values } = spec;
  const shown = defaultText ?? (typeof preset === "string" ? preset : preset === true ? "on" : undefined);
  const facts = [
    ...(values ? [values.join(", ")] : []),
    ...(repeatable ? ["repeatable"] : []),
    ...(shown === undefined ? [] : [`default: ${shown}`]),
    ...(env === undefined ? [] : [`$${env}`]),
    ...(envOff === undefined ? [] : [`off by $${envOff}`]),
  ];
  return facts.length === 0 ? description : `${description} (${facts.join("; ")})`;
}

/** Options by their heading, in the order of the table. */
export function optionGroups(options: OptionTable): Map<string, [string, OptionSpec][]> {
  const groups = new Map<string, [string, OptionSpec][]>();
  for (const entry of Object.entries(options)) {
    if (entry[1].retired !== undefined) continue;
    const heading = entry[1].group ?? "Options";
    groups.set(heading, [...(groups.get(heading) ?? []), entry]);
  }
  return groups;
}
