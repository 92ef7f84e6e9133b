// An assembler for eBPF (RFC 9669, BPF Instruction Set Architecture): instructions of 8 bytes, little-endian, jumps to
// labels.
import { viewOf } from "../bytes/view.ts";
import { BPF_FUNC, type Helper } from "./helpers.ts";

declare const REGISTER: unique symbol;
/** A register's number. Plain numbers are none: an immediate is written as { imm }. */
export type Register = number & { readonly [REGISTER]: true };

const register = (number: number) => number as Register;

/** Return value. */
export const R0 = register(0);
/** Arguments; a call clobbers R1 to R5. */
export const R1 = register(1);
export const R2 = register(2);
export const R3 = register(3);
export const R4 = register(4);
export const R5 = register(5);
/** Callee-saved. */
export const R6 = register(6);
export const R7 = register(7);
export const R8 = register(8);
export const R9 = register(9);
/** Frame pointer, read-only; the stack is the 512 bytes below it. */
export const FP = register(10);

// Instruction classes, sources and modes (RFC 9669, section 3).
const LD = 0x00;
const LDX = 0x01;
const ST = 0x02;
const STX = 0x03;
const JMP = 0x05;
const JMP32 = 0x06;
const ALU = 0x04;
const ALU64 = 0x07;
const SOURCE_REGISTER = 0x08;
const MODE_IMM = 0x00;
const MODE_MEM = 0x60;
const MODE_ATOMIC = 0xc0;
/** BPF_CMPXCHG. */
const COMPARE_EXCHANGE = 0xf1;
const PSEUDO_MAP_FD = 1;
const PSEUDO_FUNC = 4;

const SIZE = { u8: 0x10, u16: 0x08, u32: 0x00, u64: 0x18 } as const;
export type Size = keyof typeof SIZE;

const OPERATION = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  xor: 0xa0,
  mov: 0xb0,
} as const;
export type AluOperation = keyof typeof OPERATION;

const JUMP = { eq: 0x10, gt: 0x20, ge: 0x30, ne: 0x50, lt: 0xa0, le: 0xb0 } as const;
/** Comparisons are unsigned. */
export type Comparison = keyof typeof JUMP;

const TO_BIG_ENDIAN = 0xd8;
const CALL = 0x80;
const EXIT = 0x90;

/** A signed 32-bit number. */
export interface Immediate {
  readonly imm: number;
}
export type Operand = Register | Immediate;

/** A jump or a callback, whose label `assemble` resolves. */
interface Reference {
  readonly instruction: number;
  readonly field: "offset" | "imm";
  readonly label: string;
}

/** Emits one program. Methods return the assembler, for chaining. */
export class Assembler {
  /** Two words for each instruction (struct bpf_insn): opcode, registers and offset; then imm. */
  readonly #words: number[] = [];
  readonly #references: Reference[] = [];
  readonly #labels = new Map<string, number>();
  #unique = 0;

