// Files by which podman finds us: a hook of its OCI runtime (oci-hooks(5)), and a plugin of netavark.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { removing, type Step } from "../sys/step.ts";

const HOOK = "weave.json";
/** Name of the plugin, and so of podman's network driver. */
const NETAVARK_DRIVER = "weave";

/** Something else is in the place of a file of ours. */
export class ForeignFileError extends Error {
  override readonly name = "ForeignFileError";
}

/** Return the hook's configuration: for all containers, as podman cannot tell which have the variable. */
export function hookFile(executable: string, runDir?: string): string {
  const hook = {
    version: "1.0.0",
    hook: {
      path: executable,
      args: ["weave", "oci-hook"],
      ...(runDir !== undefined && { env: [`WEAVE_RUN_DIR=${runDir}`] }),
      timeout: 60,
    },
    when: { always: true },
    stages: ["createRuntime"],
  };
  return `${JSON.stringify(hook, undefined, 2)}\n`;
}

const isHook = (path: string) => existsSync(path) && readFileSync(path, "utf8").includes('"oci-hook"');

/** Install the hook into a folder; return what was done. Throws ForeignFileError. */
export function installHook(folder: string, executable: string, runDir?: string): string[] {
  const path = join(folder, HOOK);
  if (existsSync(path) && !isHook(path))
    throw new ForeignFileError(`${path} was not written by 'weave setup --oci-hooks': remove it`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, hookFile(executable, runDir), { mode: 0o644 });
  return [`installed ${path}: containers with WEAVE_CIDR are attached before their first process runs`];
}

/** Return the steps that remove the hook; none where there is none of ours. */
export function hookSteps(folder: string): Step[] {
  const path = join(folder, HOOK);
  return isHook(path) ? [removing(path, () => rmSync(path))] : [];
}

/** Link the plugin into a folder of netavark's plugins; return what was done. Throws ForeignFileError. */
export function installNetavark(folder: string, executable: string): string[] {
  const path = join(folder, NETAVARK_DRIVER);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found && !found.isSymbolicLink())
    throw new ForeignFileError(`${path} was not made by 'weave setup --netavark': remove it`);
  mkdirSync(folder, { recursive: true });
  rmSync(path, { force: true });
  symlinkSync(executable, path);
  return [`linked ${path}: 'podman network create -d ${NETAVARK_DRIVER} NAME' makes a network`];
}

/** Return the steps that remove the plugin; none where there is none of ours. */
export function netavarkSteps(folder: string, executable: string): Step[] {
  const path = join(folder, NETAVARK_DRIVER);
  const isOurs =
    lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() && readlinkSync(path) === executable;
  return isOurs ? [removing(path, () => rmSync(path))] : [];
}
