// Options of the JavaScript engine for a daemon, which runs for months and is mostly idle: by default, half of a start goes into
// optimizing code that hardly runs again. The engine reads its options from the environment at the start of the process, so
// the process replaces itself once.
import { ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { trySyscall } from "./syscall.ts";

/** Calls of a function before each of the three compilers; the path of frames gets there soon. */
const OPTIONS = {
  BUN_JSC_thresholdForJITAfterWarmUp: "2000",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "20000",
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "1000000",
  // Ms between looks for garbage beside those that allocation brings about; by default a second, idle or not.
  BUN_GC_TIMER_INTERVAL: "30000",
} as const;

/** Return the environment of a daemon: `env` with the engine's options, unless it has them. */
export function daemonEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const set = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...OPTIONS, ...Object.fromEntries(set) };
}

/** Replace this process by one with the engine's options; returns if it has them, or if the kernel refuses. */
export function execAsDaemon(argv: readonly string[]): void {
  if (isCompiled() && !Object.keys(OPTIONS).every((name) => name in process.env)) replaceProcess(argv);
}

/** Variable with the times of restarts in place, in ms since the epoch. */
const RESTARTS = "WEAVE_RESTARTS";
const MAX_RESTARTS = 3;
const RESTARTS_WITHIN_MS = 600_000;

/** True if this process may restart in place: three times in 10 min. */
export function mayRestart(now = Date.now()): boolean {
  return isCompiled() && recentRestarts(now).length < MAX_RESTARTS;
}

/** Restart in place, with the same arguments and pid; returns if the kernel refuses. */
export function restart(now = Date.now()): void {
  process.env[RESTARTS] = [...recentRestarts(now), now].join();
  replaceProcess(process.argv.slice(2));
}

function recentRestarts(now: number): number[] {
  const times = (process.env[RESTARTS] ?? "").split(",").map(Number);
  return times.filter((time) => time > 0 && Math.abs(now - time) < RESTARTS_WITHIN_MS);
}

const isCompiled = () => Bun.main.startsWith("/$bunfs/");

function replaceProcess(argv: readonly string[]): void {
  const variables = Object.entries(daemonEnvironment(process.env)).map(([name, value]) => `${name}=${value}`);
  const strings = [process.execPath, process.argv0, ...argv, ...variables].map((text) => `${text}\0`);
  // One block, the path first: its address stays valid while the kernel reads.
  const block = new TextEncoder().encode(strings.join(""));
  let at = ptr(block) as number;
  const [, ...pointers] = strings.map((text) => {
    const here = BigInt(at);
    at += Buffer.byteLength(text);
    return here;
  });
  const list = (part: readonly bigint[]) => new Uint8Array(BigUint64Array.from([...part, 0n]).buffer);
  const count = 1 + argv.length;
  // If the kernel refuses, this process goes on, only slower.
  trySyscall("execve", block, list(pointers.slice(0, count)), list(pointers.slice(count)));
}

/** include/uapi/asm-generic/mman-common.h */
const MADV_DONTNEED = 4;

/** Time after which a start is over, and after which a router has met its peers. */
export const STARTED_MS = 10_000;
export const MESHED_MS = 60_000;

/**
 * Release memory that only the start needed: garbage, and the read-only pages of the executable (code and constants), which
 * the kernel maps again from the file on access.
 */
export function releaseStartMemory(): void {
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
