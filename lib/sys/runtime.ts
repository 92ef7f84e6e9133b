// Options of the JavaScript engine for a daemon, which runs for months and is mostly idle: by default, half of a start goes into
// optimizing code that hardly runs again. The engine reads its options from the environment at the start of the process, so
// the process executes itself once more: the router by its entry program, before the runtime starts (test/tools/entry/router.ts);
// all others by execAsDaemon.
import { ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { limitNextProgram } from "./confine.ts";
import type { DaemonName } from "./privileges.ts";
import { trySyscall } from "./syscall.ts";

/**
 * Calls of a function before each of the three compilers, 15 of these a call; the path of frames gets there soon. What a timer
 * calls once a second does within minutes of a lower threshold, one function after the other, for code that does little.
 */
export const ENGINE_OPTIONS = {
  BUN_JSC_thresholdForJITAfterWarmUp: "20000",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "20000",
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "1000000",
  // Heap size in bytes at the first collection: with the default of 8 MiB, a start collects twice and frees hardly anything.
  BUN_JSC_largeHeapSize: "16777216",
  // Part of a processor for collections while there is nothing else to do: by default a tenth, and each start and each new peer
  // is followed by collections that free little.
  BUN_JSC_collectionTimerMaxPercentCPU: "0.0005",
  // Ms between looks for garbage beside those that allocation brings about; by default a second, idle or not.
  BUN_GC_TIMER_INTERVAL: "120000",
  // Ms between looks into pages in use for free blocks to give back: by default 0.1 s, which costs a fifth of what an idle
  // router takes.
  MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "10000",
  // Ms after which free pages are given back; by default sooner, by a thread that then wakes up nearly once a second.
  MIMALLOC_PURGE_DELAY: "10000",
} as const;

/** Return the environment of a daemon: `env` with the engine's options, unless it has them. */
export function daemonEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const set = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...ENGINE_OPTIONS, ...Object.fromEntries(set) };
}

/**
 * Replace this process by one with the engine's options and the daemon's capabilities alone; returns if it is that already, or
 * if the kernel refuses.
 */
export function execAsDaemon(daemon: DaemonName, argv: readonly string[]): void {
  if (!isCompiled()) return;
  const limited = limitNextProgram(daemon);
  if (limited || !Object.keys(ENGINE_OPTIONS).every((name) => name in process.env)) replaceProcess(argv);
}

/** Let programs that this one executes have the daemon's capabilities alone. */
export function limitDaemon(daemon: DaemonName): void {
  if (isCompiled()) limitNextProgram(daemon);
}

/** Variable with the times of restarts in place, in ms since the epoch. */
const RESTARTS = "WEAVE_RESTARTS";
export const MAX_RESTARTS = 5;
const RESTARTS_WITHIN_MS = 60_000;

/** True if this process may restart in place: five times in a minute. */
export function mayRestart(now = Date.now()): boolean {
  return recentRestarts(now).length < MAX_RESTARTS;
}

/** Restart in place, with the same arguments and pid; returns if the kernel refuses, or this is no executable of ours. */
export function restart(now = Date.now()): void {
  countRestart(now);
  if (isCompiled()) replaceProcess(process.argv.slice(2));
}

/** Count a restart that the crash handler has made; returns whether it was one too many. */
export function countRestart(now = Date.now()): boolean {
  const times = [...recentRestarts(now), now];
  process.env[RESTARTS] = times.join();
  return times.length > MAX_RESTARTS;
}

function recentRestarts(now: number): number[] {
  const times = (process.env[RESTARTS] ?? "").split(",").map(Number);
  return times.filter((time) => time > 0 && Math.abs(now - time) < RESTARTS_WITHIN_MS);
}

export const isCompiled = () => Bun.main.startsWith("/$bunfs/");

function replaceProcess(argv: readonly string[]): void {
  const { kept: block, ...at } = execBlock(argv, {});
  // If the kernel refuses, this process goes on, only slower.
  trySyscall("execve", at.path, at.argv, at.envp);
  // Until here its memory is in use.
  block.length = 0;
}

/** What execve(2) needs to replace this program by itself as a daemon: addresses, and the memory that they are in. */
export function execBlock(argv: readonly string[], more: Readonly<Record<string, string>>) {
  const environment = { ...daemonEnvironment(process.env), ...more };
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const strings = [process.execPath, process.argv0, ...argv, ...variables].map((text) => `${text}\0`);
  const block = new TextEncoder().encode(strings.join(""));
  const path = ptr(block) as number;
  let at = path;
  const [, ...pointers] = strings.map((text) => {
    const here = BigInt(at);
    at += Buffer.byteLength(text);
    return here;
  });
  const list = (part: readonly bigint[]) => new Uint8Array(BigUint64Array.from([...part, 0n]).buffer);
  const count = 1 + argv.length;
  const [first, second] = [list(pointers.slice(0, count)), list(pointers.slice(count))];
  return {
    path,
    argv: ptr(first) as number,
    envp: ptr(second) as number,
    kept: [block, first, second],
  };
}

/** include/uapi/asm-generic/mman-common.h */
const MADV_DONTNEED = 4;

/** Memory is released once a start is over and a router has met its peers, and at this interval. */
export const STARTED_MS = 60_000;
export const RELEASE_MS = 10 * 60_000;

/**
 * Release memory that is not in use: garbage, code that has not run lately, and the read-only pages of the executable (code and
 * constants), which the kernel maps again from the file on access. The engine itself collects all garbage only once the heap has
 * grown much, which that of a daemon with a little work now and then does over hours. Takes 15 to 200 ms.
 */
export function releaseMemory(): void {
  Bun.gc(true);
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const [, from, to, mode, offset, path] =
      /^([0-9a-f]+)-([0-9a-f]+) (\S+) (\S+) \S+ \d+ +(.+)$/.exec(line) ?? [];
    const constant = mode === "r-xp" || (mode === "r--p" && Number(offset) === 0);
    if (path !== process.execPath || !constant) continue;
    const [start, end] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
    trySyscall("madvise", start, end - start, MADV_DONTNEED);
  }
}
