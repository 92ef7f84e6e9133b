// weave-net: the CNI plugin, as container runtimes run it. It is started for every container, so it does as little as it
// can: calls are handed to the router, which has everything loaded. Only where that is not there, or cannot see the
// container, the plugin loads what it takes and runs the call itself.

import type { CniOutcome } from "../lib/api/bodies.ts";
import { type ApiClient, ApiError, apiClient, NO_ANSWER, RouterSilentError } from "../lib/api/client.ts";
import { readInput } from "../lib/cni/input.ts";
import { netnsInode } from "../lib/sys/netnsinode.ts";
import { print, warn } from "./output/output.ts";

const USAGE = `CNI plugin of weave. Container runtimes run it, with CNI_COMMAND and the rest of
the protocol's parameters in the environment and a network configuration on standard input (https://www.cni.dev).
'weave setup' installs it.`;

/** The CNI part of the environment. */
function cniVariables(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return Object.fromEntries(entries.filter(([name]) => name.startsWith("CNI_")));
}

/** Far longer than the router takes for any call. */
const HAND_OVER_TIMEOUT_MS = 30_000;

/**
 * Let the router run the call. If it does not, return the client to run it with: the same, or one that always fails
 * if the router is silent, so that the runtime gets an answer in time.
 */
async function handOver(
  variables: Record<string, string>,
  input: string,
  api: ApiClient,
): Promise<CniOutcome | ApiClient> {
  try {
    const namespace = netnsInode(variables["CNI_NETNS"]);
    const body = JSON.stringify({ variables, input, namespace });
    return JSON.parse(await api("POST", "/cni", { body, timeoutMs: HAND_OVER_TIMEOUT_MS }));
  } catch (error) {
    const silent =
      error instanceof RouterSilentError || (error instanceof ApiError && error.status === NO_ANSWER);
    return silent ? () => Promise.reject(error) : api;
  }
}

/** Run the call in the router, or here. */
async function runCall(variables: Record<string, string>): Promise<CniOutcome> {
  const input = await readInput();
  const api = apiClient();
  const alone = variables["CNI_COMMAND"] === "VERSION" || input === undefined;
  const answer = alone ? api : await handOver(variables, input, api);
  if (typeof answer !== "function") return answer;
  const { runPlugin } = await import("../lib/cni/main.ts");
  const { workHere } = await import("../lib/host/containerwork.ts");
  return runPlugin(variables, input, answer, workHere);
}

/** Waits longer than this are reported. */
const NOTICE_AFTER_MS = 1_000;
const ASK_TIMEOUT_MS = 2_000;

/** Report on standard error, which runtimes log, what a call waits for after 1 s. */
async function withWaitNotice<T>(variables: Record<string, string>, call: Promise<T>): Promise<T> {
  const { CNI_CONTAINERID: id = "", CNI_COMMAND: command } = variables;
  const tell = async () => {
    const path = `/ipinfo/waits/${encodeURIComponent(id)}`;
    const reasons = await apiClient()("GET", path, { timeoutMs: ASK_TIMEOUT_MS }).catch(() => "");
    for (const reason of reasons.split("\n").filter(Boolean))
      warn(`weave-net: ${command} of ${id} waits for an address: ${reason}`);
  };
  const timer = setTimeout(tell, NOTICE_AFTER_MS);
  try {
    return await call;
  } finally {
    clearTimeout(timer);
  }
}

/** CNI's error 5: input or output failed. */
function unexpected(error: unknown): CniOutcome {
  const msg = error instanceof Error ? error.message : String(error);
  return { output: JSON.stringify({ cniVersion: "1.1.0", code: 5, msg }), code: 1 };
}

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--version")) {
    const { VERSION } = await import("../lib/version.ts");
    return print(`weave ${VERSION}`);
  }
  const variables = cniVariables();
  const command = variables["CNI_COMMAND"];
  if (argv.includes("--help") || (command === undefined && process.stdin.isTTY)) {
    return print(`weave-net: ${USAGE}`);
  }
  const outcome = await withWaitNotice(variables, runCall(variables)).catch(unexpected);
  if (outcome.output) await Bun.write(Bun.stdout, `${outcome.output}\n`);
  process.exit(outcome.code);
}

if (import.meta.main) await main(process.argv.slice(2));
