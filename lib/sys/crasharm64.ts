// Machine code of the crash handler for arm64; see crashlayout.ts. Instructions: Arm Architecture Reference Manual, C6.2.
import { type CrashCode, DATA, F_SETFD, MASK_SIZE, RECORDS, SIG_SETMASK } from "./crashlayout.ts";

const RECORD = RECORDS.arm64;
/** include/uapi/asm-generic/unistd.h */
const CALL = {
  ...{ fcntl: 25, write: 64, kill: 129, rtSigaction: 134, rtSigprocmask: 135, rtSigreturn: 139, getpid: 172 },
  execve: 221,
};
/** Offsets in struct ucontext: fault_address, where the registers begin; sp; pc. */
const [REGISTERS, SP, PC] = [176, 432, 440];
/** Offset in struct siginfo. */
const SI_CODE = 8;

/** Caller-saved registers that system calls preserve: our data, and the arguments of the handler. */
const [DATA_AT, SIGNAL, SIGINFO, UCONTEXT, COUNTER, BOUND] = [9, 12, 13, 14, 10, 11];
/** x16: a branch through it may land on BTI c. */
const TARGET = 16;
/** x8: number of the system call. */
const NUMBER = 8;

/** Conditions of a branch. */
const [ABOVE_OR_SAME, BELOW, LESS_OR_EQUAL] = [2, 3, 13];

type Instructions = readonly number[];

const move = (to: number, from: number) => 0xaa0003e0 | (from << 16) | to;
/** movz, movk: 16 bits, `part` of 0 to 3. */
const movePart = (to: number, value: number, part: number) =>
  (part === 0 ? 0xd2800000 : 0xf2800000) | (part << 21) | (value << 5) | to;
const moveValue = (to: number, value: number) => movePart(to, value, 0);
const load = (to: number, base: number, offset: number) =>
  0xf9400000 | ((offset / 8) << 10) | (base << 5) | to;
/** Load 32 bits. */
const loadWord = (to: number, base: number, offset: number) =>
  0xb9400000 | ((offset / 4) << 10) | (base << 5) | to;
const add = (to: number, from: number, value: number) => 0x91000000 | (value << 10) | (from << 5) | to;
/** Add 8 times `index`. */
const addScaled = (to: number, from: number, index: number) =>
  0x8b000000 | (index << 16) | (3 << 10) | (from << 5) | to;
const compare = (one: number, other: number) => 0xeb00001f | (other << 16) | (one << 5);
const compareWordWithZero = (one: number) => 0x7100001f | (one << 5);
/** Branch over `over` instructions. */
const branchIf = (condition: number, over: number) => 0x54000000 | ((over + 1) << 5) | condition;
const branchIfZero = (one: number, over: number) => 0xb4000000 | ((over + 1) << 5) | one;
const branchTo = (one: number) => 0xd61f0000 | (one << 5);
const RETURN = 0xd65f03c0;

/** x8 = number; svc #0 */
const call = (number: number): Instructions => [moveValue(NUMBER, number), 0xd4000001];
const FD = loadWord(0, DATA_AT, DATA.fd);
/** Arguments 3 and 4: do not return the previous value; size of a mask. */
const NO_FORMER: Instructions = [moveValue(2, 0), moveValue(3, MASK_SIZE)];

/** Write the record and execute the program again; if execve fails, die by the signal. A system call changes only x0. */
const CRASH: Instructions = [
  ...[move(SIGNAL, 0), move(SIGINFO, 1), move(UCONTEXT, 2)],
  ...[FD, move(1, SIGINFO), moveValue(2, RECORD.siginfo), ...call(CALL.write)],
  ...[FD, add(1, UCONTEXT, REGISTERS), moveValue(2, RECORD.registers), ...call(CALL.write)],
  ...[FD, load(1, UCONTEXT, SP), moveValue(2, RECORD.stack), ...call(CALL.write)],
  // execve keeps the memfd …
  ...[FD, moveValue(1, F_SETFD), moveValue(2, 0), ...call(CALL.fcntl)],
  // … and the signal mask.
  ...[moveValue(0, SIG_SETMASK), add(1, DATA_AT, DATA.mask), ...NO_FORMER, ...call(CALL.rtSigprocmask)],
  ...[load(0, DATA_AT, DATA.path), load(1, DATA_AT, DATA.argv), load(2, DATA_AT, DATA.envp)],
  ...call(CALL.execve),
  ...[move(0, SIGNAL), add(1, DATA_AT, DATA.none), ...NO_FORMER, ...call(CALL.rtSigaction)],
  ...[...call(CALL.getpid), move(1, SIGNAL), ...call(CALL.kill)],
  RETURN,
];

/** Jump to the previous handler, if any, with the same arguments. */
const FORMER: Instructions = [
  addScaled(TARGET, DATA_AT, 0),
  load(TARGET, TARGET, DATA.handlers),
  branchIfZero(TARGET, 1),
  branchTo(TARGET),
];

/** Compare the program counter with the bounds of compiled code; outside, crash. */
const ABOVE: Instructions = [
  ...[load(BOUND, DATA_AT, DATA.to), compare(COUNTER, BOUND)],
  branchIf(ABOVE_OR_SAME, FORMER.length),
];
const WHERE: Instructions = [
  ...[load(COUNTER, 2, PC), load(BOUND, DATA_AT, DATA.from), compare(COUNTER, BOUND)],
  branchIf(BELOW, ABOVE.length + FORMER.length),
  ...ABOVE,
];

/** Return the code; `data` is the address of its data. */
export function crashCode(data: bigint): CrashCode {
  const part = (i: number) => Number((data >> BigInt(16 * i)) & 0xffffn);
  const handler = [
    ...[0, 1, 2, 3].map((i) => movePart(DATA_AT, part(i), i)),
    // Sent by another process, or by abort(3).
    ...[loadWord(COUNTER, 1, SI_CODE), compareWordWithZero(COUNTER)],
    branchIf(LESS_OR_EQUAL, WHERE.length + FORMER.length),
    ...WHERE,
    ...FORMER,
    ...CRASH,
  ];
  const words = Uint32Array.from([...handler, ...call(CALL.rtSigreturn)]);
  return { code: new Uint8Array(words.buffer), restorer: handler.length * 4 };
}
