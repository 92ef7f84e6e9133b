// CNI folders: options of the commands that use them, and installation.
import { setup } from "../lib/cni/setup.ts";
import { type CniQuestions, findRuntime } from "../lib/doctor/cni.ts";
import { executable } from "../lib/sys/executable.ts";
import { type Arguments, UsageError } from "./arguments.ts";

/** Where container runtimes look. */
export const CNI_FOLDERS = {
  "cni-bin-dir": {
    type: "string",
    default: "/opt/cni/bin",
    description: "Folder of CNI plugins",
    completes: "folders",
    valueHint: "DIR",
    env: "WEAVE_CNI_PLUGIN_DIR",
  },
  "cni-conf-dir": {
    type: "string",
    default: "/etc/cni/net.d",
    description: "Folder of CNI configurations",
    completes: "folders",
    valueHint: "DIR",
  },
} as const;

export interface CniFolders {
  readonly bin: string;
  readonly conf: string;
}

/** Return the folders from the options. */
export function cniFolders(options: Arguments["options"]): CniFolders {
  const { default: preset, env } = CNI_FOLDERS["cni-bin-dir"];
  const given = String(options["cni-bin-dir"]);
  const bin = given === preset ? process.env[env] || preset : given;
  const conf = String(options["cni-conf-dir"]);
  if (bin === "" || conf === "")
    throw new UsageError(`--cni-${bin === "" ? "bin" : "conf"}-dir is empty; name a folder`);
  return { bin, conf };
}

/** Whether pods are to reach themselves by a service's address. */
const hairpinMode = () => process.env["HAIRPIN_MODE"] !== "false";

/** Return what doctor checks: the folders, and their expected contents. */
export function cniQuestions(options: Arguments["options"]): CniQuestions {
  const folders = cniFolders(options);
  return {
    ...folders,
    executable: executable("weave-net"),
    hairpin: hairpinMode(),
    runtime: findRuntime(),
    named:
      folders.bin !== CNI_FOLDERS["cni-bin-dir"].default ||
      folders.conf !== CNI_FOLDERS["cni-conf-dir"].default,
  };
}

/** Install our plugin and its configuration there, `single` for runtimes that know no lists; return what was done. */
export function installCni({ bin, conf }: CniFolders, single = false): string[] {
  return setup({
    binDir: bin,
    confDir: conf,
    executable: executable("weave-net"),
    hairpin: hairpinMode(),
    single,
  });
}
