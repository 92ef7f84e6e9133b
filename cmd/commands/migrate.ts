// weave migrate: take over a host from the original.
import { existsSync, openSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { logFile } from "../../lib/api/paths.ts";
import { Steps } from "../../lib/api/shapes.ts";
import { printable } from "../../lib/log/printable.ts";
import { DEFAULT_PORT } from "../../lib/mesh/port.ts";
import { describeMigration, findOriginal, isPending, type Original } from "../../lib/migration/migration.ts";
import { findOriginalProcess, optionsOf, stopOriginal } from "../../lib/migration/process.ts";
import { runningPid } from "../../lib/router/instance.ts";
import { launchedText } from "../../lib/router/launched.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { askLocally } from "../../lib/sys/localhttp.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders, installCni } from "../cnifolders.ts";
import { daemonArguments, startDaemon } from "../launching.ts";
import { requireRoot } from "../main.ts";
import { print, warn } from "../output/output.ts";
import { givenOptions, ROUTER_OPTIONS, withoutDefaults } from "../routeroptions.ts";
import { withProgress } from "../waiting.ts";
import { peersForm } from "./peers.ts";

/** Control API of the original. */
const ORIGINAL_API = "127.0.0.1:6784";
const QUESTION = { limit: 64 << 20, timeoutMs: 5_000, headers: { accept: "application/json" } };

/** Timeout until our router carries traffic. */
const TIMEOUT_MS = 180_000;

/** Plugins of the original; ours is one plugin. */
const PLUGINS = /^weave-(ipam|plugin-.*)$/;

function oldPlugins(folder: string): string[] {
  return existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => PLUGINS.test(name))
        .sort()
    : [];
}

/** Return a path to a file in a container that stays valid while this process lives, even if the container goes. */
function pinnedPath(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const folder = openSync(dirname(path), "r");
  return `/proc/${process.pid}/fd/${folder}/${basename(path)}`;
}

const OriginalReport = v.object({
  Router: v.object({
    Connections: v.nullish(v.array(v.object({ Address: v.string(), Outbound: v.boolean() }))),
  }),
});

/** Return the addresses of hosts that the original's router is connected to; none if it does not answer. */
async function neighboursOf(port: string): Promise<string[]> {
  try {
    const { body } = await askLocally(`http://${ORIGINAL_API}/report`, QUESTION);
    const { Router } = v.parse(OriginalReport, JSON.parse(body));
    // Inbound peers listen on the common port.
    return (Router.Connections ?? []).map(({ Address, Outbound }) =>
      Outbound ? Address : Address.replace(/:\d+$/, `:${port}`),
    );
  } catch {
    return [];
  }
}

/** Return neighbours of the original's router that were not named; ours connects to them only for a quick start. */
export const unnamedNeighbours = (neighbours: readonly string[], named: readonly string[]): string[] =>
  neighbours.filter((peer) => !named.includes(peer));

const givenPort = (options: Record<string, unknown>) => String(options["port"] ?? DEFAULT_PORT);

async function tell(what: "connect" | "forget", peers: readonly string[]): Promise<void> {
  if (peers.length === 0) return;
  await apiClient()("POST", `/${what}`, { form: peersForm(peers) });
}

