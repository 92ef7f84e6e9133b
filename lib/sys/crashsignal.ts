// Execute the program again in place after a fatal signal (a fault in the runtime or in a library): same process, arguments and
// environment, and a memfd with the crash record. signal(7), sigaction(2).
import { ptr, toArrayBuffer } from "bun:ffi";
import { closeSync, fstatSync, readFileSync, readSync, writeSync } from "node:fs";
import { basename } from "node:path";
import * as v from "valibot";
import { crashCode as arm64 } from "./crasharm64.ts";
import { DATA, RECORDS } from "./crashlayout.ts";
import { crashCode as x64 } from "./crashx64.ts";
import { execBlock } from "./runtime.ts";
import { ARCHITECTURE, syscall, trySyscall } from "./syscall.ts";

const SIGNALS = { SIGILL: 4, SIGTRAP: 5, SIGABRT: 6, SIGBUS: 7, SIGFPE: 8, SIGSEGV: 11, SIGSYS: 31 } as const;

/** asm/signal.h: SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_RESTART */
const FLAGS = 4 | 0x04000000 | 0x08000000 | 0x10000000;
const SIGACTION = 32;
const MASK = 8;

/** mman-common.h */
const [READ, WRITE, EXEC, PRIVATE_ANONYMOUS] = [1, 2, 4, 0x22];
const MFD_CLOEXEC = 1;

/** Variable with the fd of the memfd. */
const VARIABLE = "WEAVE_CRASH_FD";

/** An executable part of memory. */
const Address = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,16}$/));
const Part = v.object({ from: Address, to: Address, path: v.string() });
const Header = v.object({ started: v.number(), parts: v.array(Part) });
type Part = v.InferOutput<typeof Part>;

/** Return the executable parts in the text of /proc/PID/maps: proc_pid_maps(5). */
export function executableParts(maps: string): Part[] {
  return [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ \d+ *(.*)$/gm)].map(
    ([, from = "", to = "", path = ""]) => ({ from, to, path }),
  );
}

const size = ({ from, to }: Part) => BigInt(`0x${to}`) - BigInt(`0x${from}`);

/**
 * Return the mapping of JIT-compiled code: the engine reserves the largest one without a file. Adjacent mappings count as one:
 * the kernel may split them.
 */
export function compiledPart(parts: readonly Part[]): Part | undefined {
  const whole: Part[] = [];
  for (const part of parts.filter(({ path }) => path === "")) {
    const last = whole.at(-1);
    if (last?.to === part.from) whole.splice(-1, 1, { ...last, to: part.to });
    else whole.push(part);
  }
  const [largest] = whole.sort((a, b) => Number(size(b) - size(a)));
  return largest;
}

const CODES = { x64, arm64 };

/** What the handler reads must not be freed. */
const kept: Uint8Array[] = [];

/** Install the handler, once. Returns whether it could. */
export function restartOnCrash(argv: readonly string[]): boolean {
  if (kept.length > 0) return false;
  const parts = executableParts(readFileSync("/proc/self/maps", "utf8"));
  const compiled = compiledPart(parts);
  const fd = syscall("crash record", "memfd_create", new TextEncoder().encode("weave-crash\0"), MFD_CLOEXEC);
  const named = parts.filter(({ path }) => path.startsWith("/"));
  writeSync(fd, `${JSON.stringify({ started: Date.now(), parts: named })}\n`);
  const block = execBlock(argv, { [VARIABLE]: String(fd) });
  const data = new Uint8Array(DATA.size);
  kept.push(data, ...block.kept);
  const view = new DataView(data.buffer);
  const set = (at: number, value: bigint) => view.setBigUint64(at, value, true);
  set(DATA.from, BigInt(`0x${compiled?.from ?? "0"}`));
  set(DATA.to, BigInt(`0x${compiled?.to ?? "0"}`));
  set(DATA.fd, BigInt(fd));
  set(DATA.path, BigInt(block.path));
  set(DATA.argv, BigInt(block.argv));
  set(DATA.envp, BigInt(block.envp));
  const { code, restorer } = CODES[ARCHITECTURE](BigInt(ptr(data)));
  const at = executableMemory(code);
  for (const signal of Object.values(SIGNALS)) {
    const old = new Uint8Array(SIGACTION);
    const action = new DataView(new ArrayBuffer(SIGACTION));
    for (const [i, value] of [BigInt(at), BigInt(FLAGS), BigInt(at + restorer)].entries())
      action.setBigUint64(8 * i, value, true);
    trySyscall("rt_sigaction", signal, 0, old, MASK);
    const former = new DataView(old.buffer).getBigUint64(0, true);
    // SIG_DFL and SIG_IGN are no handlers.
    set(DATA.handlers + 8 * signal, former > 1n ? former : 0n);
    trySyscall("rt_sigaction", signal, new Uint8Array(action.buffer), 0, MASK);
  }
  return true;
}

