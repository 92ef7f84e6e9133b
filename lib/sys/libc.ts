// The binding to libc: glibc or musl, whichever this host has.

import { dlopen, FFIType, type Pointer, read } from "bun:ffi";
import { reasonOf } from "./reason.ts";

const MUSL_ARCH: Record<string, string> = { x64: "x86_64", arm64: "aarch64" };
const CANDIDATES = ["libc.so.6", `libc.musl-${MUSL_ARCH[process.arch] ?? process.arch}.so.1`, "libc.so"];

const LONG = FFIType.i64;

const SYMBOLS = {
  syscall: { args: [LONG, LONG, LONG, LONG, LONG, LONG, LONG], returns: FFIType.i64_fast },
  __errno_location: { args: [], returns: FFIType.ptr },
  strerror: { args: [FFIType.i32], returns: FFIType.cstring },
} as const;

function open() {
  const reasons: string[] = [];
  for (const name of CANDIDATES) {
    try {
      return dlopen(name, SYMBOLS).symbols;
    } catch (error) {
      reasons.push(`${name}: ${reasonOf(error)}`);
    }
  }
  throw new Error(`no usable C library found (${reasons.join("; ")})`);
}

const libc = open();

/** syscall(2) of libc: returns the result, or -1 with errno set. */
export const rawSyscall = libc.syscall;

// Fixed for this thread; each Worker loads this module for itself.
const errnoAddress = libc.__errno_location() as Pointer;

/** Return errno of this thread, as the last failed libc call set it. */
export function lastErrno(): number {
  return read.i32(errnoAddress);
}

/** Return the C library's text for an errno: "File exists" for 17. */
export function strerror(errno: number): string {
  return libc.strerror(errno)?.toString() ?? `errno ${errno}`;
}