export const migrate: Command = {
  name: "migrate",
  group: "Life cycle",
  description: "Take this host over from Weave Net 2.x",
  positionals: "[PEER…]",
  positionalsComplete: "peers",
  details: [
    "Stops the original's router, launches weave with its options and peers, and removes what the original left. Options given here override the original's.",
  ],
  options: {
    ...ROUTER_OPTIONS,
    "dry-run": { type: "boolean", default: false, description: "Only print what would be done" },
    state: {
      type: "string",
      description: "State file of the original",
      defaultText: "where its router keeps it",
      valueHint: "FILE",
      completes: "files",
    },
    ...JSON_OPTION,
    ...CNI_FOLDERS,
  },
  examples: [{ command: "weave migrate --dry-run", does: "Show what it would do" }],
  async run(args) {
    const { options, positionals } = args;
    const say = (line: string) => {
      if (!options["json"]) print(line);
    };
    // What is wrong with the command line is said on any host.
    parseOptions(withoutDefaults(givenOptions(options)), positionals);
    requireRoot();
    const theirs = findOriginalProcess();
    const state = options["state"] ?? (theirs?.stateFile && pinnedPath(theirs.stateFile));
    const elsewhere = typeof state === "string" ? state : undefined;
    const original = findOriginal(elsewhere);
    if (typeof options["state"] === "string") requireState(options["state"], original);
    const folders = cniFolders(options);
    const { bin } = folders;
    const plugins = oldPlugins(bin);
    if (!theirs && !original && plugins.length === 0)
      return answer(args, Steps, { done: true, steps: [] }, "nothing of the original found on this host");
    const found = theirs ? optionsOf(theirs) : { options: {}, peers: [] };
    const given = { ...found.options, ...withoutDefaults(givenOptions(options)) };
    const peers = [...new Set([...found.peers, ...positionals])];
    parseOptions(given, peers);
    const daemon = daemonArguments(given, peers);
    const running = runningPid() !== undefined;
    const steps = [
      ...(theirs ? [`stop the original's router (pid ${theirs.pid})`] : []),
      ...(running ? [] : [["launch weave", ...daemon.args].join(" ")]),
      ...(original ? describeMigration(original) : []),
      ...(plugins.length > 0 ? [`put our CNI plugin in ${bin} and remove ${plugins.join(", ")}`] : []),
    ];
    for (const step of steps) say(step);
    if (options["dry-run"]) return answer(args, Steps, { done: false, steps }, "");
    const warnings: string[] = [];
    const neighbours = theirs ? await neighboursOf(givenPort(found.options)) : [];
    if (theirs) await withProgress(args, stopOriginal(theirs), "waiting for the original's router to end");
    if (!running) {
      const env = { ...daemon.env, ...(elsewhere && { WEAVE_ORIGINAL_STATE: elsewhere }) };
      const launching = startDaemon({ ...daemon, env });
      const launched = await withProgress(args, launching, "waiting for weave to start");
      say(launchedText(launched));
      warnings.push(...launched.warnings);
      if (!options["json"]) for (const each of warnings) warn(`warning: ${printable(each)}`);
      // They would reconnect by themselves, but later.
      await tell("connect", neighbours);
    }
    if (plugins.length > 0) {
      installCni(folders);
      for (const name of plugins) rmSync(join(bin, name), { force: true });
    }
    await withProgress(args, awaitMigration(elsewhere), untilConnected);
    await tell("forget", unnamedNeighbours(neighbours, peers));
    const told = { done: true, steps, ...(warnings.length > 0 && { warnings }) };
    answer(args, Steps, told, "migrated: nothing of the original is left on this host");
  },
};

/** Throw if what was named as the original's state is none: its name and ranges would be given up without a word. */
function requireState(file: string, original: Original | undefined): void {
  if (!existsSync(file)) {
    // The rest of a migration that was cut short.
    if (existsSync(`${file}.migrated`)) return;
    throw new UsageError(`--state ${file}: no such file`);
  }
  if (original?.error !== undefined)
    throw new Error(
      `--state ${file}: not the original's state: ${original.error}; name its weave-netdata.db or weavedata.db`,
    );
}

/** Resolve once our router has done the rest; reject where that takes too long. */
async function awaitMigration(elsewhere: string | undefined): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (isPending(findOriginal(elsewhere))) {
    if (performance.now() > deadline)
      throw new Error(
        `the router does not carry traffic yet, so the rules of the original stay: see 'weave status connections' and ${logFile()}`,
      );
    await Bun.sleep(200);
  }
}

async function untilConnected(): Promise<string> {
  const states = await apiClient()(
    "GET",
    `/report?format=${encodeURIComponent("{{json .Router.TargetStates}}")}`,
  );
  const targets = v.parse(v.array(v.object({ State: v.string() })), JSON.parse(states));
  const connected = targets.filter(({ State }) => State === "connected").length;
  return `waiting until our router carries traffic: ${connected} of ${targets.length} peers connected`;
}