  #emit(opcode: number, dst: number, src: number, offset: number | string, imm: number | string): this {
    const near = typeof offset === "string" ? this.#refer("offset", offset) : offset;
    const value = typeof imm === "string" ? this.#refer("imm", imm) : imm;
    this.#words.push(opcode | (dst << 8) | (src << 12) | (near << 16), value);
    return this;
  }

  #refer(field: Reference["field"], label: string): number {
    this.#references.push({ instruction: this.#words.length >> 1, field, label });
    return 0;
  }

  /** Return a fresh label name, for code that is emitted more than once. */
  unique(name: string): string {
    return `${name}#${this.#unique++}`;
  }

  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name} is set twice`);
    this.#labels.set(name, this.#words.length >> 1);
    return this;
  }

  /** dst = dst op value, in 64 bits. */
  alu(operation: AluOperation, dst: Register, value: Operand): this {
    const opcode = ALU64 | OPERATION[operation];
    return typeof value === "number"
      ? this.#emit(opcode | SOURCE_REGISTER, dst, value, 0, 0)
      : this.#emit(opcode, dst, 0, 0, value.imm);
  }

  mov(dst: Register, value: Operand): this {
    return this.alu("mov", dst, value);
  }

  add(dst: Register, value: Operand): this {
    return this.alu("add", dst, value);
  }

  /** dst = its lower bits in big-endian order, the others zero. */
  bigEndian(dst: Register, bits: 16 | 32): this {
    return this.#emit(ALU | TO_BIG_ENDIAN, dst, 0, 0, bits);
  }

  /** dst = *(size *)(base + offset) */
  load(size: Size, dst: Register, base: Register, offset: number): this {
    return this.#emit(LDX | MODE_MEM | SIZE[size], dst, base, offset, 0);
  }

  /** *(size *)(base + offset) = value */
  store(size: Size, base: Register, offset: number, value: Operand): this {
    return typeof value === "number"
      ? this.#emit(STX | MODE_MEM | SIZE[size], base, value, offset, 0)
      : this.#emit(ST | MODE_MEM | SIZE[size], base, 0, offset, value.imm);
  }

  /** *(u64 *)(base + offset) += value, atomically. */
  atomicAdd(base: Register, offset: number, value: Register): this {
    return this.#emit(STX | MODE_ATOMIC | SIZE.u64, base, value, offset, 0);
  }

  /** r0 = *(u64 *)(base + offset), which is value from now on if it was r0, atomically. */
  compareExchange(base: Register, offset: number, value: Register): this {
    return this.#emit(STX | MODE_ATOMIC | SIZE.u64, base, value, offset, COMPARE_EXCHANGE);
  }

  /** dst = the map behind an open fd. Takes two instruction slots. */
  loadMap(dst: Register, fd: number): this {
    this.#emit(LD | MODE_IMM | SIZE.u64, dst, PSEUDO_MAP_FD, 0, fd);
    return this.#emit(0, 0, 0, 0, 0);
  }

  /** dst = the callback at a label, which is behind the end of the program. Takes two instruction slots. */
  loadCallback(dst: Register, label: string): this {
    this.#emit(LD | MODE_IMM | SIZE.u64, dst, PSEUDO_FUNC, 0, label);
    return this.#emit(0, 0, 0, 0, 0);
  }

  jump(label: string): this {
    return this.#emit(JMP, 0, 0, label, 0);
  }

  /** Jump when `register comparison value` holds, comparing all 64 bits. */
  jumpIf(register: Register, comparison: Comparison, value: Operand, label: string): this {
    return this.#compare(JMP, register, comparison, value, label);
  }

  /** Like jumpIf, but compare the lower 32 bits. */
  jumpIf32(register: Register, comparison: Comparison, value: Operand, label: string): this {
    return this.#compare(JMP32, register, comparison, value, label);
  }

  #compare(kind: number, register: Register, comparison: Comparison, value: Operand, label: string): this {
    const opcode = kind | JUMP[comparison];
    return typeof value === "number"
      ? this.#emit(opcode | SOURCE_REGISTER, register, value, label, 0)
      : this.#emit(opcode, register, 0, label, value.imm);
  }

  call(helper: Helper): this {
    return this.#emit(JMP | CALL, 0, 0, 0, BPF_FUNC[helper]);
  }

  exit(): this {
    return this.#emit(JMP | EXIT, 0, 0, 0, 0);
  }

  /** Return the program's bytes. Throws for a label that was never set. */
  assemble(): Uint8Array {
    // x86-64 and arm64 are little-endian: the words have the byte order of the kernel.
    const words = Int32Array.from(this.#words);
    for (const { instruction, field, label } of this.#references) {
      const to = this.#labels.get(label);
      if (to === undefined) throw new Error(`label ${label} is not set`);
      const distance = to - instruction - 1;
      const at = 2 * instruction;
      if (field === "imm") words[at + 1] = distance;
      else words[at] = ((words[at] ?? 0) & 0xffff) | (distance << 16);
    }
    return new Uint8Array(words.buffer);
  }
}

/** Return where the callbacks of a program start, as indexes of instructions in ascending order. */
export function callbacksOf(instructions: Uint8Array): number[] {
  const view = viewOf(instructions);
  const starts = new Set<number>();
  for (let at = 0; at < instructions.length; at += 8) {
    const isLoad = view.getUint8(at) === (LD | MODE_IMM | SIZE.u64);
    if (isLoad && view.getUint8(at + 1) >> 4 === PSEUDO_FUNC)
      starts.add(at / 8 + 1 + view.getInt32(at + 4, true));
    if (isLoad) at += 8;
  }
  return [...starts].sort((a, b) => a - b);
}
