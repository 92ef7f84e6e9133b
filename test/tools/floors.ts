// Imports only run down the floors of the house: a room uses the rooms below it, never one above or beside it, but for
// the few arrows named here.

import type { ImportGraph } from "./imports.ts";

/** Rooms by floor, the lowest first. */
export const FLOORS: readonly (readonly string[])[] = [
  ["sys", "address", "bytes", "clock", "log", "version"],
  ["netlink", "bpf", "gob", "crypto", "store"],
  ["mesh", "host", "kube"],
  ["ipam", "dns", "overlay", "deploy", "container", "help"],
  ["api", "npc"],
  ["router", "cni", "cluster", "migration"],
  ["doctor", "trace", "ui"],
  ["cmd"],
];

/** Uses between rooms on one floor. */
const ARROWS = ["log -> clock", "cluster -> router", "migration -> router"];

function roomOf(path: string): string {
  const [first = "", second = ""] = path.split("/");
  return first === "cmd" ? "cmd" : second.replace(/\.ts$/, "");
}

function floorOf(room: string): number {
  const floor = FLOORS.findIndex((rooms) => rooms.includes(room));
  if (floor < 0) throw new Error(`room ${room} stands on no floor: give it one in test/tools/floors.ts`);
  return floor;
}

/** What is wrong with the imports of cmd and lib, a line each. */
export function wrongFloors(graph: ImportGraph): string[] {
  const wrong: string[] = [];
  for (const [file, targets] of graph) {
    if (file.startsWith("test/")) continue;
    for (const target of targets.filter((path) => /^(cmd|lib)\//.test(path))) {
      const [from, to] = [roomOf(file), roomOf(target)];
      if (from === to || ARROWS.includes(`${from} -> ${to}`)) continue;
      if (floorOf(to) >= floorOf(from)) wrong.push(`${file}: ${from} must not import ${to} (${target})`);
    }
  }
  return wrong;
}
