// Options for the folders of podman's OCI hooks and of netavark's plugins.
import { basename } from "node:path";
import { hookSteps, netavarkSteps } from "../lib/deploy/podman.ts";
import { executable } from "../lib/sys/executable.ts";
import type { Step } from "../lib/sys/step.ts";
import { type Arguments, UsageError } from "./arguments.ts";

/** Default of hooks_dir in containers.conf(5). */
const HOOKS = "/usr/share/containers/oci/hooks.d";

/** Option of setup: without it, no hook is installed. */
export const HOOKS_TO_INSTALL = {
  "oci-hooks": {
    type: "string",
    description: `Install a hook into this folder: podman's is ${HOOKS}`,
    valueHint: "DIR",
    completes: "folders",
  },
} as const;

/** Option of reset, with a default. */
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

/** Return the folder of hooks; undefined without the option. Throws UsageError. */
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

/** Return the steps that remove the hook and the plugin from these folders; undefined skips one. */
export const podmanSteps = (hooks: string | undefined, netavark: string | undefined): Step[] => [
  ...(hooks === undefined ? [] : hookSteps(hooks)),
  ...(netavark === undefined ? [] : netavarkSteps(netavark, executable("weave"))),
];
