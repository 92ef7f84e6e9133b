// Give an ELF executable another entry (elf(5)): code behind the end of the file, loaded by the program header of its notes, which
// nothing needs.
const PHDR_SIZE = 56;
const PT_LOAD = 1;
const PT_NOTE = 4;
const READ_EXECUTE = 5;
const PAGE = 4096;
const EM_X86_64 = 62;

const up = (value: number) => Math.ceil(value / PAGE) * PAGE;

/** Whether the executable is for x86-64. */
export const isX64 = (elf: Buffer) => elf.readUInt16LE(18) === EM_X86_64;

/** Return the executable with the code that `make` returns for its entry and the code's own address. */
export function withEntry(elf: Buffer, make: (entry: number, here: number) => Uint8Array): Buffer {
  const entry = Number(elf.readBigUInt64LE(24));
  const table = Number(elf.readBigUInt64LE(32));
  const headers = Array.from({ length: elf.readUInt16LE(56) }, (_, i) => table + i * PHDR_SIZE);
  const typeOf = (at: number) => elf.readUInt32LE(at);
  const number = (at: number) => Number(elf.readBigUInt64LE(at));
  const note = headers.find((at) => typeOf(at) === PT_NOTE);
  const loads = headers.filter((at) => typeOf(at) === PT_LOAD);
  // Loaded segments have to be in order.
  if (note === undefined || loads.some((at) => at > note))
    throw new Error("no program header to use for the entry");
  const end = Math.max(...loads.map((at) => number(at + 16) + number(at + 40)));
  const here = up(end) + (16 << 20);
  const offset = up(elf.length);
  const code = make(entry, here);
  const result = Buffer.concat([elf, Buffer.alloc(offset - elf.length), code]);
  result.writeUInt32LE(PT_LOAD, note);
  result.writeUInt32LE(READ_EXECUTE, note + 4);
  for (const [at, value] of [offset, here, here, code.length, code.length, PAGE].entries())
    result.writeBigUInt64LE(BigInt(value), note + 8 + 8 * at);
  result.writeBigUInt64LE(BigInt(here), 24);
  return result;
}
