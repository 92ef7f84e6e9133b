// Sequences of instructions that the parts of the entry program share.
import type { Machine, Register, SystemCall } from "./machine.ts";

/** The first 4 bytes of a text, as a number. */
export const word = (text: string) => Buffer.from(text.slice(0, 4), "latin1").readInt32LE();

export type Writer = ReturnType<typeof writer>;

/** Return functions that write to `asm`; r6 points to argc. */
export function writer(asm: Machine) {
  let unique = 0;
  const fresh = (name: string) => `${name} ${unique++}`;
  /** Store a text at a register, 4 bytes at a time, and step over it. */
  const put = (at: Register, text: string) => {
    for (let i = 0; i < text.length; i += 4)
      asm.store("u32", at, i, word(text.slice(i, i + 4).padEnd(4, "\0")));
    asm.add(at, text.length);
  };
  /** Jump unless the text at a register begins so. */
  const unless = (at: Register, text: string, otherwise: string, from = 0) => {
    let i = 0;
    for (; i + 4 <= text.length; i += 4) {
      asm.load("u32", "r3", at, from + i);
      asm.mov("r4", word(text.slice(i)));
      // A number with its highest bit set would be compared as one of 64 bits: texts here are ASCII.
      asm.jumpIf("r3", "ne", "r4", otherwise);
    }
    for (; i < text.length; i++) {
      asm.load("u8", "r3", at, from + i);
      asm.jumpIf("r3", "ne", text.charCodeAt(i), otherwise);
    }
  };
  /** Copy a string with its NUL from r1 to `to`, which it steps over; jump where it passes `end`. */
  const copyString = (to: Register, end: number, tooLong: string) => {
    const again = fresh("copy");
    asm.mov("r4", "fp");
    asm.add("r4", end);
    asm.label(again);
    asm.jumpIf(to, "ge", "r4", tooLong);
    asm.load("u8", "r2", "r1", 0);
    asm.store("u8", to, 0, "r2");
    asm.add("r1", 1);
    asm.add(to, 1);
    asm.jumpIf("r2", "ne", 0, again);
  };
  const call = (name: SystemCall, ...values: (number | Register)[]) => {
    const registers: Register[] = ["r1", "r2", "r3", "r4", "r5", "r10"];
    values.forEach((value, i) => {
      const register = registers[i];
      if (register && value !== register) asm.mov(register, value);
    });
    asm.call(name);
  };
  const local = (to: Register, offset: number) => {
    asm.mov(to, "fp");
    asm.add(to, offset);
  };
  /** Jump unless the program was called by this name, in any folder. */
  const unlessCalled = (name: string, otherwise: string) => {
    const [again, named] = [fresh("name"), fresh("named")];
    asm.load("u64", "r1", "r6", 8);
    asm.jumpIf("r1", "eq", 0, otherwise);
    asm.mov("r2", "r1");
    asm.label(again);
    asm.load("u8", "r3", "r2", 0);
    asm.add("r2", 1);
    asm.jumpIf("r3", "ne", 0, again);
    asm.sub("r2", name.length + 1);
    asm.jumpIf("r2", "lt", "r1", otherwise);
    unless("r2", name, otherwise);
    asm.jumpIf("r2", "eq", "r1", named);
    asm.load("u8", "r3", "r2", -1);
    asm.jumpIf("r3", "ne", "/".charCodeAt(0), otherwise);
    asm.label(named);
  };
  return { fresh, put, unless, copyString, call, local, unlessCalled };
}
