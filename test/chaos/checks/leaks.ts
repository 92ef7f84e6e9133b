// Nothing is left of what has come and gone: links, routes, rules, programs, descriptors, threads, files.
import { readdirSync, readFileSync } from "node:fs";
import { stateDifference } from "../../support/kernelstate.ts";
import { patience, type Violation } from "../settle.ts";
import type { World } from "../world.ts";
import { type Inventory, type Remembered, remember } from "./inventory.ts";

/** Descriptors and threads of a router that nothing happens to. */
const MAX_DESCRIPTORS = 150;
const MAX_THREADS = 40;
/** MB; the soak watches growth. */
const MAX_RSS = 400;
const QUIET_MS = 30_000;

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
