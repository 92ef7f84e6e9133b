// weave setup: the CNI plugin and its configuration, and what of the kernel the network needs.
import { filterBridged } from "../../lib/host/bridged.ts";
import type { Command } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders, installCni } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";

export const setup: Command = {
  name: "setup",
  group: "Kubernetes and Mesos",
  description: "Install the CNI plugin and its configuration",
  details: [
    "Installs into those of the two folders that exist, and loads br_netfilter. A configuration that you have changed is kept.",
  ],
  options: {
    ...CNI_FOLDERS,
  },
  run({ options }) {
    requireRoot();
    for (const line of installCni(cniFolders(options))) console.log(line);
    const warning = filterBridged();
    if (warning) console.error(`weave setup: ${warning}`);
  },
};
