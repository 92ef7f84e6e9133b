// Types of a program's functions (BTF; Documentation/bpf/btf.rst), which the verifier wants where a program has callbacks: the
// program itself takes a context, a callback an index and a context.
import { concat } from "../bytes/concat.ts";
import { BpfCall } from "./bpf.ts";

const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_LENGTH = 24;
const [KIND_INT, KIND_PTR, KIND_FUNC, KIND_FUNC_PROTO] = [1, 2, 12, 13];
const INT_BYTES = 4;
const VOID = 0;

/** Ids of types, which count from 1. */
const [INT, POINTER, PROGRAM_PROTO, PROGRAM, CALLBACK_PROTO, CALLBACK] = [1, 2, 3, 4, 5, 6];
export const FUNCTION_TYPES = { program: PROGRAM, callback: CALLBACK } as const;

const NAMES = ["", "int", "context", "index", "program", "callback"] as const;
const STRINGS = new TextEncoder().encode(NAMES.map((name) => `${name}\0`).join(""));

const nameAt = (name: (typeof NAMES)[number]) =>
  NAMES.slice(0, NAMES.indexOf(name)).reduce((sum, before) => sum + before.length + 1, 0);
/** struct btf_type: a name; a kind and the number of members; a size or a type. */
const type = (name: (typeof NAMES)[number], kind: number, members: number, sizeOrType: number) => [
  nameAt(name),
  (kind << 24) | members,
  sizeOrType,
];

const TYPES = [
  ...type("int", KIND_INT, 0, INT_BYTES),
  8 * INT_BYTES,
  ...type("", KIND_PTR, 0, VOID),
  ...type("", KIND_FUNC_PROTO, 1, INT),
  ...[nameAt("context"), POINTER],
  // A function with 0 members has static linkage.
  ...type("program", KIND_FUNC, 0, PROGRAM_PROTO),
  ...type("", KIND_FUNC_PROTO, 2, INT),
  ...[nameAt("index"), INT, nameAt("context"), POINTER],
  ...type("callback", KIND_FUNC, 0, CALLBACK_PROTO),
];

/** Load the types of functions. Returns a file descriptor. Throws SysError. */
export function loadFunctionTypes(): number {
  const types = new Uint8Array(Uint32Array.from(TYPES).buffer);
  const header = new Uint8Array(HEADER_LENGTH);
  const view = new DataView(header.buffer);
  view.setUint16(0, MAGIC, true);
  view.setUint8(2, VERSION);
  [HEADER_LENGTH, 0, types.length, types.length, STRINGS.length].forEach((number, i) => {
    view.setUint32(4 + 4 * i, number, true);
  });
  const btf = concat([header, types, STRINGS]);
  return new BpfCall("BTF_LOAD", { btf, btf_size: btf.length }).run("BTF load");
}
