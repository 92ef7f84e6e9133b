// struct sock_fprog (linux/filter.h): how the kernel takes a program of classic BPF, for sockets and for seccomp.
import { ptr } from "bun:ffi";

/** Bytes of struct sock_filter, and of struct sock_fprog. */
const INSTRUCTION = 8;
const SIZE = 16;

/** Return the struct for instructions (struct sock_filter), which have to live until the kernel has read them. */
export function filterProgram(instructions: Uint8Array): Uint8Array {
  const program = new Uint8Array(SIZE);
  const view = new DataView(program.buffer);
  view.setUint16(0, instructions.length / INSTRUCTION, true);
  view.setBigUint64(8, BigInt(ptr(instructions)), true);
  return program;
}