/** Return the address of a copy of the code, never writable and executable at the same time. */
function executableMemory(code: Uint8Array): number {
  const length = 4096;
  const at = syscall("crash handler", "mmap", 0, length, READ | WRITE, PRIVATE_ANONYMOUS, -1, 0);
  new Uint8Array(toArrayBuffer(at as Parameters<typeof toArrayBuffer>[0], 0, length)).set(code);
  syscall("crash handler", "mprotect", at, length, READ | EXEC);
  return at;
}

/** A signal that ended this program before it was executed again. */
export class SignalError extends Error {
  constructor(
    override readonly name: string,
    message: string,
    frames: readonly string[],
    /** Ms since the epoch at which the program that crashed had started. */
    readonly started: number,
  ) {
    super(message);
    this.stack = [`${name}: ${message}`, ...frames.map((frame) => `    at ${frame}`)].join("\n");
  }
}

/** Return what the handler has kept of a crash, once; undefined if this program was started otherwise. */
export function takeCrash(): SignalError | undefined {
  const fd = Number(process.env[VARIABLE]);
  delete process.env[VARIABLE];
  if (!Number.isSafeInteger(fd) || fd < 3) return undefined;
  try {
    const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, 1 << 20));
    readSync(fd, bytes, 0, bytes.length, 0);
    closeSync(fd);
    return readCrash(bytes);
  } catch {
    // The variable is somebody else's.
    return undefined;
  }
}

const MAX_FRAMES = 40;

/** Read the crash record of a program for `arch`; undefined if it is not one. */
export function readCrash(bytes: Uint8Array, arch = ARCHITECTURE): SignalError | undefined {
  const layout = RECORDS[arch];
  const end = bytes.indexOf(0x0a);
  const header = v.safeParse(
    v.pipe(v.string(), v.parseJson(), Header),
    new TextDecoder().decode(bytes.subarray(0, Math.max(end, 0))),
  );
  const record = bytes.subarray(end + 1);
  if (!header.success || record.length < layout.siginfo + layout.registers) return undefined;
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  const [signal, code] = [view.getInt32(0, true), view.getInt32(8, true)];
  const name = Object.entries(SIGNALS).find(([, number]) => number === signal)?.[0] ?? `signal ${signal}`;
  const { parts, started } = header.output;
  const register = (at: number) => view.getBigUint64(layout.siginfo + at, true);
  const what =
    code <= 0
      ? `sent by process ${view.getInt32(16, true)}`
      : `at address 0x${view.getBigUint64(16, true).toString(16)}`;
  const frames = [register(layout.counter)];
  if (layout.link !== undefined) frames.push(register(layout.link));
  // What looks like a return address: the runtime keeps no frame pointers.
  for (let at = layout.siginfo + layout.registers; at + 8 <= record.length; at += 8)
    frames.push(view.getBigUint64(at, true));
  const ranges = parts.map(({ from, to, path }) => ({
    from: BigInt(`0x${from}`),
    to: BigInt(`0x${to}`),
    path,
  }));
  const named = frames.flatMap((address, i) => placeOf(ranges, address) ?? (i === 0 ? hex(address) : []));
  return new SignalError(name, what, named.slice(0, MAX_FRAMES), started);
}

const hex = (address: bigint) => `0x${address.toString(16)}`;

interface Range {
  readonly from: bigint;
  readonly to: bigint;
  readonly path: string;
}

/** "weave-router+0x1234": the address in its file's memory. */
function placeOf(ranges: readonly Range[], address: bigint): string | undefined {
  const range = ranges.find(({ from, to }) => from <= address && address < to);
  return range && `${basename(range.path)}+${hex(address - range.from)}`;
}
