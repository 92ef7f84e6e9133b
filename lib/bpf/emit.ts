// Sequences that traffic control programs are composed of. By convention r6 holds the context, a struct __sk_buff.
import { ETHERNET_HEADER } from "../address/mac.ts";
import {
  type Assembler,
  FP,
  type Immediate,
  type Operand,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  type Register,
} from "./assembler.ts";
import { SKB } from "./skbuff.ts";

/** `register` = address of a place on the stack. */
export function stackAddress(asm: Assembler, register: Register, offset: number): void {
  asm.mov(register, FP).add(register, { imm: offset });
}

/** End the program with a verdict. */
export function verdict(asm: Assembler, value: Immediate): void {
  asm.mov(R0, value).exit();
}

/** r0 = the map's value for the key at that place on the stack, or null. */
export function lookup(asm: Assembler, mapFd: number, key: number): void {
  asm.loadMap(R1, mapFd);
  stackAddress(asm, R2, key);
  asm.call("map_lookup_elem");
}

/** Set the entry for the key at `key` to the value at `value`; r0 = 0, or an error of the flags. */
export function update(
  asm: Assembler,
  mapFd: number,
  key: number,
  value: number,
  flags: Operand = { imm: 0 },
): void {
  asm.loadMap(R1, mapFd);
  stackAddress(asm, R2, key);
  stackAddress(asm, R3, value);
  asm.mov(R4, flags).call("map_update_elem");
}

/** Flags of update(): make a new entry only, or replace one only. */
export const BPF_NOEXIST = { imm: 1 } as const;
export const BPF_EXIST = { imm: 2 } as const;

/** Set the frame's mark; from a register, as kernels before 6.4 take no constant there. */
export function setMark(asm: Assembler, mark: Immediate): void {
  asm.mov(R1, mark).store("u32", R6, SKB.mark, R1);
}

/** End the program with the frame leaving by a link, or with BPF_F_INGRESS arriving by it. */
export function redirect(asm: Assembler, ifindex: number, flags: Immediate = { imm: 0 }): void {
  asm.mov(R1, { imm: ifindex }).mov(R2, flags).call("redirect").exit();
}

/** The same with a copy of the frame; the program goes on. */
export function cloneRedirect(asm: Assembler, ifindex: number, flags: Immediate = { imm: 0 }): void {
  asm.mov(R1, R6).mov(R2, { imm: ifindex }).mov(R3, flags).call("clone_redirect");
}

/** r2 = start of the frame; jumps to `short` where it has no whole Ethernet header. */
export function loadFrame(asm: Assembler, short: string): void {
  asm
    .load("u32", R2, R6, SKB.data)
    .load("u32", R3, R6, SKB.data_end)
    .mov(R4, R2)
    .add(R4, { imm: ETHERNET_HEADER })
    .jumpIf(R4, "gt", R3, short);
}

/** Copy the Ethernet address at r2 + offset to the stack, as a key: its octets, then two zeros. */
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

/** Copy bytes of the frame from an offset on to the stack; jumps to `short` where it is shorter. */
export function loadBytes(asm: Assembler, from: Operand, length: number, to: number, short: string): void {
  asm.mov(R2, from).mov(R1, R6);
  stackAddress(asm, R3, to);
  asm.mov(R4, { imm: length }).call("skb_load_bytes").jumpIf(R0, "ne", { imm: 0 }, short);
}
