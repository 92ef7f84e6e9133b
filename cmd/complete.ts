// weave complete: run by the shells' completion scripts. Candidates come from the router and the file system; if these do
// not answer, there are none.
import { readdirSync } from "node:fs";
import * as v from "valibot";
import { apiClient, holders } from "../lib/api/client.ts";
import { commandOf, completions } from "../lib/help/completion.ts";
import type { CommandSpec, Completes } from "../lib/help/spec.ts";
import { print } from "./output/output.ts";

/** Limit of a shell's patience. */
const TIMEOUT_MS = 500;
const MAX_COMPLETIONS = 500;

const Report = v.object({
  Router: v.object({
    Peers: v.nullish(v.array(v.object({ NickName: v.string() }))),
    Targets: v.nullish(v.array(v.string())),
  }),
});

/** Print the completions of the last of these words, a line each: the word, a tab, what it is. */
export async function complete(commands: readonly CommandSpec[], words: readonly string[]): Promise<void> {
  const [first = ""] = words;
  if (first === "help" && words.length > 1) return completeHelp(commands, words.slice(1));
  if (words.length === 1 && "help".startsWith(first)) print("help\tRead the manual");
  const found = new Map<Completes, readonly string[]>();
  for (const kind of kindsOf(commandOf(commands, words)))
    found.set(kind, await candidates(kind, words.at(-1) ?? "").catch(() => []));
  const lines = completions(commands, words, (kind) => found.get(kind) ?? []);
  for (const { value, description } of lines.slice(0, MAX_COMPLETIONS)) print(`${value}\t${description}`);
}

/** What help is about: a topic, or a command, whose words follow. */
async function completeHelp(commands: readonly CommandSpec[], words: readonly string[]): Promise<void> {
  const { TOPICS } = await import("../lib/help/topics.ts");
  const topics =
    words.length > 1 ? [] : Object.keys(TOPICS).filter((topic) => topic.startsWith(words[0] ?? ""));
  for (const topic of topics) print(`${topic}\tPage of the manual`);
  const named = completions(commands, words, () => []);
  if (!commandOf(commands, words.slice(0, -1)))
    for (const { value, description } of named) print(`${value}\t${description}`);
}

function kindsOf({ positionalsComplete, options = {} }: Partial<CommandSpec> = {}): Set<Completes> {
  const kinds = Object.values(options).flatMap(({ completes = [] }) => completes);
  return new Set(typeof positionalsComplete === "string" ? [...kinds, positionalsComplete] : kinds);
}

async function candidates(kind: Completes, word: string): Promise<readonly string[]> {
  switch (kind) {
    case "peers":
      return (await report()).Peers?.map(({ NickName }) => NickName) ?? [];
    case "targets":
      return (await report()).Targets ?? [];
    case "containers":
      return [...(await holders(apiClient())).keys()];
    case "files":
    case "folders":
      return files(word.replace(/^--[\w-]+=/, ""), kind === "folders");
  }
}

async function report() {
  const text = await apiClient()("GET", "/report", { accept: "application/json", timeoutMs: TIMEOUT_MS });
  return v.parse(Report, JSON.parse(text)).Router;
}

/** Paths that begin with `begun`; folders end with a slash. */
function files(begun: string, foldersOnly: boolean): string[] {
  const folder = begun.slice(0, begun.lastIndexOf("/") + 1);
  return readdirSync(folder || ".", { withFileTypes: true })
    .filter((entry) => !foldersOnly || entry.isDirectory())
    .map((entry) => `${folder}${entry.name}${entry.isDirectory() ? "/" : ""}`);
}
