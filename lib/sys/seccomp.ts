// A seccomp filter: classic BPF over struct seccomp_data (linux/seccomp.h), in force for all threads and all programs that they
// run. Denied calls return EPERM.
import { EPERM } from "./errno.ts";
import { filterProgram } from "./filterprogram.ts";
import { DENIED_CALLS, DENIED_CALLS_X86, SOCKET_FAMILIES } from "./privileges.ts";
import { ARCHITECTURE, type SyscallName, syscallNumber, trySyscall } from "./syscall.ts";

/** Opcodes: linux/bpf_common.h. */
const LOAD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const RETURN = 0x06;

const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
const DENY = ERRNO | EPERM;

/** Offsets in struct seccomp_data. */
const NR = 0;
const ARCH = 4;
const FIRST_ARGUMENT = 16;

/** linux/audit.h; x32 has the same, with bit 30 in the number. */
const AUDIT_ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 } as const;
const X32 = 0x40000000;

export type Architecture = keyof typeof AUDIT_ARCH;

/** One instruction: struct sock_filter. Jumps are relative to the next instruction. */
export interface Instruction {
  readonly code: number;
  readonly ifTrue: number;
  readonly ifFalse: number;
  readonly k: number;
}

/** What the filter needs to know of system calls. */
export interface Calls {
  readonly denied: readonly number[];
  readonly socket: number;
  readonly prctl: number;
}

/** prctl(2) of this option, which the kernel does not have, is answered with ENOMSG: our filter is in force. */
const PROBE = 0x57454156;
const ENOMSG = 42;

const instruction = (code: number, k: number, ifTrue = 0, ifFalse = 0): Instruction => ({
  code,
  ifTrue,
  ifFalse,
  k,
});
const answer = (k: number) => instruction(RETURN, k);

/** Decide on the first argument; the accumulator is overwritten. */
function byArgument(values: readonly number[], found: number, other: number): Instruction[] {
  const tests = values.map((value, i) => instruction(JUMP_EQUAL, value, values.length - i, 0));
  return [instruction(LOAD, FIRST_ARGUMENT), ...tests, answer(other), answer(found)];
}

/** A tree over sorted numbers: a call takes as many steps as there are bits in their count. */
function tree(cases: readonly (readonly [number, readonly Instruction[]])[]): Instruction[] {
  const [only] = cases;
  if (!only) return [answer(ALLOW)];
  if (cases.length === 1) return [instruction(JUMP_EQUAL, only[0], 1, 0), answer(ALLOW), ...only[1]];
  const half = cases.length >> 1;
  const [low, high] = [tree(cases.slice(0, half)), tree(cases.slice(half))];
  // Jumps have 8 bits.
  if (low.length > 255) throw new RangeError("too many system calls in one filter");
  return [instruction(JUMP_AT_LEAST, cases[half]?.[0] ?? 0, low.length, 0), ...low, ...high];
}

/** Return the filter of an architecture. Calls of others (32-bit, x32) are denied. */
export function filterOf(arch: Architecture, { denied, socket, prctl }: Calls): Instruction[] {
  const cases: [number, Instruction[]][] = [
    ...denied.map((number): [number, Instruction[]] => [number, [answer(DENY)]]),
    [socket, byArgument(Object.values(SOCKET_FAMILIES), ALLOW, DENY)],
    [prctl, byArgument([PROBE], ERRNO | ENOMSG, ALLOW)],
  ];
  cases.sort(([a], [b]) => a - b);
  return [
    instruction(LOAD, ARCH),
    instruction(JUMP_EQUAL, AUDIT_ARCH[arch], 1, 0),
    answer(DENY),
    instruction(LOAD, NR),
    instruction(JUMP_AT_LEAST, X32, 0, 1),
    answer(DENY),
    ...tree(cases),
  ];
}

/** Return the instructions as the kernel reads them: 8 bytes each, little-endian. */
function encode(filter: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * filter.length));
  for (const [i, { code, ifTrue, ifFalse, k }] of filter.entries()) {
    view.setUint16(8 * i, code, true);
    view.setUint8(8 * i + 2, ifTrue);
    view.setUint8(8 * i + 3, ifFalse);
    view.setUint32(8 * i + 4, k, true);
  }
  return new Uint8Array(view.buffer);
}

/** The system calls of this machine. */
export function callsHere(arch: Architecture): Calls {
  const column = arch === "x64" ? 0 : 1;
  const number = (name: SyscallName) => syscallNumber(name);
  return {
    denied: [
      ...Object.values(DENIED_CALLS).map((numbers) => numbers[column]),
      ...(arch === "x64" ? Object.values(DENIED_CALLS_X86) : []),
    ],
    socket: number("socket"),
    prctl: number("prctl"),
  };
}

const SET_MODE_FILTER = 1;
/** All threads; and no slower memory accesses for filtered processes before Linux 5.16. */
const FLAGS = 1 | 4;

/** True if this thread has our filter: programs inherit it. */
export const isFiltered = () => trySyscall("prctl", PROBE) === -ENOMSG;

/** Put our filter in force for all threads; needs no_new_privs or CAP_SYS_ADMIN. Returns 0 or minus errno. */
export function filterCalls(): number {
  if (isFiltered()) return 0;
  const code = encode(filterOf(ARCHITECTURE, callsHere(ARCHITECTURE)));
  const result = trySyscall("seccomp", SET_MODE_FILTER, FLAGS, filterProgram(code));
  // A thread that cannot take it, by its id.
  return result > 0 ? -EPERM : result;
}
