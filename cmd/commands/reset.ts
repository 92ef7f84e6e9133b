// weave reset: leave the network, and remove everything from this host.
import * as v from "valibot";
import { type ApiClient, apiClient, RouterDownError } from "../../lib/api/client.ts";
import { Steps } from "../../lib/api/shapes.ts";
import { cniSteps } from "../../lib/cni/remove.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { policySteps } from "../../lib/npc/defaultdeny.ts";
import { stopDaemon } from "../../lib/router/daemon.ts";
import { kernelSteps, NOT_HANDED_OVER, runSteps, stateSteps } from "../../lib/router/hoststeps.ts";
import { runningPid } from "../../lib/router/instance.ts";
import { executable } from "../../lib/sys/executable.ts";
import type { Step } from "../../lib/sys/step.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";
import { warn } from "../output/output.ts";
import { HOOKS_INSTALLED, hooksFolder, NETAVARK_DIR, netavarkFolder, podmanSteps } from "../podmanfolders.ts";
import { SERVICE_FILES, stepsToRemove } from "../service.ts";
import { confirmed, takeSteps } from "../steps.ts";
import { withProgress } from "../waiting.ts";

/** Longer than the router's own timeout for a hand-over. */
const HAND_OVER_MS = 15_000;

const NO_TERMINAL =
  "nothing was removed: there is no terminal to ask on; give --yes, or --force to go on even if no peer takes the addresses over";

export const reset: Command = {
  name: "reset",
  group: "Life cycle",
  description: "Leave the network and remove everything from this host",
  details: [
    "Lists what it will remove, and asks. Then hands the addresses of this host to another peer, and removes nothing unless that peer acknowledges; after that, what launch, setup and attach have made: links, packet filter rules, state, the service, the CNI plugin and its configuration, podman's hook and netavark's plugin. Files that others have changed are kept.",
    "Without a terminal it removes nothing unless --yes or --force is given.",
  ],
  options: {
    yes: { type: "boolean", default: false, alias: "y", description: "Do not ask" },
    force: {
      type: "boolean",
      default: false,
      description: "Do not ask, and go on even if no peer takes the addresses over",
    },
    "dry-run": { type: "boolean", default: false, description: "Only list what would be removed" },
    ...JSON_OPTION,
    ...CNI_FOLDERS,
    ...HOOKS_INSTALLED,
    ...NETAVARK_DIR,
    ...SERVICE_FILES,
  },
  examples: [
    { command: "weave reset --dry-run", does: "See what it will remove" },
    { command: "weave reset --yes", does: "Hand the addresses over and remove all, in a script" },
  ],
  async run(args) {
    const { options } = args;
    requireRoot();
    using route = new NetlinkSocket(NETLINK_ROUTE);
    using filter = new NetlinkSocket(NETLINK_NETFILTER);
    const pid = runningPid();
    const steps = [
      ...(pid === undefined ? [] : routerSteps(pid, args)),
      ...kernelSteps(route, filter),
      ...policySteps(filter),
      ...stateSteps(pid !== undefined),
      ...runSteps(),
      ...stepsToRemove(options),
      ...ofRuntimes(options),
    ];
    const listed = steps.map(({ does }) => does);
    const plain = (done: boolean, lines: string[], text: readonly string[]) =>
      answer(args, Steps, { done, steps: lines }, text.join("\n"));
    // Steps that only keep something need no confirmation.
    if (!steps.some(({ run }) => run))
      return plain(true, listed, [...listed, "nothing of weave is on this host"]);
    if (options["dry-run"]) return plain(false, listed, listed);
    if (!(options["yes"] || options["force"])) await ask(args, listed);
    const handed = pid === undefined ? "" : `${await handOver(Boolean(options["force"]), args)}, and `;
    const { did, failed } = await takeSteps(steps);
    const made = did.map((line, i) => (i === 0 ? handed + line : line));
    plain(failed.length === 0, made, made);
    if (failed.length > 0) throw new Error(`reset is not complete: ${failed.join("; ")}`);
  },
};

/** Throw unless the user confirms. */
async function ask({ options }: Pick<Arguments, "options">, listed: readonly string[]): Promise<void> {
  if (options["json"]) throw new UsageError(NO_TERMINAL);
  if (process.stdin.isTTY) warn(["weave reset will", ...listed.map((line) => `  ${line}`)].join("\n"));
  const answered = await confirmed("Do this?");
  if (answered === undefined) throw new UsageError(NO_TERMINAL);
  if (!answered) throw new Error("nothing was removed");
}

/** The hand-over goes before all steps: if it fails, nothing is done. */
function routerSteps(pid: number, args: Arguments): Step[] {
  const stop = async () => {
    await withProgress(args, stopDaemon(), `waiting for the router (pid ${pid}) to end`);
  };
  return [
    {
      does: `hand the addresses of this host to another peer, and stop the router (pid ${pid})`,
      did: `stopped the router (pid ${pid})`,
      run: stop,
    },
  ];
}

function ofRuntimes(options: Arguments["options"]): Step[] {
  const { bin, conf } = cniFolders(options);
  return [
    ...cniSteps({ binDir: bin, confDir: conf, executable: executable("weave-net") }),
    ...podmanSteps(hooksFolder(options), netavarkFolder(options)),
  ];
}

const Handed = v.object({ heir: v.nullable(v.object({ name: v.string(), nickname: v.string() })) });

/** Hand the addresses over; resolve with the outcome, in words. */
async function handOver(force: boolean, args: Arguments, api: ApiClient = apiClient()): Promise<string> {
  try {
    // Answered once another peer has acknowledged our addresses.
    const handed = api("DELETE", "/peer", { accept: "application/json", timeoutMs: HAND_OVER_MS });
    const sent = await withProgress(args, handed, "handing the addresses of this host to another peer");
    const { heir } = v.parse(Handed, JSON.parse(sent));
    if (!heir) return "handed no addresses over, as this host has none or knows no other peer";
    return `handed the addresses of this host to ${heir.name}(${heir.nickname})`;
  } catch (error) {
    if (force && error instanceof Error) return `left ${NOT_HANDED_OVER}`;
    if (error instanceof RouterDownError)
      throw new Error(`${error.message}; or use --force to reset without a hand-over`, { cause: error });
    throw error;
  }
}
