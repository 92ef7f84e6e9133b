// What a host uses, as far as it could grow without end.
import { readdirSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { usage } from "../chaos/checks/leaks.ts";
import type { World } from "../chaos/world.ts";
import { must } from "../support/hosts.ts";

/**
 * Quantities, and how much each may grow in an hour. Memory is anonymous memory only: pages of the executable come and go, and
 * its size bounds them.
 */
export const LIMITS = {
  anonKb: 2_048,
  descriptors: 1,
  threads: 1,
  maps: 1,
  programs: 1,
  stateBytes: 262_144,
  links: 1,
  rules: 4,
} as const;

export type Quantity = keyof typeof LIMITS;

export interface Sample {
  /** Since the start. */
  readonly seconds: number;
  readonly host: number;
  readonly program: "router" | "npc";
  readonly pid: number;
  readonly values: Partial<Record<Quantity, number>>;
}

/** Descriptors of a process that are of a kind of BPF object. */
function bpf(pid: number, kind: string): number {
  let count = 0;
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      if (readlinkSync(`/proc/${pid}/fd/${fd}`).includes(kind)) count++;
    } catch {
      // Closed meanwhile.
    }
  }
  return count;
}

/** Size of the state file; its log is emptied only where it has reached 4 MB. */
const size = (folder: string) => statSync(join(folder, "weave.db")).size;

const count = async (command: string[]) => (await must(command)).split("\n").length;

/** Links and rules of a host beyond those of its containers. */
async function kernel(world: World, host: number, containers: number) {
  const on = world.host(host);
  const links = await count(["ip", "-n", on.netns, "-o", "link"]);
  const rules = await count(on.command("nft", "-s", "list", "tables"));
  return { links: links - containers, rules };
}

/** Samples of all programs that run; `containers` is how many a host has. */
export async function sample(
  world: World,
  seconds: number,
  containers: (host: number) => number,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const host of world.numbers) {
    for (const program of ["router", "npc"] as const) {
      const pid = world.pid(host, program);
      if (pid === undefined) continue;
      const own = { ...usage(pid), maps: bpf(pid, "bpf-map"), programs: bpf(pid, "bpf-prog") };
      const shared =
        program === "router"
          ? {
              ...(await kernel(world, host, containers(host))),
              stateBytes: size(world.disk(world.host(host))),
            }
          : {};
      samples.push({ seconds, host, program, pid, values: { ...own, ...shared } });
    }
  }
  return samples;
}
