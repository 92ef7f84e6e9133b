// Imports only run down the floors of the house: a room uses the rooms below it, never one above or beside it, but for
// the few arrows named here.

import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

const root = join(import.meta.dir, "../..");

/** Rooms by floor, the lowest first. */
const FLOORS: readonly (readonly string[])[] = [
  ["sys", "address", "bytes", "clock", "log", "version"],
  ["netlink", "bpf", "gob", "crypto", "store"],
  ["mesh", "host", "kube"],
  ["ipam", "dns", "overlay", "api", "deploy", "container", "help"],
  ["npc"],
  ["router", "cni", "cluster", "migration"],
  ["doctor", "trace", "ui"],
  ["cmd"],
];

/** Uses between rooms on one floor. */
const ARROWS = ["api -> ipam", "api -> dns", "log -> clock", "cluster -> router", "migration -> router"];

function roomOf(path: string): string {
  const [first = "", second = ""] = path.split("/");
  return first === "cmd" ? "cmd" : second.replace(/\.ts$/, "");
}

function floorOf(room: string): number {
  const floor = FLOORS.findIndex((rooms) => rooms.includes(room));
  if (floor < 0) throw new Error(`room ${room} stands on no floor: give it one in test/tools/floors.ts`);
  return floor;
}

/** What is wrong with the imports of all files, a line each. */
export async function wrongImports(): Promise<string[]> {
  const wrong: string[] = [];
  const scanner = new Bun.Transpiler({ loader: "ts" });
  for await (const file of new Glob("{cmd,lib}/**/*.ts").scan(root)) {
    const source = await Bun.file(join(root, file)).text();
    const types = [...source.matchAll(/^(?:import|export)[^;]*? from "(\.[^"]+)"/gms)].map(
      (match) => match[1] ?? "",
    );
    const values = scanner.scanImports(source).map((found) => found.path);
    for (const path of new Set([...types, ...values].filter((found) => found.startsWith(".")))) {
      const target = relative(root, join(root, dirname(file), path));
      if (!/^(cmd|lib)\//.test(target)) continue;
      const [from, to] = [roomOf(file), roomOf(target)];
      if (from === to || ARROWS.includes(`${from} -> ${to}`)) continue;
      if (floorOf(to) >= floorOf(from)) wrong.push(`${file}: ${from} must not import ${to} (${target})`);
    }
  }
  return wrong;
}
