// weave setup: the CNI plugin and its configuration, and what of the kernel the network needs.
import { setup as install } from "../../lib/cni/setup.ts";
import { filterBridged } from "../../lib/host/bridged.ts";
import { executable } from "../../lib/sys/executable.ts";
import { type Command, requireRoot } from "../main.ts";

/** Where container runtimes look. */
export const CNI_FOLDERS = {
  "cni-bin-dir": {
    type: "string",
    default: "/opt/cni/bin",
    description: "folder of CNI plugins",
    valueHint: "DIR",
  },
  "cni-conf-dir": {
    type: "string",
    default: "/etc/cni/net.d",
    description: "folder of CNI configurations",
    valueHint: "DIR",
  },
} as const;

export const setup: Command = {
  name: "setup",
  description:
    "install the CNI plugin and its configuration where the folders for them are, and set up the kernel",
  options: {
    ...CNI_FOLDERS,
  },
  run({ options }) {
    requireRoot();
    const done = install({
      binDir: String(options["cni-bin-dir"]),
      confDir: String(options["cni-conf-dir"]),
      executable: executable("weave-net"),
      hairpin: process.env["HAIRPIN_MODE"] !== "false",
    });
    for (const line of done) console.log(line);
    const warning = filterBridged();
    if (warning) console.error(`weave setup: ${warning}`);
  },
};
