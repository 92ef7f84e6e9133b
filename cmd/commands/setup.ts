// weave setup: the CNI plugin and its configuration, what of the kernel the network needs, and the service of systemd.
import { Steps } from "../../lib/api/shapes.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders, installCni } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";
import { warn } from "../output/output.ts";
import { install, SERVICE_FILES, stepsToRemove } from "../service.ts";
import { takeSteps } from "../steps.ts";

export const setup: Command = {
  name: "setup",
  group: "Kubernetes and Mesos",
  description: "Install the CNI plugin and its configuration",
  examples: [
    { command: "weave setup", does: "Install the CNI plugin for Kubernetes or podman" },
    { command: "weave setup --systemd", does: "Start weave at boot, too" },
  ],
  details: [
    "Installs into each of the two folders that exists, and loads br_netfilter. Keeps a configuration that you have changed.",
    "With --systemd, also installs weave.service, which starts the router at boot, and a file with its settings.",
  ],
  options: {
    ...CNI_FOLDERS,
    systemd: {
      type: "boolean",
      default: false,
      description: "Install weave.service, which starts the router at boot",
    },
    remove: {
      type: "boolean",
      default: false,
      description: "With --systemd: remove weave.service, and nothing else",
    },
    ...SERVICE_FILES,
    ...JSON_OPTION,
  },
  environment: { HAIRPIN_MODE: "false: pods do not reach themselves by a service's address (default: true)" },
  async run(args) {
    const { options } = args;
    if (options["remove"] && !options["systemd"]) throw new UsageError("--remove goes with --systemd");
    requireRoot();
    if (options["remove"]) {
      const { did, failed } = await takeSteps(stepsToRemove(options));
      answer(args, Steps, { done: true, steps: did }, did.join("\n") || "weave.service is not installed");
      if (failed.length > 0) throw new Error(failed.join("; "));
      return;
    }
    const steps = [...(options["systemd"] ? install(options) : []), ...installCni(cniFolders(options))];
    const warning = enableBridgeNetfilter();
    answer(args, Steps, { done: true, steps, ...(warning && { warnings: [warning] }) }, steps.join("\n"));
    if (warning && !options["json"]) warn(`weave setup: ${warning}`);
  },
};
