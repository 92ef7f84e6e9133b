// Loading a module of the running kernel, from its files in /lib/modules, as modprobe(8) does it; there is none in our
// image. Formats: modules.dep(5); finit_module(2).
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { basename, join } from "node:path";
import { EEXIST } from "../sys/errno.ts";
import { SysError, trySyscall } from "../sys/syscall.ts";

const COMPRESSED = 4;
const plain = (name: string) => name.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");

/**
 * Loads a module and those it depends on, unless they are there already; throws where it is not among the kernel's, or the
 * kernel refuses it.
 */
export function loadModule(name: string, folder = join("/lib/modules", release())): void {
  if (existsSync(`/sys/module/${name}`)) return;
  const list = join(folder, "modules.dep");
  if (!existsSync(list)) throw new Error(`cannot load ${name}: there is no ${list}`);
  for (const line of readFileSync(list, "utf8").split("\n")) {
    const [file = "", needs = ""] = line.split(":");
    if (plain(basename(file)) !== plain(name)) continue;
    // Each of them stands before what it needs.
    for (const path of [...needs.split(" ").filter(Boolean).reverse(), file]) load(join(folder, path));
    return;
  }
  throw new Error(`cannot load ${name}: it is not in ${list}`);
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
