// Machine code of the crash handler for x86-64; see crashlayout.ts.
import { type CrashCode, DATA, F_SETFD, MASK_SIZE, RECORDS, SIG_SETMASK } from "./crashlayout.ts";

const RECORD = RECORDS.x64;
const CALL = { write: 1, rtSigaction: 13, rtSigprocmask: 14, getpid: 39, execve: 59, kill: 62, fcntl: 72 };
/** Offsets in struct ucontext: registers, rsp, rip. */
const [REGISTERS, RSP, RIP] = [40, 160, 168];

const int = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];
const long = (value: bigint) => Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));

/** mov eax, number; syscall */
const call = (number: number) => [0xb8, ...int(number), 0x0f, 0x05];
/** mov edi, [rbx + fd] */
const FD = [0x8b, 0x7b, DATA.fd];
/** mov edx, value */
const third = (value: number) => [0xba, ...int(value)];
/** xor edx, edx; mov r10d, 8: do not return the previous value; size of a mask */
const NO_FORMER = [0x31, 0xd2, 0x41, 0xba, ...int(MASK_SIZE)];
/** lea rsi, [rbx + offset] */
const second = (offset: number) => [0x48, 0x8d, 0xb3, ...int(offset)];
/** pop r14, r13, r12, rbx */
const POP = [0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5b];

/** Write the record and execute the program again; if execve fails, die by the signal. */
const CRASH = [
  // mov rsi, r13 (siginfo)
  ...[...FD, 0x4c, 0x89, 0xee, ...third(RECORD.siginfo), ...call(CALL.write)],
  // lea rsi, [r14 + REGISTERS]
  ...[...FD, 0x49, 0x8d, 0x76, REGISTERS, ...third(RECORD.registers), ...call(CALL.write)],
  // mov rsi, [r14 + RSP]
  ...[...FD, 0x49, 0x8b, 0xb6, ...int(RSP), ...third(RECORD.stack), ...call(CALL.write)],
  // mov esi, F_SETFD; xor edx, edx: execve keeps the memfd
  ...[...FD, 0xbe, ...int(F_SETFD), 0x31, 0xd2, ...call(CALL.fcntl)],
  // mov edi, SIG_SETMASK: execve keeps the signal mask
  ...[0xbf, ...int(SIG_SETMASK), ...second(DATA.mask), ...NO_FORMER, ...call(CALL.rtSigprocmask)],
  // mov rdi, [rbx + path]; mov rsi, [rbx + argv]; mov rdx, [rbx + envp]
  ...[0x48, 0x8b, 0x7b, DATA.path, 0x48, 0x8b, 0x73, DATA.argv, 0x48, 0x8b, 0x53, DATA.envp],
  ...call(CALL.execve),
  // mov edi, r12d (signal)
  ...[0x44, 0x89, 0xe7, ...second(DATA.none), ...NO_FORMER, ...call(CALL.rtSigaction)],
  // mov edi, eax; mov esi, r12d
  ...[...call(CALL.getpid), 0x89, 0xc7, 0x44, 0x89, 0xe6, ...call(CALL.kill)],
  // ret
  ...[...POP, 0xc3],
];

/** Jump to the previous handler: mov rax, [rbx + 8 * rdi + handlers]; test rax, rax; jz CRASH; pop; jmp rax */
const FORMER_JUMP = [...POP, 0xff, 0xe0];
const FORMER = [
  ...[0x48, 0x8b, 0x44, 0xfb, DATA.handlers, 0x48, 0x85, 0xc0],
  ...[0x74, FORMER_JUMP.length, ...FORMER_JUMP],
];

/** mov rax, [rdx + RIP]; cmp with the bounds of JIT-compiled code; jb, jae CRASH */
const ABOVE = [0x48, 0x3b, 0x43, DATA.to, 0x73, FORMER.length];
const WHERE = [
  ...[0x48, 0x8b, 0x82, ...int(RIP), 0x48, 0x3b, 0x03],
  ...[0x72, ABOVE.length + FORMER.length, ...ABOVE],
];

/** Return the code; `data` is the address of its data. */
export function crashCode(data: bigint): CrashCode {
  const handler = [
    // push rbx, r12, r13, r14; mov rbx, data
    ...[0x53, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x48, 0xbb, ...long(data)],
    // mov r12, rdi; mov r13, rsi; mov r14, rdx
    ...[0x49, 0x89, 0xfc, 0x49, 0x89, 0xf5, 0x49, 0x89, 0xd6],
    // mov eax, [rsi + si_code]; test eax, eax; jle CRASH: sent by another process, or by abort(3)
    ...[0x8b, 0x46, 0x08, 0x85, 0xc0, 0x7e, WHERE.length + FORMER.length],
    ...WHERE,
    ...FORMER,
    ...CRASH,
  ];
  // rt_sigreturn(2)
  return { code: Uint8Array.from([...handler, ...call(15)]), restorer: handler.length };
}
