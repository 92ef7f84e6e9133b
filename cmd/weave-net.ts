// weave-net: the CNI plugin, as container runtimes run it. It is started for every container, so it does as little as it
// can: calls are handed to the router, which has everything loaded. The entry program (test/tools/entry) does so before this
// file is loaded; it comes here where the router is not there, cannot see the container, or takes longer than 1 s.

import type { CniOutcome } from "../lib/api/bodies.ts";
import {
  type ApiClient,
  ApiError,
  apiClient,
  NO_ANSWER,
  RouterEndedError,
  RouterSilentError,
} from "../lib/api/client.ts";
import { NOT_WRITTEN } from "../lib/api/cniwire.ts";
import { pendingAnswer } from "../lib/api/pendingcall.ts";
import { readInput } from "../lib/cni/input.ts";
import { netnsInode } from "../lib/sys/netnsinode.ts";
import { print, warn } from "./output/output.ts";

const USAGE = `CNI plugin of weave. Container runtimes run it, with CNI_COMMAND and the rest of
the protocol's parameters in the environment and a network configuration on standard input (https://www.cni.dev).
'weave setup' installs it.`;

/** A call: the CNI part of the environment. */
interface Call {
  readonly variables: Record<string, string>;
  /** The entry program has sent it to the router; see lib/api/pendingcall.ts. */
  readonly sent: boolean;
}

function readCall(): Call {
  const entries = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  const { CNI_PENDING, ...variables } = Object.fromEntries(
    entries.filter(([name]) => name.startsWith("CNI_")),
  );
  return CNI_PENDING === undefined
    ? { variables, sent: false }
    : { variables: { ...variables, CNI_COMMAND: CNI_PENDING }, sent: true };
}

/** Far longer than the router takes for any call. */
const HAND_OVER_TIMEOUT_MS = 30_000;

/** Let the router run the call. Throws as ApiClient does. */
async function handOver({ variables, sent }: Call, input: string, api: ApiClient): Promise<CniOutcome> {
  const answer = sent ? await pendingAnswer(HAND_OVER_TIMEOUT_MS) : undefined;
  if (answer) return answer;
  const namespace = netnsInode(variables["CNI_NETNS"]);
  const body = JSON.stringify({ variables, input, namespace });
  return JSON.parse(await api("POST", "/cni", { body, timeoutMs: HAND_OVER_TIMEOUT_MS }));
}

/** Run the call in the router, or here. */
async function runCall(call: Call): Promise<CniOutcome> {
  const input = await readInput();
  const api = apiClient();
  if (call.variables["CNI_COMMAND"] === "VERSION" || input === undefined) return runHere(call, input, api);
  try {
    return await handOver(call, input, api);
  } catch (error) {
    const silent =
      error instanceof RouterSilentError || (error instanceof ApiError && error.status === NO_ANSWER);
    // The runtime gets an answer in time: asking again would take as long again.
    if (silent) return runHere(call, input, () => Promise.reject(error));
    const unknown = error instanceof RouterEndedError && call.variables["CNI_COMMAND"] === "ADD";
    return runHere(call, input, api, unknown ? error : undefined);
  }
}

/**
 * Run the call in this process. `unknown`: the router has ended during an ADD; the container may be attached, and only a DEL
 * tells.
 */
async function runHere(
  { variables }: Call,
  input: string | undefined,
  api: ApiClient,
  unknown?: RouterEndedError,
): Promise<CniOutcome> {
  const { runPlugin } = await import("../lib/cni/main.ts");
  const { workHere } = await import("../lib/host/containerwork.ts");
  const work = unknown ? { ...workHere, inspect: () => Promise.reject(unknown) } : workHere;
  return runPlugin(variables, input, api, work);
}

/** Waits longer than this are reported. */
const NOTICE_AFTER_MS = 1_000;
const ASK_TIMEOUT_MS = 2_000;

/** Report on standard error, which runtimes log, what a call waits for after 1 s. */
async function withWaitNotice<T>({ variables, sent }: Call, outcome: Promise<T>): Promise<T> {
  const { CNI_CONTAINERID: id = "", CNI_COMMAND: command } = variables;
  const tell = async () => {
    const path = `/ipinfo/waits/${encodeURIComponent(id)}`;
    const reasons = await apiClient()("GET", path, { timeoutMs: ASK_TIMEOUT_MS }).catch(() => "");
    for (const reason of reasons.split("\n").filter(Boolean))
      warn(`weave-net: ${command} of ${id} waits for an address: ${reason}`);
  };
  const timer = setTimeout(tell, sent ? 0 : NOTICE_AFTER_MS);
  try {
    return await outcome;
  } finally {
    clearTimeout(timer);
  }
}

/** CNI's error 5: input or output failed. */
function unexpected(error: unknown): CniOutcome {
  const msg = error instanceof Error ? error.message : String(error);
  return { output: JSON.stringify({ cniVersion: "1.1.0", code: 5, msg }), code: 1 };
}

async function isWritten(output: string): Promise<boolean> {
  try {
    if (output) await Bun.write(Bun.stdout, `${output}\n`);
    return true;
  } catch {
    warn(NOT_WRITTEN);
    return false;
  }
}

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--version")) {
    const { VERSION } = await import("../lib/version.ts");
    return print(`weave ${VERSION}`);
  }
  const call = readCall();
  const command = call.variables["CNI_COMMAND"];
  if (argv.includes("--help") || (command === undefined && process.stdin.isTTY)) {
    return print(`weave-net: ${USAGE}`);
  }
  const outcome = await withWaitNotice(call, runCall(call)).catch(unexpected);
  process.exit((await isWritten(outcome.output)) ? outcome.code : 1);
}

if (import.meta.main) await main(process.argv.slice(2));
