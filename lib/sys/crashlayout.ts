// Layout of the data that the crash handler reads, and of the crash record that it writes. The handler is machine code
// (crashx64.ts, crasharm64.ts), as the rest of the program may be damaged: it writes the record to a memfd, and executes the
// program again in the same process. The engine uses faults in JIT-compiled code (memory bounds, stopping threads): they go to
// its handler.

/** Offsets in the data that the handler reads; each value has 8 bytes. */
export const DATA = {
  /** Bounds of JIT-compiled code. */
  from: 0,
  to: 8,
  /** The memfd. */
  fd: 16,
  /** execve(2): path, arguments, environment. */
  path: 24,
  argv: 32,
  envp: 40,
  /** Previous handlers, by signal. */
  handlers: 48,
  /** An empty mask, and an empty struct sigaction. */
  mask: 560,
  none: 568,
  size: 600,
} as const;

/** fcntl(2), sigprocmask(2) */
export const F_SETFD = 2;
export const SIG_SETMASK = 2;
/** Bytes of a signal mask. */
export const MASK_SIZE = 8;

/** Bytes that the handler writes: struct siginfo, the registers of struct ucontext, and at most so much of the stack. */
interface CrashRecord {
  readonly siginfo: number;
  readonly registers: number;
  readonly stack: number;
  /** Offsets in the registers: the program counter, and the link register if the architecture has one. */
  readonly counter: number;
  readonly link?: number;
}

/** By architecture. */
export const RECORDS: Readonly<Record<"x64" | "arm64", CrashRecord>> = {
  x64: { siginfo: 128, registers: 184, stack: 8192, counter: 128 },
  // struct sigcontext: fault_address, x0 to x30, sp, pc, pstate
  arm64: { siginfo: 128, registers: 280, stack: 8192, counter: 264, link: 248 },
};

/** Code of the handler and of the restorer (sigreturn(2)), and the offset of the restorer. */
export interface CrashCode {
  readonly code: Uint8Array;
  readonly restorer: number;
}
