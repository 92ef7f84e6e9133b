// weave launch.
import { parseOptions } from "../../lib/router/options.ts";
import { execAsDaemon } from "../../lib/sys/runtime.ts";
import { JSON_OPTION } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders } from "../cnifolders.ts";
import { waitSeconds } from "../granting.ts";
import { answerLaunched, awaitQuorum, daemonArguments, startDaemon } from "../launching.ts";
import { requireRoot } from "../main.ts";
import { oldVariables } from "../oldenvironment.ts";
import { OLD_LAUNCH_OPTIONS } from "../oldoptions.ts";
import { print, warn } from "../output/output.ts";
import { givenOptions, ROUTER_OPTIONS } from "../routeroptions.ts";

/** Return the options of the command line and, on an agent of Mesos, of its environment. */
async function launchOptions({ options, positionals }: Arguments) {
  const given = givenOptions(options);
  if (!options["mesos"]) return { given, peers: positionals };
  requireRoot();
  // With node:dns, which takes 8 ms to load.
  const { prepareAgent } = await import("../mesos.ts");
  const agent = await prepareAgent(given, positionals, process.env, cniFolders(options), (line) => {
    if (!options["json"]) print(line);
  });
  return { given: agent.options, peers: agent.peers };
}

export const launch: Command = {
  name: "launch",
  group: "Life cycle",
  description: "Start weave on this host and connect to peers",
  positionals: "[PEER…]",
  positionalsComplete: "peers",
  details: [
    "PEER is HOST or HOST:PORT. Without any, the router connects to the peers of the last launch.",
    "Prints the name of this host and the state of each peer after 1.5 s at most: connected, refused (with the reason) or no answer yet. A peer that does not answer, or whose name does not resolve yet, is not an error: the router keeps dialling.",
  ],
  options: {
    ...ROUTER_OPTIONS,
    foreground: {
      type: "boolean",
      default: false,
      description: "Stay in the foreground and log to standard error",
    },
    wait: {
      type: "string",
      description: "Wait until enough peers are connected to allocate addresses; fail after this time",
      defaultText: "no wait",
      valueHint: "SECONDS",
    },
    ...JSON_OPTION,
    mesos: {
      type: "boolean",
      default: false,
      description: "Run on a Mesos agent; reads HOST_PREFIX and IPALLOC_RANGE from the environment",
    },
    ...CNI_FOLDERS,
    ...OLD_LAUNCH_OPTIONS,
  },
  examples: [
    { command: "weave launch", does: "Start the first host" },
    { command: "weave launch host1 host2", does: "Start another host, and connect it to these" },
    { command: "weave launch --password-file /etc/weave.key host1", does: "Encrypt traffic between hosts" },
  ],
  environment: {
    WEAVE_RUN_DIR: "folder of socket, log and process ID (default: /run/weave)",
    WEAVE_STATE_DIR: "folder of the state file (default: /var/lib/weave)",
  },
  exitCodes: { 3: "the state file cannot be used", 4: "with --foreground: it has crashed too often" },
  async run(args) {
    const seconds = waitSeconds(args);
    if (args.options["foreground"] && (seconds !== undefined || args.options["json"]))
      throw new UsageError("--wait and --json are for a launch in the background");
    for (const warning of oldVariables(process.env)) warn(`weave launch: ${warning}`);
    const { given, peers } = await launchOptions(args);
    const parsed = parseOptions(given, peers);
    requireRoot();
    if (args.options["foreground"]) {
      execAsDaemon("weave-router", process.argv.slice(2));
      // It is most of the program, and loaded for this alone.
      const { runRouter } = await import("./router.ts");
      return runRouter(parsed);
    }
    answerLaunched(args, await startDaemon(daemonArguments(given, peers)));
    if (seconds !== undefined) await awaitQuorum(args, seconds);
  },
};
