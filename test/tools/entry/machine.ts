// What the entry program (program.ts) is written in: the instructions that a processor's file (x64.ts) has to encode.

/** r0: result of a system call; r1 to r5 and r10: its arguments, not preserved; r6 to r9 and fp: preserved. */
export type Register = "r0" | "r1" | "r2" | "r3" | "r4" | "r5" | "r6" | "r7" | "r8" | "r9" | "r10" | "fp";
/** A register, or a signed 32-bit number. */
type Operand = Register | number;
export type Size = "u8" | "u16" | "u32" | "u64";
/** Unsigned, of 64 bits. */
export type Comparison = "eq" | "ne" | "gt" | "ge" | "lt" | "le";
export type SystemCall =
  | "read"
  | "write"
  | "close"
  | "lseek"
  | "socket"
  | "sendto"
  | "connect"
  | "fcntl"
  | "getcwd"
  | "chdir"
  | "exit_group"
  | "newfstatat"
  | "ppoll"
  | "dup3"
  | "readlink"
  | "execve"
  | "prctl"
  | "capget"
  | "capset"
  | "memfd_create"
  | "openat"
  | "mmap"
  | "mprotect";

export interface Machine {
  /** The first instructions: r1 points to argc, as the kernel passes it; fp has `frame` bytes below it. */
  enter(frame: number): void;
  /** Go on at the address in a register, with the stack as it came. */
  leave(to: Register): void;
  label(name: string): void;
  mov(to: Register, value: Operand): void;
  add(to: Register, value: Operand): void;
  sub(to: Register, value: Operand): void;
  and(to: Register, value: number): void;
  /** Load with zeros above. */
  load(size: Size, to: Register, base: Register, offset: number): void;
  store(size: Size, base: Register, offset: number, value: Operand): void;
  jump(to: string): void;
  jumpIf(register: Register, comparison: Comparison, value: Operand, to: string): void;
  call(name: SystemCall): void;
  /** Return the code; throws for a label that was never set. */
  code(): Uint8Array;
}
