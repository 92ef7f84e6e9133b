// Machine code of x86-64 for the entry program (program.ts): few instructions, each in its longest form.
import type { Comparison, Machine, Register, Size } from "./machine.ts";

/** System calls take their arguments in rdi, rsi, rdx, r10, r8, r9, return in rax, and clobber rcx and r11. */
const REGISTERS: Record<Register, number> = {
  r0: 0,
  r1: 7,
  r2: 6,
  r3: 2,
  r4: 10,
  r5: 8,
  r6: 3,
  r7: 13,
  r8: 14,
  r9: 15,
  r10: 9,
  fp: 5,
};
const SCRATCH = 11;
const RAX = 0;
const RSP = 4;

/** Opcodes of jcc rel32, second byte. */
const CONDITIONS: Record<Comparison, number> = { eq: 0x84, ne: 0x85, gt: 0x87, ge: 0x83, lt: 0x82, le: 0x86 };

/** asm/unistd_64.h */
const CALLS = {
  read: 0,
  write: 1,
  close: 3,
  lseek: 8,
  mmap: 9,
  mprotect: 10,
  socket: 41,
  connect: 42,
  sendto: 44,
  execve: 59,
  fcntl: 72,
  getcwd: 79,
  chdir: 80,
  readlink: 89,
  capget: 125,
  capset: 126,
  prctl: 157,
  exit_group: 231,
  openat: 257,
  newfstatat: 262,
  ppoll: 271,
  dup3: 292,
  memfd_create: 319,
} as const;

/** Return a machine that emits position-independent x86-64 code. */
export function x64(): Machine {
  const bytes: number[] = [];
  const labels = new Map<string, number>();
  const jumps: { at: number; to: string }[] = [];
  const emit = (...code: number[]) => bytes.push(...code);
  const u32 = (value: number) =>
    emit(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255);
  const rex = (wide: boolean, reg: number, rm: number) =>
    emit(0x40 | (wide ? 8 : 0) | (reg >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0));
  /** opcode reg, rm: both registers. */
  const direct = (opcode: number, reg: number, rm: number) => {
    rex(true, reg, rm);
    emit(opcode, 0xc0 | ((reg & 7) << 3) | (rm & 7));
  };
  /** opcode with a memory operand [base + displacement]. */
  const memory = (opcode: number[], wide: boolean, reg: number, base: number, displacement: number) => {
    rex(wide, reg, base);
    emit(...opcode, 0x80 | ((reg & 7) << 3) | (base & 7));
    u32(displacement);
  };
  /** Group 1: add 0, or 1, and 4, sub 5, cmp 7, with a sign-extended imm32. */
  const immediate = (extension: number, rm: number, value: number) => {
    rex(true, 0, rm);
    emit(0x81, 0xc0 | (extension << 3) | (rm & 7));
    u32(value);
  };
  const movImmediate = (rm: number, value: number) => {
    rex(true, 0, rm);
    emit(0xc7, 0xc0 | (rm & 7));
    u32(value);
  };
  const store = (size: Size, base: number, offset: number, from: number) => {
    if (size === "u16") emit(0x66);
    memory([size === "u8" ? 0x88 : 0x89], size === "u64", from, base, offset);
  };
  const R = REGISTERS;
  const jumpTo = (to: string) => {
    jumps.push({ at: bytes.length, to });
    u32(0);
  };
  return {
    enter(frame) {
      // The kernel's rdx: 0, no function for the end of the process.
      emit(0x52);
      direct(0x89, RSP, R.fp);
      immediate(5, RSP, frame);
      direct(0x89, R.fp, R.r1);
      immediate(0, R.r1, 8);
    },
    leave(to) {
      direct(0x89, R.fp, RSP);
      emit(0x5a);
      // jmp
      rex(false, 0, R[to]);
      emit(0xff, 0xe0 | (R[to] & 7));
    },
    label: (name) => labels.set(name, bytes.length),
    mov: (to, value) =>
      typeof value === "number" ? movImmediate(R[to], value) : direct(0x89, R[value], R[to]),
    add: (to, value) =>
      typeof value === "number" ? immediate(0, R[to], value) : direct(0x01, R[value], R[to]),
    sub: (to, value) =>
      typeof value === "number" ? immediate(5, R[to], value) : direct(0x29, R[value], R[to]),
    and: (to, value) => immediate(4, R[to], value),
    load(size, to, base, offset) {
      const opcode = { u8: [0x0f, 0xb6], u16: [0x0f, 0xb7], u32: [0x8b], u64: [0x8b] }[size];
      memory(opcode, size === "u64", R[to], R[base], offset);
    },
    store(size, base, offset, value) {
      if (typeof value === "number") movImmediate(SCRATCH, value);
      store(size, R[base], offset, typeof value === "number" ? SCRATCH : R[value]);
    },
    jump(to) {
      emit(0xe9);
      jumpTo(to);
    },
    jumpIf(register, comparison, value, to) {
      if (typeof value === "number") immediate(7, R[register], value);
      else direct(0x39, R[value], R[register]);
      emit(0x0f, CONDITIONS[comparison]);
      jumpTo(to);
    },
    call(name) {
      movImmediate(RAX, CALLS[name]);
      emit(0x0f, 0x05);
    },
    code() {
      const code = Uint8Array.from(bytes);
      const view = new DataView(code.buffer);
      for (const { at, to } of jumps) {
        const target = labels.get(to);
        if (target === undefined) throw new Error(`label ${to} is not set`);
        view.setInt32(at, target - at - 4, true);
      }
      return code;
    },
  };
}
