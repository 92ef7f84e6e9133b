// What the crash handler reads, and what it writes: it is machine code (crashx64.ts, crasharm64.ts), for the rest of the program may
// be damaged. It keeps what the kernel says of the crash in a memfd and executes the program again, in the same process. A fault in
// code that the engine has compiled is the engine's own means (memory bounds, stopping threads) and goes to its handler.

/** Offsets in the block of data that the code reads; each value has 8 bytes. */
export const DATA = {
  /** Compiled code: from, and to. */
  from: 0,
  to: 8,
  /** The memfd. */
  fd: 16,
  /** execve(2): path, arguments, environment. */
  path: 24,
  argv: 32,
  envp: 40,
  /** Handlers that were there, by signal. */
  handlers: 48,
  /** An empty mask, and an empty struct sigaction. */
  mask: 560,
  none: 568,
  size: 600,
} as const;

/** fcntl(2), sigprocmask(2) */
export const F_SETFD = 2;
export const SIG_SETMASK = 2;
/** Bytes of a mask of signals. */
export const MASK_SIZE = 8;

/** Bytes of what the code writes: struct siginfo, the registers of struct ucontext, and as much of the stack as there is. */
interface CrashRecord {
  readonly siginfo: number;
  readonly registers: number;
  readonly stack: number;
  /** Offsets in the registers: the program counter, and the return address where it is not on the stack alone. */
  readonly counter: number;
  readonly link?: number;
}

/** By architecture. */
export const RECORDS: Readonly<Record<"x64" | "arm64", CrashRecord>> = {
  x64: { siginfo: 128, registers: 184, stack: 8192, counter: 128 },
  // The address of the fault, x0 to x30, sp, pc, pstate: struct sigcontext
  arm64: { siginfo: 128, registers: 280, stack: 8192, counter: 264, link: 248 },
};

/** Code of handler and restorer, and the offset of the restorer. */
export interface CrashCode {
  readonly code: Uint8Array;
  readonly restorer: number;
}
