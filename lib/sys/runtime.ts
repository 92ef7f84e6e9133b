// How the JavaScript engine is to run a daemon: for months, mostly idle, and beside others that need the processor more.
// Left alone it spends half of a start on compiling for speed what then hardly runs again. It reads its options from
// the environment when the process begins, so the process begins a second time.
import { ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { trySyscall } from "./syscall.ts";

/** Calls of a function before it is compiled: simply, better, best. What frames pass through gets there soon enough. */
const OPTIONS = {
  BUN_JSC_thresholdForJITAfterWarmUp: "2000",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "20000",
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "1000000",
} as const;

/** The environment of a daemon: what of it is not said there already. */
export function daemonEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const set = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...OPTIONS, ...Object.fromEntries(set) };
}

/** Begins again with the options of a daemon, in place of this process; returns where there is no need, or no way. */
export function beginAsDaemon(argv: readonly string[]): void {
  if (isCompiled() && !Object.keys(OPTIONS).every((name) => name in process.env)) replaceProcess(argv);
}

/** Times (ms since the epoch) of restarts in place, handed on by the environment. */
const RESTARTS = "WEAVE_RESTARTS";
const MAX_RESTARTS = 3;
const RESTARTS_WITHIN_MS = 600_000;

/** Whether this process may restart in place: three times in 10 min. */
export function mayRestart(now = Date.now()): boolean {
  return isCompiled() && recentRestarts(now).length < MAX_RESTARTS;
}

/** Restart in place, with the same arguments and process id; returns where the kernel refuses. */
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
  // All strings in one block, the path first; what the kernel is passed stays where it is while it reads.
  const block = new TextEncoder().encode(strings.join(""));
  let at = ptr(block) as number;
  const [, ...pointers] = strings.map((text) => {
    const here = BigInt(at);
    at += Buffer.byteLength(text);
    return here;
  });
  const list = (part: readonly bigint[]) => new Uint8Array(BigUint64Array.from([...part, 0n]).buffer);
  const count = 1 + argv.length;
  // Where the kernel refuses, we are who we were, only slower.
  trySyscall("execve", block, list(pointers.slice(0, count)), list(pointers.slice(count)));
}

/** include/uapi/asm-generic/mman-common.h */
const MADV_DONTNEED = 4;

/** After this nothing goes on any more that belongs to a start. */
export const STARTED_MS = 10_000;

/**
 * Lets go of what only the start has needed: garbage, and most pages of the executable. Of what is still in use the
 * kernel has a copy, and maps it again when it is asked for. Only what is never written to: the code, and the constants
 * before it.
 */
export function forgetStart(): void {
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
