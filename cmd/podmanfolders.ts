// Folders by which podman and netavark find us: options of the commands that use them.
import { basename } from "node:path";
import { hookSteps, netavarkSteps } from "../lib/deploy/podman.ts";
import { executable } from "../lib/sys/executable.ts";
import type { Step } from "../lib/sys/step.ts";
import { type Arguments, UsageError } from "./arguments.ts";

/** Where podman looks for hooks unless containers.conf names other folders. */
const HOOKS = "/usr/share/containers/oci/hooks.d";

/** Folder to install the hook into. */
export const HOOKS_TO_INSTALL = {
  "oci-hooks": {
    type: "string",
    description: `Install a hook into this folder: podman's is ${HOOKS}`,
    valueHint: "DIR",
    completes: "folders",
  },
} as const;

/** Folder that the hook was installed into. */
export const HOOKS_INSTALLED = {
  "oci-hooks": {
    type: "string",
    default: HOOKS,
    description: "Folder of podman's hooks",
    valueHint: "DIR",
    completes: "folders",
  },
} as const;

export const NETAVARK_DIR = {
  "netavark-dir": {
    type: "string",
    default: "/usr/local/lib/netavark",
    description: "Folder of netavark's plugins; its last part is netavark",
    valueHint: "DIR",
    completes: "folders",
  },
} as const;

/** Return the folder of hooks; undefined where none is named. Throws UsageError. */
export function hooksFolder({ "oci-hooks": folder }: Arguments["options"]): string | undefined {
  if (folder === "") throw new UsageError("--oci-hooks is empty; name a folder");
  return typeof folder === "string" ? folder : undefined;
}

/** Return the folder of netavark's plugins. Throws UsageError. */
export function netavarkFolder({ "netavark-dir": given }: Arguments["options"]): string {
  const folder = String(given);
  if (folder === "") throw new UsageError("--netavark-dir is empty; name a folder");
  if (basename(folder) !== "netavark")
    throw new UsageError(`--netavark-dir ${folder}: the last part of its path has to be netavark`);
  return folder;
}

/** Return the steps that remove the hook and the plugin from these folders. */
export const podmanSteps = (hooks: string | undefined, netavark: string | undefined): Step[] => [
  ...(hooks === undefined ? [] : hookSteps(hooks)),
  ...(netavark === undefined ? [] : netavarkSteps(netavark, executable("weave"))),
];
