// weave setup: the CNI plugin and its configuration, what of the kernel the network needs, and the service of systemd.
import { filterBridged } from "../../lib/host/bridged.ts";
import { type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders, installCni } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";
import { install, remove, SERVICE_FILES } from "../service.ts";

export const setup: Command = {
  name: "setup",
  group: "Kubernetes and Mesos",
  description: "Install the CNI plugin and its configuration",
  details: [
    "Installs into those of the two folders that exist, and loads br_netfilter. A configuration that you have changed is kept.",
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
  },
  run({ options }) {
    if (options["remove"] && !options["systemd"]) throw new UsageError("--remove goes with --systemd");
    requireRoot();
    if (options["remove"]) {
      const done = remove(options);
      return console.log((done.length > 0 ? done : ["weave.service is not installed"]).join("\n"));
    }
    if (options["systemd"]) for (const line of install(options)) console.log(line);
    for (const line of installCni(cniFolders(options))) console.log(line);
    const warning = filterBridged();
    if (warning) console.error(`weave setup: ${warning}`);
  },
};
