// Give an ELF executable another entry (elf(5)): code behind the end of the file, loaded by the program header of its notes, which
// nothing needs. It starts before the dynamic linker does: the kernel sees no interpreter, and the code has to load it (interpreter.ts).
export const PHDR_SIZE = 56;
export const PT_LOAD = 1;
const PT_NULL = 0;
export const PT_INTERP = 3;
const PT_NOTE = 4;
const PT_PHDR = 6;
const READ_EXECUTE = 5;
export const PAGE = 4096;
const EM_X86_64 = 62;

const up = (value: number) => Math.ceil(value / PAGE) * PAGE;

/** Whether the executable is for x86-64. */
export const isX64 = (elf: Buffer) => elf.readUInt16LE(18) === EM_X86_64;

/** Where an executable's parts are, by their addresses in the file, which a position-independent one is moved from as a whole. */
export interface Layout {
  /** Of its own entry. */
  readonly entry: number;
  /** Of the code in front of it. */
  readonly here: number;
  /** From the program headers: of that of the interpreter, whose type is PT_NULL, and of the interpreter's path. */
  readonly interpreter: { readonly header: number; readonly path: number };
}

/** Return the executable with the code that `make` returns in front of its entry. */
export function withEntry(elf: Buffer, make: (layout: Layout) => Uint8Array): Buffer {
  const entry = Number(elf.readBigUInt64LE(24));
  const table = Number(elf.readBigUInt64LE(32));
  const headers = Array.from({ length: elf.readUInt16LE(56) }, (_, i) => table + i * PHDR_SIZE);
  const typeOf = (at: number) => elf.readUInt32LE(at);
  const number = (at: number) => Number(elf.readBigUInt64LE(at));
  const [note, interpreter, own] = [PT_NOTE, PT_INTERP, PT_PHDR].map((type) =>
    headers.find((at) => typeOf(at) === type),
  );
  const loads = headers.filter((at) => typeOf(at) === PT_LOAD);
  // Loaded segments have to be in order.
  if (note === undefined || loads.some((at) => at > note))
    throw new Error("no program header to use for the entry");
  if (interpreter === undefined || own === undefined || table + headers.length * PHDR_SIZE > PAGE)
    throw new Error("no program header of an interpreter");
  const end = Math.max(...loads.map((at) => number(at + 16) + number(at + 40)));
  const here = up(end) + (16 << 20);
  const offset = up(elf.length);
  const path = number(interpreter + 16) - number(own + 16);
  const code = make({ entry, here, interpreter: { header: interpreter - table, path } });
  const result = Buffer.concat([elf, Buffer.alloc(offset - elf.length), code]);
  result.writeUInt32LE(PT_NULL, interpreter);
  result.writeUInt32LE(PT_LOAD, note);
  result.writeUInt32LE(READ_EXECUTE, note + 4);
  for (const [at, value] of [offset, here, here, code.length, code.length, PAGE].entries())
    result.writeBigUInt64LE(BigInt(value), note + 8 + 8 * at);
  result.writeBigUInt64LE(BigInt(here), 24);
  return result;
}
