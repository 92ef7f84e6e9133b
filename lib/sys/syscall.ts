// System calls by number through syscall(2) of libc: one foreign function for all of them.
// Numbers: linux/arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64).
import { ptr } from "bun:ffi";
import { lastErrno, rawSyscall, strerror } from "./libc.ts";

/** Numbers by architecture. */
export const SYSCALL_NUMBERS = {
  x64: {
    read: 0,
    write: 1,
    mmap: 9,
    mprotect: 10,
    rt_sigaction: 13,
    ioctl: 16,
    writev: 20,
    madvise: 28,
    socket: 41,
    connect: 42,
    sendto: 44,
    recvfrom: 45,
    bind: 49,
    setsockopt: 54,
    getsockopt: 55,
    execve: 59,
    fcntl: 72,
    flock: 73,
    capset: 126,
    prctl: 157,
    clock_gettime: 228,
    ppoll: 271,
    dup3: 292,
    pipe2: 293,
    recvmmsg: 299,
    prlimit64: 302,
    sendmmsg: 307,
    setns: 308,
    unshare: 272,
    adjtimex: 159,
    finit_module: 313,
    seccomp: 317,
    memfd_create: 319,
    bpf: 321,
    pidfd_send_signal: 424,
    pidfd_open: 434,
  },
  arm64: {
    read: 63,
    write: 64,
    mmap: 222,
    mprotect: 226,
    rt_sigaction: 134,
    ioctl: 29,
    writev: 66,
    socket: 198,
    connect: 203,
    sendto: 206,
    recvfrom: 207,
    bind: 200,
    setsockopt: 208,
    getsockopt: 209,
    execve: 221,
    fcntl: 25,
    flock: 32,
    capset: 91,
    prctl: 167,
    clock_gettime: 113,
    ppoll: 73,
    dup3: 24,
    pipe2: 59,
    recvmmsg: 243,
    prlimit64: 261,
    sendmmsg: 269,
    setns: 268,
    unshare: 97,
    adjtimex: 171,
    finit_module: 273,
    seccomp: 277,
    memfd_create: 279,
    madvise: 233,
    bpf: 280,
    pidfd_send_signal: 424,
    pidfd_open: 434,
  },
} as const;

export type SyscallName = keyof (typeof SYSCALL_NUMBERS)["x64"];

const arch = process.arch;
if (arch !== "x64" && arch !== "arm64") {
  throw new Error(`processor architecture ${arch} is not supported: use x86-64 or arm64`);
}
/** Architecture of this program. */
export const ARCHITECTURE: keyof typeof SYSCALL_NUMBERS = arch;
const numbers: Record<SyscallName, number> = SYSCALL_NUMBERS[ARCHITECTURE];

/** An argument of a system call: an integer, or a buffer passed by its address. */
export type SyscallArgument = number | bigint | Uint8Array;

/** A system call failed: the operation in words, and the kernel's reason. */
export class SysError extends Error {
  override readonly name = "SysError";
  constructor(
    readonly operation: string,
    /** Positive errno, e.g. 17 for EEXIST. */
    readonly errno: number,
  ) {
    super(`${operation}: ${strerror(errno)}`);
  }
}

const NONE = 0;

function argument(value: SyscallArgument | undefined): number | bigint {
  if (value === undefined) return NONE;
  return typeof value === "object" ? ptr(value) : value;
}

/**
 * Call the kernel; returns its result, or minus errno as the kernel itself does. Buffers are passed by address and must be at
 * least as long as the length that is passed with them.
 */
export function trySyscall(name: SyscallName, ...args: SyscallArgument[]): number {
  const result = rawSyscall(
    numbers[name],
    argument(args[0]),
    argument(args[1]),
    argument(args[2]),
    argument(args[3]),
    argument(args[4]),
    argument(args[5]),
  );
  // Read at once: any other call of this thread may set errno.
  return result < 0 ? -lastErrno() : Number(result);
}

/** Return the number of a system call on this machine, for loops that use rawSyscall. */
export function syscallNumber(name: SyscallName): number {
  return numbers[name];
}

/** As trySyscall, but throws SysError with `operation` in its text. */
export function syscall(operation: string, name: SyscallName, ...args: SyscallArgument[]): number {
  const result = trySyscall(name, ...args);
  if (result < 0) throw new SysError(operation, -result);
  return result;
}
