// weave: the command; called by the name of another executable, it is that one.
import { basename, dirname } from "node:path";
import { suggestion } from "../lib/help/nearest.ts";
import { VERSION } from "../lib/version.ts";
import { asksForHelp, UsageError, unknownCommand } from "./arguments.ts";
import { COMMAND_NAMES, type CommandName, loadCommand, loadCommands } from "./commands.ts";
import { fail, run } from "./main.ts";
import { colours } from "./output/colour.ts";
import { endWithOutput, print, write } from "./output/output.ts";
import { stdout } from "./output/stdout.ts";
import { retired } from "./retired.ts";

const TITLE = `weave ${VERSION}: a container network`;

const wordsIn = (name: CommandName) => name.split(" ").length;

/** Return the name of the command that these words begin with. */
const commandOf = (words: readonly string[]) =>
  COMMAND_NAMES.find((name) => name === words.slice(0, wordsIn(name)).join(" "));

/** Return the names of the subcommands of a word that is no command by itself. */
const groupOf = (word: string) => COMMAND_NAMES.filter((name) => name.startsWith(`${word} `));

function unknown(words: readonly string[]): UsageError {
  const [word = "", second] = words;
  const group = groupOf(word);
  if (group.length === 0) {
    if (word.startsWith("-")) return new UsageError(`unknown option ${word}; options follow the command`);
    const known = COMMAND_NAMES.map((name) => name.split(" ")[0] ?? "");
    return unknownCommand(word, known, "weave");
  }
  const parts = group.map((name) => name.slice(word.length + 1));
  if (second === undefined || second.startsWith("-"))
    return new UsageError(`'weave ${word}': which one? ${parts.join(", ")}`);
  return unknownCommand(`${word} ${second}`, parts, `weave ${word}`);
}

async function weave(argv: readonly string[]): Promise<void> {
  endWithOutput("weave");
  try {
    // Scripts for the original pass --local; every command runs locally.
    await dispatch(argv.filter((arg) => arg !== "--local"));
  } catch (error) {
    fail("weave", error, argv.includes("--json"));
  }
}

async function dispatch(argv: readonly string[]): Promise<void> {
  const { style, rest } = colours(argv, stdout);
  const [word, ...words] = rest;
  const overview = async (title: string, names: readonly CommandName[]) => {
    const help = await import("../lib/help/usage.ts");
    write(help.overview(title, await loadCommands(names), style));
  };
  if (word === undefined || word === "--help" || word === "-h") return overview(TITLE, COMMAND_NAMES);
  if (word === "--version" || word === "-v") return print(`weave ${VERSION}`);
  if (word === "help") {
    const [topic] = words;
    if (topic === undefined) return overview(TITLE, COMMAND_NAMES);
    const { topicText } = await import("../lib/help/topics.ts");
    const text = topicText(topic, style);
    if (text === undefined) return helpOf(argv.filter((arg) => arg !== "help"));
    write(text);
    return;
  }
  if (word === "complete")
    return (await import("./complete.ts")).complete(await loadCommands(), words.slice(1));
  const name = commandOf(rest);
  if (name !== undefined)
    return run(`weave ${name}`, await loadCommand(name), argv.slice(argv.indexOf(word) + wordsIn(name)));
  const group = groupOf(word);
  if (group.length > 0 && asksForHelp(words))
    return overview(`weave ${word}: ${group.length} commands`, group);
  const instead = retired(word);
  throw instead === undefined ? unknown(rest) : new UsageError(instead);
}

/** Show the help of a command, or say which topic or command was meant. */
async function helpOf(argv: readonly string[]): Promise<void> {
  const words = argv.filter((arg) => !arg.startsWith("-"));
  const [word = ""] = words;
  if (commandOf(words) ?? groupOf(word)[0] ?? retired(word)) return dispatch([...argv, "--help"]);
  const { TOPICS } = await import("../lib/help/topics.ts");
  const known = [...Object.keys(TOPICS), ...COMMAND_NAMES.map((name) => name.split(" ")[0] ?? "")];
  throw new UsageError(`no command or topic '${word}'${suggestion(word, known, "weave help ")}`);
}

const EXECUTABLES: Record<string, () => Promise<{ main(argv: readonly string[]): Promise<void> }>> = {
  "weave-net": () => import("./weave-net.ts"),
  "weave-router": () => import("./weave-router.ts"),
  "weave-npc": () => import("./weave-npc.ts"),
};

/** Whether podman or netavark calls: by a link in a folder of netavark's plugins, whose name is that of the driver. */
const isNetavarkPlugin = (path: string) => basename(dirname(path)) === "netavark";

async function main(): Promise<void> {
  const argv = process.argv.slice(2);
  const other = isNetavarkPlugin(process.argv0)
    ? () => import("./netavark.ts")
    : EXECUTABLES[basename(process.argv0)];
  await (other ? (await other()).main(argv) : weave(argv));
}

await main();
