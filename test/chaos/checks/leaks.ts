// Nothing is left of what has come and gone: links, routes, rules, programs, descriptors, threads, files.
import { readdirSync, readFileSync } from "node:fs";
import { type KernelState, kernelState, stateDifference } from "../../support/kernelstate.ts";
import { patience, type Violation } from "../settle.ts";
import type { World } from "../world.ts";

/** What a host has when nothing runs on it but our own programs. */
interface Inventory {
  readonly kernel: KernelState;
  readonly files: readonly string[];
}

export type Remembered = ReadonlyMap<number, Inventory>;

/** Differs from boot to boot, or from peer to peer. */
const VOLATILE =
  /table ip filter \{(?!.*WEAVE)|network mtu|ct mark|eth0|fe80::|inet6| qdiscs: |\.address |\.broadcast |permaddr|link_netns|numtxqueues|expose|fdb|routes6|"elements|tag|elements = |sleeve-\d+.*(tun|mac)/;
const MAC = /([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}/g;
const LOOSE_FILES = /-(wal|shm)$|^filler$/;
/** Descriptors and threads of a router that nothing happens to. */
const MAX_DESCRIPTORS = 150;
const MAX_THREADS = 40;
/** MB; the soak watches growth. */
const MAX_RSS = 400;
const QUIET_MS = 30_000;

async function inventory(world: World, host: number): Promise<Inventory> {
  const on = world.host(host);
  const kernel = await kernelState(on.netns);
  const files = readdirSync(world.disk(on))
    .filter((name) => !LOOSE_FILES.test(name))
    .sort();
  // A host that lost its state is another peer, with another address of its own.
  const own = /^links: weave\.addr_info\[inet ([\d.]+)\]/m.exec(kernel.join("\n"))?.[1];
  const address = new RegExp(`\\b${own?.replaceAll(".", "\\.") ?? "none"}\\b`, "g");
  const named = (line: string) => line.replace(MAC, "MAC").replace(address, "OWN");
  return {
    kernel: kernel
      .filter((line) => !VOLATILE.test(line))
      .map(named)
      .sort(),
    files,
  };
}

export async function remember(world: World): Promise<Remembered> {
  const read = async (host: number): Promise<[number, Inventory]> => [host, await inventory(world, host)];
  return new Map(await Promise.all(world.numbers.map(read)));
}

/** Return what is there now that was not there before, or the other way round, once it no longer changes. */
export async function leaks(world: World, before: Remembered): Promise<Violation | undefined> {
  let lines: string[] = [];
  const none = async () => {
    const now = await remember(world);
    lines = [...before].flatMap(([host, was]) => difference(host, was, now.get(host)));
    lines.push(...world.numbers.flatMap((host) => ofProcess(world, host)));
    return lines.length === 0;
  };
  const start = performance.now();
  while (!(await none()) && performance.now() - start < patience(QUIET_MS)) await Bun.sleep(500);
  return lines.length > 0 ? { kind: "leak", lines } : undefined;
}

function difference(host: number, before: Inventory, now: Inventory | undefined): string[] {
  const kernel = stateDifference(before.kernel, now?.kernel ?? []);
  const files = stateDifference(before.files, now?.files ?? []);
  return [...kernel, ...files].map((line) => `host ${host}: ${line}`);
}

function ofProcess(world: World, host: number): string[] {
  return (["router", "npc"] as const).flatMap((program) => {
    const pid = world.pid(host, program);
    if (pid === undefined) return [`host ${host}: ${program} does not run`];
    const { descriptors, threads, rssKb } = usage(pid);
    const of = `host ${host}: ${program} has`;
    return [
      ...(descriptors > MAX_DESCRIPTORS ? [`${of} ${descriptors} descriptors`] : []),
      ...(threads > MAX_THREADS ? [`${of} ${threads} threads`] : []),
      ...(rssKb > MAX_RSS * 1024 ? [`${of} ${rssKb} kB of memory`] : []),
    ];
  });
}

/** What a process uses. Throws where there is none. */
export function usage(pid: number): Readonly<Record<"descriptors" | "threads" | "rssKb" | "anonKb", number>> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: field("Threads"),
    rssKb: field("VmRSS"),
    anonKb: field("RssAnon"),
  };
}
