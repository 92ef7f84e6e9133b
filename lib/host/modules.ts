// Load modules of the running kernel from /lib/modules, as modprobe(8) does, which our image lacks. Formats: modules.dep(5);
// finit_module(2).
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { basename, join } from "node:path";
import { EEXIST } from "../sys/errno.ts";
import { SysError, trySyscall } from "../sys/syscall.ts";

export const BR_NETFILTER = "br_netfilter";

const COMPRESSED = 4;
const plain = (name: string) => name.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");

const FOLDER = join("/lib/modules", release());

/** Whether modules.dep of the running kernel lists a module. */
export function hasModule(name: string): boolean {
  return moduleLine(name) !== undefined;
}

/** Load a module and its dependencies, unless they are loaded; throws where there is none, or the kernel refuses it. */
export function loadModule(name: string): void {
  if (isLoaded(name)) return;
  const line = moduleLine(name);
  if (!line) throw new Error(`cannot load ${name}: it is not among the kernel's modules in ${FOLDER}`);
  // In modules.dep each module comes before its own dependencies.
  for (const path of [...line.needs.reverse(), line.file]) load(join(FOLDER, path));
}

/** Whether the kernel has loaded a module, or has it built in and shows it in /sys/module. */
export function isLoaded(name: string): boolean {
  return existsSync(`/sys/module/${name.replaceAll("-", "_")}`);
}

/** Load br_netfilter, if there is one. */
export function loadBridgeNetfilter(): void {
  try {
    loadModule(BR_NETFILTER);
  } catch {
    // Whoever needs it says that it is missing.
  }
}

function moduleLine(name: string): { file: string; needs: string[] } | undefined {
  const list = join(FOLDER, "modules.dep");
  if (!existsSync(list)) return undefined;
  for (const line of readFileSync(list, "utf8").split("\n")) {
    const [file = "", needs = ""] = line.split(":");
    if (plain(basename(file)) === plain(name)) return { file, needs: needs.split(" ").filter(Boolean) };
  }
  return undefined;
}

function load(path: string): void {
  const fd = openSync(path, "r");
  try {
    const flags = /\.ko$/.test(path) ? 0 : COMPRESSED;
    const result = trySyscall("finit_module", fd, new Uint8Array(1), flags);
    if (result < 0 && result !== -EEXIST) throw new SysError(`load ${path}`, -result);
  } finally {
    closeSync(fd);
  }
}
