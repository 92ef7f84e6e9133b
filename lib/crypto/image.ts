// Functions of a loaded ELF library that it does not export, by its symbol table (elf(5); the System V ABI, chapter 4): the
// native build of libsodium contains all of it, and exports only what its binding for JavaScript wraps.
import { type Pointer, toArrayBuffer } from "bun:ffi";
import { readFileSync } from "node:fs";
import { viewOf } from "../bytes/view.ts";

const HEADER = { sections: 0x28, sectionSize: 0x3a, sectionCount: 0x3c } as const;
const SECTION = { type: 4, address: 0x10, offset: 0x18, size: 0x20, link: 0x28 } as const;
const SYMTAB = 2;
const SYMBOL = { name: 0, info: 4, section: 6, value: 8, bytes: 24 } as const;
const FUNCTION = 2;
/** Bytes of each function that are compared with the file. */
const COMPARED = 16;

interface Section {
  readonly type: number;
  readonly address: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

/** A function of a library: its address from the library's start, and its place in the file. */
export interface ElfFunction {
  readonly value: number;
  readonly offset: number;
}

/** Return those of the named functions that the symbol table of a 64-bit little-endian ELF file has. Throws RangeError for a truncated file. */
export function elfFunctions(file: Uint8Array, names: readonly string[]): Map<string, ElfFunction> {
  const view = viewOf(file);
  const long = (at: number) => Number(view.getBigUint64(at, true));
  const first = long(HEADER.sections);
  const size = view.getUint16(HEADER.sectionSize, true);
  const sections = Array.from({ length: view.getUint16(HEADER.sectionCount, true) }, (_, i): Section => {
    const at = first + i * size;
    return {
      type: view.getUint32(at + SECTION.type, true),
      address: long(at + SECTION.address),
      offset: long(at + SECTION.offset),
      size: long(at + SECTION.size),
      link: view.getUint32(at + SECTION.link, true),
    };
  });
  const found = new Map<string, ElfFunction>();
  for (const table of sections.filter(({ type }) => type === SYMTAB)) {
    const strings = sections[table.link];
    const wanted = strings && placesOf(file, strings, names);
    for (let at = table.offset; at < table.offset + table.size; at += SYMBOL.bytes) {
      const name = wanted?.get(view.getUint32(at + SYMBOL.name, true));
      if (name === undefined || (view.getUint8(at + SYMBOL.info) & 0xf) !== FUNCTION) continue;
      const section = sections[view.getUint16(at + SYMBOL.section, true)];
      const value = long(at + SYMBOL.value);
      if (section) found.set(name, { value, offset: value - section.address + section.offset });
    }
  }
  return found;
}

/** Return the names by their places in a string table, where one may also be the end of another. */
function placesOf(file: Uint8Array, strings: Section, names: readonly string[]): Map<number, string> {
  const table = Buffer.from(file.buffer, file.byteOffset + strings.offset, strings.size);
  const places = new Map<number, string>();
  for (const name of names) {
    const text = Buffer.from(`${name}\0`);
    for (let at = table.indexOf(text); at >= 0; at = table.indexOf(text, at + 1)) places.set(at, name);
  }
  return places;
}

/**
 * Return the addresses of functions of a library that this process has loaded from the file of that identity (fileIdentity),
 * which has these contents. Undefined unless all are there and their code in memory is that of the file.
 */
export function functionAddresses<Name extends string>(
  identity: string | undefined,
  file: Uint8Array,
  names: readonly Name[],
): Record<Name, number> | undefined {
  const start = loadAddress(readFileSync("/proc/self/maps", "latin1"), identity);
  const functions = elfFunctions(file, names);
  if (start === undefined || functions.size < names.length) return undefined;
  const addresses: [string, number][] = [];
  for (const [name, { value, offset }] of functions) {
    const code = new Uint8Array(toArrayBuffer((start + value) as Pointer, 0, COMPARED));
    if (Buffer.compare(code, file.subarray(offset, offset + COMPARED)) !== 0) return undefined;
    addresses.push([name, start + value]);
  }
  return Object.fromEntries(addresses) as Record<Name, number>;
}

/** Return where a file begins in memory, by the text of /proc/PID/maps (proc(5)); undefined where it is not mapped. */
export function loadAddress(maps: string, identity: string | undefined): number | undefined {
  for (const line of maps.split("\n")) {
    const [range = "", , offset = "", device = "", inode] = line.split(/ +/);
    if (`${deviceNumber(device)}:${inode}` === identity && Number.parseInt(offset, 16) === 0)
      return Number.parseInt(range, 16);
  }
  return undefined;
}

/** Return the number of a device that is written as "major:minor" in hexadecimal, as stat(2) has it (makedev(3)). */
function deviceNumber(text: string): number {
  const [major = 0, minor = 0] = text.split(":").map((part) => Number.parseInt(part, 16));
  return (minor & 0xff) + (major & 0xfff) * 2 ** 8 + (minor >>> 8) * 2 ** 20;
}
