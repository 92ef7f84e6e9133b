// CNI folders: options of the commands that use them, and installation.
import type { RuntimeConfiguration } from "../lib/cluster/membership.ts";
import { LIST_VERSIONS, type ListVersion } from "../lib/cni/conflist.ts";
import {
  installConfig,
  installPlugin,
  precedingConfig,
  precedingText,
  removeConfig,
  setup,
} from "../lib/cni/setup.ts";
import { type CniQuestions, findRuntime } from "../lib/doctor/cni.ts";
import type { Log } from "../lib/log/log.ts";
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

/** The version of the configuration that is written. */
export const CNI_VERSION = {
  "cni-version": {
    type: "string",
    description: "Version of the CNI configuration, for a runtime that knows no later one",
    defaultText: "1.0.0; 0.3.0 in place of the original's configuration",
    values: LIST_VERSIONS,
    valueHint: "VERSION",
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

/** Read the version from the options; undefined to choose it. */
export function cniVersion(options: Arguments["options"]): ListVersion | undefined {
  const given = options["cni-version"];
  if (given === undefined) return undefined;
  const known = LIST_VERSIONS.find((version) => version === given);
  if (!known)
    throw new UsageError(`--cni-version "${String(given)}": should be one of ${LIST_VERSIONS.join(", ")}`);
  return known;
}

/** Install our plugin and its configuration there, `single` for runtimes that know no lists; return what was done. */
export function installCni({ bin, conf }: CniFolders, single = false, version?: ListVersion): string[] {
  return setup({
    binDir: bin,
    confDir: conf,
    executable: executable("weave-net"),
    hairpin: hairpinMode(),
    single,
    version,
  });
}

/** Install our plugin alone; return what was done. */
export function installPluginAlone({ bin }: CniFolders): string[] {
  return [installPlugin(bin, executable("weave-net"))];
}

/** Return the warning about a configuration that runtimes take before ours; none where they take ours. */
export function precedingWarning(confDir: string): string | undefined {
  try {
    const path = precedingConfig(confDir);
    return path && precedingText(path);
  } catch {
    // The folder cannot be read.
    return undefined;
  }
}

/** Warn of such a configuration where runtimes look unless told otherwise. */
export function warnOfPreceding(log: Pick<Log, "warning">): void {
  const warning = precedingWarning(CNI_FOLDERS["cni-conf-dir"].default);
  if (warning !== undefined) log.warning(warning);
}

/** Return what writes the configuration of a node's runtime, and removes it; undefined unless the folder is given. */
export function runtimeConfiguration(
  options: Arguments["options"],
  log: Pick<Log, "warning">,
): RuntimeConfiguration | undefined {
  const { "cni-conf-dir": confDir } = options;
  if (typeof confDir !== "string") return undefined;
  const version = cniVersion(options);
  let told = "";
  return {
    write() {
      const done = installConfig({ confDir, hairpin: hairpinMode(), version });
      const text = done.join("; ");
      if (text === told) return [];
      told = text;
      const warning = precedingWarning(confDir);
      if (warning !== undefined) log.warning(warning);
      return done;
    },
    remove: () => removeConfig(confDir),
  };
}
