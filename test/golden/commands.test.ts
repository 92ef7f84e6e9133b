// The interface that scripts rely on: commands, options, variables, defaults and exit codes; and the layout of help, manual
// and completion. RECORD=1 writes test/vectors/commands.txt anew; a line that is removed from it breaks scripts.
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Command } from "../../cmd/arguments.ts";
import { apply } from "../../cmd/commands/npc/apply.ts";
import { controller } from "../../cmd/commands/npc/controller.ts";
import { explainCommand } from "../../cmd/commands/npc/explain.ts";
import { router } from "../../cmd/commands/router.ts";
import { loadCommands } from "../../cmd/commands.ts";
import { oldVariables } from "../../cmd/oldenvironment.ts";
import { SCRIPTS } from "../../lib/help/completion.ts";
import { COLOURED, PLAIN } from "../../lib/help/layout.ts";
import { commandPage, overviewPage, topicPage } from "../../lib/help/man.ts";
import { type CommandSpec, flagText, type OptionSpec, optionText } from "../../lib/help/spec.ts";
import { overview, synopsis, usage } from "../../lib/help/usage.ts";

const FILE = join(import.meta.dir, "../vectors/commands.txt");

/** Return the line of an option, without its description. */
function optionLine([name, spec]: readonly [string, OptionSpec]): string {
  const { emptyCounts, formerly, optional, completes, retired } = spec;
  if (retired !== undefined) return `    ${flagText(name, spec)} retired: ${retired}`;
  const facts = Object.entries({ emptyCounts, formerly, optional, completes })
    .filter(([, value]) => value !== undefined)
    .map((entry) => entry.join(" "));
  const words = [flagText(name, spec), optionText({ ...spec, description: "" }).trim(), ...facts];
  return `    ${words.filter(Boolean).join(" ")}`;
}

function contract(program: string, command: Command): string[] {
  const {
    options = {},
    environment = {},
    exitCodes = {},
    examples = [],
    positionalsComplete,
    group,
  } = command;
  const groups = Map.groupBy(Object.entries(options), ([, spec]) => spec.group ?? "Options");
  return [
    synopsis(program, command),
    ...(group ? [`  of ${group}`] : []),
    ...(positionalsComplete ? [`  completes ${[positionalsComplete].flat().join(" ")}`] : []),
    ...[...groups].flatMap(([heading, entries]) => [`  ${heading}`, ...entries.map(optionLine)]),
    ...Object.entries(environment).map(([name, text]) => `  ${name}: ${text}`),
    ...Object.entries(exitCodes).map(([code, text]) => `  exit ${code}: ${text}`),
    ...examples.map((example) => `  example ${example.command}`),
  ];
}

/** A command with every kind of option and text. */
const sample: CommandSpec = {
  name: "sample take",
  description: "Take a sample",
  group: "Network",
  positionals: "[PEER…]",
  details: [
    "The first paragraph is one that is longer than a line of 80 columns, so it is broken.",
    "'Next'.",
  ],
  options: {
    out: { type: "string", description: "File", alias: "o", valueHint: "FILE", env: "OUT" },
    every: {
      ...{ type: "string", description: "Interval", valueHint: "SECONDS", optional: "2" },
      ...{ defaultText: "once", group: "Time" },
    },
    fine: { type: "boolean", description: "Be fine", default: true, envOff: "COARSE" },
    "a-name-of-most-letters": { type: "string", description: "Its text begins beside", valueHint: "X" },
    "a-name-of-extra-letters": { type: "string", description: "Its text begins below", valueHint: "X" },
    old: { type: "boolean", description: "", retired: "it is gone" },
  },
  environment: { "SAMPLE\\DIR": "its folder" },
  exitCodes: { 3: "there is none" },
  examples: [
    { command: "weave sample take -o x", does: "Take one" },
    { command: ".hidden", does: "Take another" },
  ],
};
const other: CommandSpec = { name: "look", description: "Look", group: "Life cycle" };

const page = "# A title\n\n## First\n\nText…\n- one\n  more\n\n    a `b`\n    c\n| d |\n";

const TEXTS: readonly (readonly [string, () => string])[] = [
  ["help", () => usage("weave sample take", sample, PLAIN)],
  ["help in colour", () => usage("weave sample take", sample, COLOURED).replaceAll("\u001b", "ESC")],
  ["help of a command without anything", () => usage("weave look", other, PLAIN)],
  ["overview", () => overview("A title", [sample, other], PLAIN)],
  ["overview of another program", () => overview("A title", [other], PLAIN, "weave-npc")],
  ["manual page", () => commandPage(sample, "1.2.3")],
  ["manual page of all", () => overviewPage([sample, other], ["one", "two"], "1.2.3")],
  ["manual page of a topic", () => topicPage("some-topic", page, "1.2.3")],
  ...Object.entries(SCRIPTS).map(([shell, script]) => [`completion in ${shell}`, () => script] as const),
  [
    "variables without effect",
    () =>
      oldVariables(
        new Proxy({} as Record<string, string>, { get: (_empty, name) => `${String(name)} is set` }),
      )
        .join("\n")
        .concat("\n"),
  ],
];

test("commands, help, manual and completion equal the recorded ones", async () => {
  const commands: (readonly [string, Command])[] = [
    ...(await loadCommands()).map((command) => [`weave ${command.name}`, command] as const),
    ["weave-router", router],
    ["weave-npc", controller],
    ["weave-npc apply", apply],
    ["weave-npc explain", explainCommand],
  ];
  const text = [
    ...commands.flatMap(([program, command]) => [...contract(program, command), ""]),
    ...TEXTS.flatMap(([name, made]) => [`== ${name}`, made()]),
  ].join("\n");
  if (process.env["RECORD"]) await Bun.write(FILE, text);
  expect(text).toBe(await Bun.file(FILE).text());
});
