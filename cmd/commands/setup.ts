// weave setup: the CNI plugin and its configuration, and what of the kernel the network needs.
import { filterBridged } from "../../lib/host/bridged.ts";
import { CNI_FOLDERS, cniFolders, installCni } from "../cnifolders.ts";
import { type Command, requireRoot } from "../main.ts";

export const setup: Command = {
  name: "setup",
  description:
    "install the CNI plugin and its configuration where the folders for them are, and set up the kernel",
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
