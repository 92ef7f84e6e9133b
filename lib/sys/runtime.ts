// How the JavaScript engine is to run a daemon: for months, mostly idle, and beside others that need the processor more.
// Left alone it spends half of a start on compiling for speed what then hardly runs again. It reads its options from
// the environment when the process begins, so the process begins a second time.
import { ptr } from "bun:ffi";
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
  const compiled = Bun.main.startsWith("/$bunfs/");
  if (!compiled || Object.keys(OPTIONS).every((name) => name in process.env)) return;
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
