// Pieces of traffic control programs that look at a frame: its fields, its Ethernet header, look-ups by what is on the
// stack. By convention r6 holds the context, a struct __sk_buff.
import { type Assembler, FP, R0, R1, R2, R3, R4, R5, R6, type Register } from "./assembler.ts";

// Helpers of the kernel (linux/bpf.h, enum bpf_func_id).
const MAP_LOOKUP_ELEM = 1;
const MAP_UPDATE_ELEM = 2;
const SKB_LOAD_BYTES = 26;
export const KTIME_GET_NS = 5;

/** Offsets in struct __sk_buff (linux/bpf.h). */
export const SKB = {
  len: 0,
  mark: 8,
  protocol: 16,
  vlanPresent: 20,
  ifindex: 40,
  data: 76,
  dataEnd: 80,
} as const;

export const ETHERNET_HEADER = 14;

/** `register` = address of a place on the stack. */
export function stackAddress(asm: Assembler, register: Register, offset: number): void {
  asm.mov(register, FP).add(register, { imm: offset });
}

/** r0 = the map's value for the key at that place on the stack, or null. */
export function lookup(asm: Assembler, mapFd: number, key: number): void {
  asm.loadMap(R1, mapFd);
  stackAddress(asm, R2, key);
  asm.call(MAP_LOOKUP_ELEM);
}

/** Sets the entry for the key at `key` to the value at `value`. */
export function update(asm: Assembler, mapFd: number, key: number, value: number): void {
  asm.loadMap(R1, mapFd);
  stackAddress(asm, R2, key);
  stackAddress(asm, R3, value);
  asm.mov(R4, { imm: 0 }).call(MAP_UPDATE_ELEM);
}

/** r2 = start of the frame; jumps to `short` where it has no whole Ethernet header. */
export function loadFrame(asm: Assembler, short: string): void {
  asm
    .load("u32", R2, R6, SKB.data)
    .load("u32", R3, R6, SKB.dataEnd)
    .mov(R4, R2)
    .add(R4, { imm: ETHERNET_HEADER })
    .jumpIf(R4, "gt", R3, short);
}

/** Copies the Ethernet address at r2 + offset to the stack, as a key: its octets, then two zeros. */
export function copyMac(asm: Assembler, offset: number, to: number): void {
  asm
    .load("u16", R3, R2, offset)
    .load("u16", R4, R2, offset + 2)
    .load("u16", R5, R2, offset + 4)
    .store("u16", FP, to, R3)
    .store("u16", FP, to + 2, R4)
    .store("u16", FP, to + 4, R5)
    .store("u16", FP, to + 6, { imm: 0 });
}

/** Copies bytes of the frame to the stack, from a number or a register on; jumps to `short` where it is shorter. */
export function loadBytes(
  asm: Assembler,
  from: Register | { readonly imm: number },
  length: number,
  to: number,
  short: string,
): void {
  asm.mov(R2, from).mov(R1, R6);
  stackAddress(asm, R3, to);
  asm.mov(R4, { imm: length }).call(SKB_LOAD_BYTES).jumpIf(R0, "ne", { imm: 0 }, short);
}
