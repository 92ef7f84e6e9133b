// The help of one command, and the overview of all.
import { paragraph } from "../log/paragraph.ts";
import { rows, type Style, section } from "./layout.ts";
import { type CommandSpec, EXIT_CODES, flagText, GROUPS, optionGroups, optionText } from "./spec.ts";
import { TOPICS } from "./topics.ts";

/** "weave expose [OPTIONS] [ADDRESS…]". */
export function synopsis(program: string, { options, positionals }: CommandSpec): string {
  const parts = [program, ...(options && Object.keys(options).length > 0 ? ["[OPTIONS]"] : [])];
  return [...parts, ...(positionals ? [positionals] : [])].join(" ");
}

/** The variables that a command takes, those of its options first. */
export function variables({ options = {}, environment = {} }: CommandSpec): [string, string][] {
  const own = Object.entries(options).flatMap(([name, { env, envOff }]): [string, string][] => [
    ...(env === undefined ? [] : [[env, `the same as --${name}`] as [string, string]]),
    ...(envOff === undefined
      ? []
      : [[envOff, `anything in it: the same as --no-${name}`] as [string, string]]),
  ]);
  return [...own, ...Object.entries(environment)];
}

/** Exit codes with their meaning. */
export function exitCodes({ exitCodes: own = {} }: CommandSpec): [string, string][] {
  return Object.entries({ ...EXIT_CODES, ...own }).map(([code, text]) => [code, text]);
}

/** The help of a command; ends with a newline. `program` is what to type: "weave expose". */
export function usage(program: string, command: CommandSpec, style: Style): string {
  const { description, details = [], options = {}, examples = [] } = command;
  return [
    ...paragraph(`${description}.`),
    ...section("Usage", [`  ${synopsis(program, command)}`], style),
    ...details.flatMap((text) => ["", ...paragraph(text)]),
    ...[...optionGroups(options)].flatMap(([heading, entries]) =>
      section(
        heading,
        rows(
          entries.map(([name, spec]) => [flagText(name, spec), optionText(spec)]),
          style,
        ),
        style,
      ),
    ),
    ...section(
      "Examples",
      examples.flatMap(({ command: line, does }) => [`  # ${does}`, `  ${style.name(line)}`]),
      style,
    ),
    ...section("Environment", rows(variables(command), style), style),
    ...section("Exit codes", rows(exitCodes(command), style), style),
    "",
  ].join("\n");
}

/** All commands of a program by group; ends with a newline. */
export function overview(
  title: string,
  commands: readonly CommandSpec[],
  style: Style,
  program = "weave",
): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  const grouped = GROUPS.map(
    (group) => [group, commands.filter((command) => command.group === group)] as const,
  );
  return [
    title,
    ...section("Usage", [`  ${program} COMMAND [OPTIONS] [ARGUMENT…]`], style),
    ...grouped.flatMap(([group, members]) =>
      section(
        group,
        rows(
          members.map(({ name, description }) => [name.padEnd(width), description]),
          style,
        ),
        style,
      ),
    ),
    "",
    ...rows(
      [
        [`${program} COMMAND --help`, "Show a command's options, with examples"],
        [`${program} help TOPIC`, `Read the manual: ${Object.keys(TOPICS).join(", ")}`],
      ],
      style,
    ),
    "",
  ].join("\n");
}
