// Manual pages in the macros of man(7): one a command in section 8, one a topic in section 7.

import { PLAIN } from "./layout.ts";
import { type CommandSpec, flagText, optionGroups, optionText } from "./spec.ts";
import { isTable, tableLines } from "./table.ts";
import { exitCodes, synopsis, variables } from "./usage.ts";

/** Columns that man(1) leaves for a block on a terminal of 80: it indents by 7, and blocks by 4 more. */
const TABLE_WIDTH = 69;
const BACKSLASH = /\\/g;

/** Text as roff has it: no line may begin with a control character, and not each terminal has an ellipsis. */
function roff(text: string): string {
  return text
    .replaceAll("…", "...")
    .replace(BACKSLASH, "\\e")
    .replace(/-/g, "\\-")
    .replace(/^([.'])/gm, "\\&$1");
}

const bold = (text: string) => `\\fB${roff(text)}\\fR`;
const heading = (name: string, section: number, version: string) =>
  `.TH ${name.toUpperCase()} ${section} "" "weave ${version}" "Weave manual"`;
const section = (title: string, lines: readonly string[]) =>
  lines.length === 0 ? [] : [`.SH ${title}`, ...lines];
const terms = (entries: readonly (readonly [string, string])[]) =>
  entries.flatMap(([term, text]) => [".TP", bold(term), roff(text)]);
const verbatim = (lines: readonly string[]) => [".PP", ".nf", ".RS 4", ...lines.map(roff), ".RE", ".fi"];

/** Its name in the manual: "weave-dns-add". */
export const pageName = ({ name }: CommandSpec) => `weave-${name.replaceAll(" ", "-")}`;

/** The page of a command. */
export function commandPage(command: CommandSpec, version: string): string {
  const { name, description, details = [], options = {}, examples = [] } = command;
  const page = pageName(command);
  return [
    heading(page, 8, version),
    ...section("NAME", [`${roff(page)} \\- ${roff(description)}`]),
    ...section("SYNOPSIS", [bold(synopsis(`weave ${name}`, command))]),
    ...section("DESCRIPTION", [roff(`${description}.`), ...details.flatMap((text) => [".PP", roff(text)])]),
    ...[...optionGroups(options)].flatMap(([title, entries]) =>
      section(
        title.toUpperCase(),
        terms(entries.map(([option, spec]) => [flagText(option, spec), optionText(spec)])),
      ),
    ),
    ...section(
      "EXAMPLES",
      examples.flatMap(({ command: line, does }) => [".PP", roff(`${does}:`), ...verbatim([line])]),
    ),
    ...section("ENVIRONMENT", terms(variables(command))),
    ...section("EXIT STATUS", terms(exitCodes(command))),
    ...section("SEE ALSO", [".BR weave (8)"]),
    "",
  ].join("\n");
}

/** The page of the program itself: all commands. */
export function overviewPage(
  commands: readonly CommandSpec[],
  topics: readonly string[],
  version: string,
): string {
  return [
    heading("weave", 8, version),
    ...section("NAME", ["weave \\- a container network"]),
    ...section("SYNOPSIS", [bold("weave COMMAND [OPTIONS] [ARGUMENT…]")]),
    ...section("COMMANDS", terms(commands.map(({ name, description }) => [`weave ${name}`, description]))),
    ...section("SEE ALSO", [
      [...commands.map((each) => `.BR ${roff(pageName(each))} (8)`)].join("\n"),
      topics.map((topic) => `.BR ${roff(`weave-${topic}`)} (7)`).join("\n"),
    ]),
    "",
  ].join("\n");
}

/** The page of a topic, from its Markdown: headings, paragraphs, lists, tables and indented blocks. */
export function topicPage(topic: string, markdown: string, version: string): string {
  const name = `weave-${topic}`;
  const lines = markdown.trimEnd().split("\n");
  const title = (lines[0] ?? "").replace(/^# /, "");
  const body: string[] = [];
  const isVerbatim = (line: string | undefined) => line?.startsWith("    ") === true;
  const block = (is: (line: string | undefined) => boolean, first: string) => {
    const taken = [first];
    while (is(lines[at])) taken.push(lines[at++] ?? "");
    return taken;
  };
  let at = 1;
  while (at < lines.length) {
    const line = lines[at++] ?? "";
    if (line === "") continue;
    if (line.startsWith("## ")) body.push(`.SH ${roff(line.slice(3).toUpperCase())}`);
    else if (isTable(line)) body.push(...verbatim(tableLines(block(isTable, line), TABLE_WIDTH, PLAIN)));
    else if (isVerbatim(line)) body.push(...verbatim(block(isVerbatim, line).map((each) => each.slice(4))));
    else {
      const words = [line.replace(/^- /, "")];
      while (lines[at] && !/^(- |#)/.test(lines[at] ?? "") && !isVerbatim(lines[at]) && !isTable(lines[at]))
        words.push((lines[at++] ?? "").trim());
      body.push(line.startsWith("- ") ? ".IP \\(bu 2" : ".PP", inline(words.join(" ")));
    }
  }
  return [
    heading(name, 7, version),
    ...section("NAME", [`${roff(name)} \\- ${roff(title)}`]),
    ...(body[0]?.startsWith(".SH") ? [] : [".SH DESCRIPTION"]),
    ...body,
    "",
  ].join("\n");
}

/** Emphasis and code of Markdown in bold. */
function inline(text: string): string {
  return roff(text).replace(
    /`([^`]*)`|\*\*([^*]*)\*\*/g,
    (_all, code, strong) => `\\fB${code ?? strong}\\fR`,
  );
}
