// weave setup: the CNI plugin and its configuration, what of the kernel the network needs, and the service of systemd.
import { Steps } from "../../lib/api/shapes.ts";
import { installHook, installNetavark } from "../../lib/deploy/podman.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { executable } from "../../lib/sys/executable.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import {
  CNI_FOLDERS,
  CNI_VERSION,
  cniFolders,
  cniVersion,
  installCni,
  installPluginAlone,
  precedingWarning,
} from "../cnifolders.ts";
import { requireRoot } from "../main.ts";
import { warn } from "../output/output.ts";
import {
  HOOKS_TO_INSTALL,
  hooksFolder,
  NETAVARK_DIR,
  netavarkFolder,
  podmanSteps,
} from "../podmanfolders.ts";
import { install, SERVICE_FILES, stepsToRemove } from "../service.ts";
import { takeSteps } from "../steps.ts";

const NOT_INSTALLED = "nothing of that is installed";

export const setup: Command = {
  name: "setup",
  group: "Kubernetes and Mesos",
  description: "Install the CNI plugin and its configuration",
  examples: [
    { command: "weave setup", does: "Install the CNI plugin for Kubernetes or podman" },
    { command: "weave setup --systemd", does: "Start weave at boot, too" },
  ],
  details: [
    "Installs the plugin, its configuration if --cni-conf-dir exists, and loads br_netfilter. Without --cni-bin-dir it installs neither: create it, or name the folder of the container runtime. Keeps a configuration that you have changed.",
    "With --systemd, also installs weave.service, which starts the router at boot, and a file with its settings.",
  ],
  options: {
    ...CNI_FOLDERS,
    ...CNI_VERSION,
    "plugin-only": {
      type: "boolean",
      default: false,
      description: "Write no configuration: weave-router --cni-conf-dir does, when it is ready",
    },
    systemd: {
      type: "boolean",
      default: false,
      description: "Install weave.service, which starts the router at boot",
    },
    ...HOOKS_TO_INSTALL,
    netavark: {
      type: "boolean",
      default: false,
      description: "Link the plugin for podman 5 and its netavark into --netavark-dir",
    },
    ...NETAVARK_DIR,
    remove: {
      type: "boolean",
      default: false,
      description: "Remove what --systemd, --oci-hooks and --netavark install, and nothing else",
    },
    ...SERVICE_FILES,
    ...JSON_OPTION,
  },
  environment: { HAIRPIN_MODE: "false: pods do not reach themselves by a service's address (default: true)" },
  async run(args) {
    const { options } = args;
    const hooks = hooksFolder(options);
    const netavark = options["netavark"] ? netavarkFolder(options) : undefined;
    if (options["remove"] && !options["systemd"] && hooks === undefined && netavark === undefined)
      throw new UsageError("--remove goes with --systemd, --oci-hooks or --netavark");
    requireRoot();
    if (options["remove"]) {
      const steps = [...(options["systemd"] ? stepsToRemove(options) : []), ...podmanSteps(hooks, netavark)];
      const { did, failed } = await takeSteps(steps);
      answer(args, Steps, { done: true, steps: did }, did.join("\n") || NOT_INSTALLED);
      if (failed.length > 0) throw new Error(failed.join("; "));
      return;
    }
    const folders = cniFolders(options);
    const version = cniVersion(options);
    const steps = [
      ...(options["systemd"] ? install(options) : []),
      ...(hooks === undefined ? [] : installHook(hooks, executable("weave"), process.env["WEAVE_RUN_DIR"])),
      ...(netavark === undefined ? [] : installNetavark(netavark, executable("weave"))),
      ...(options["plugin-only"] ? installPluginAlone(folders) : installCni(folders, false, version)),
    ];
    const warnings = [enableBridgeNetfilter(), precedingWarning(folders.conf)].filter(
      (text) => text !== undefined,
    );
    answer(args, Steps, { done: true, steps, ...(warnings.length > 0 && { warnings }) }, steps.join("\n"));
    if (!options["json"]) for (const warning of warnings) warn(`weave setup: ${warning}`);
  },
};
