// The entry program: what an executable does before its runtime, and the dynamic linker, start (interpreter.ts).
//
// It changes to / from a working directory that was deleted: the runtime does not start in one.
//
// The router executes itself once more, with the engine's options and a daemon's capabilities (router.ts).
//
// A call of the CNI plugin is handed to the router by one request on its socket, in less than 1 ms, where the runtime takes 7 ms to
// start and the plugin 10 ms more; the dynamic linker alone takes 1 ms. In all other cases it goes on to the runtime as if it had not been there:
//
// - before it has read standard input: nothing has happened;
// - after that: standard input is a file in memory with what was read;
// - after the request was sent, and not answered within 1 s: CNI_COMMAND in the environment is renamed CNI_PENDING, of the same
//   length, and the connection is file descriptor 100 (lib/api/pendingcall.ts).
import { CNI_CALL_HEAD, MAX_CNI_ANSWER, NOT_WRITTEN, PENDING_FD } from "../../../lib/api/cniwire.ts";
import type { Layout } from "./elf.ts";
import { startInterpreter } from "./interpreter.ts";
import type { Machine } from "./machine.ts";
import { executeAsRouter } from "./router.ts";
import { word, writer } from "./writer.ts";

const KB = 1024;
/** The file in memory. Numbers above those that a process is started with: a closed standard descriptor is not taken for ours. */
const INPUT_FD = PENDING_FD + 1;
/** Bytes for the request. A longer configuration goes to the runtime. */
const REQUEST_SIZE = 128 * KB;

// Offsets from the frame pointer.
const ARGUMENTS = -8;
const COMMAND = -16;
const RUN_DIR = -24;
const NETNS = -32;
const INPUT = -40;
const COMMAND_AT = -56;
const POLL = -64;
const TIMEOUT = -80;
const TEXT = -96;
const STAT = -256;
const ADDRESS = -384;
const REQUEST = -KB - REQUEST_SIZE;
const ANSWER = REQUEST - MAX_CNI_ANSWER;
const FRAME = -ANSWER + KB;

const SUN_PATH = 2;
const SUN_SIZE = 110;
const ST_INO = 8;
const AT_FDCWD = -100;
const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK = 1 | 0x800;
const F_SETFL = 4;
const MSG_NOSIGNAL = 0x4000;
const POLLIN = 1;
const POLLOUT = 4;
const MFD_NOEXEC_SEAL = 8;
/** System calls return errors as numbers above this. */
const ERRORS = -4096;
const ENOENT = -2;
const EINTR = -4;
const EAGAIN = -11;
const EBADF = -9;
const COMMANDS = ["ADD\0", "DEL\0", "CHEC", "STAT"];
const DIGITS = 6;
/** Bytes of a longer configuration that are kept: more than the plugin takes (lib/cni/input.ts). */
const KEPT_SIZE = 2048 * KB;
const PIECE_SIZE = 64 * KB;

/** When an executable has a role: `by name`, if it is called by the name of that program. */
export type When = "always" | "by name" | "never";

export interface Roles {
  /** It hands calls of the CNI plugin (weave-net) to the router. */
  readonly handsOver: When;
  /** It executes itself once more as the router (weave-router). */
  readonly router: When;
}

/** Return the code for an executable. */
export function entryProgram(asm: Machine, layout: Layout, { handsOver, router }: Roles): Uint8Array {
  const write = writer(asm);
  const { fresh, put, unless, copyString, call, local } = write;

  asm.enter(FRAME);
  asm.mov("r6", "r1");
  asm.store("u64", "fp", ARGUMENTS, "r6");
  leaveDeleted();
  if (router !== "never") {
    if (router === "by name") write.unlessCalled("weave-router", "no router");
    executeAsRouter(asm, write, { strings: REQUEST, end: REQUEST + REQUEST_SIZE });
    asm.label("no router");
  }
  if (handsOver === "never") return toRuntime();
  asm.load("u64", "r1", "r6", 0);
  asm.jumpIf("r1", "ne", 1, "runtime");
  if (handsOver === "by name") write.unlessCalled("weave-net", "runtime");
  for (const at of [COMMAND, RUN_DIR, NETNS]) asm.store("u64", "fp", at, 0);

  // r7: where the request is written; r8: the environment, behind one argument.
  local("r7", REQUEST);
  const head = CNI_CALL_HEAD;
  put("r7", head);
  asm.store("u64", "r7", 0, 0);
  asm.add("r7", 8);
  asm.mov("r8", "r6");
  asm.add("r8", 24);
  asm.label("variable");
  asm.load("u64", "r1", "r8", 0);
  asm.jumpIf("r1", "eq", 0, "variables read");
  asm.add("r8", 8);
  asm.load("u32", "r2", "r1", 0);
  asm.jumpIf("r2", "eq", word("WEAV"), "of weave");
  asm.jumpIf("r2", "ne", word("CNI_"), "variable");
  unless("r1", "COMMAND=", "no command", 4);
  asm.store("u64", "fp", COMMAND_AT, "r1");
  asm.load("u32", "r2", "r1", 12);
  for (const command of COMMANDS) asm.jumpIf("r2", "eq", word(command), "command");
  unless("r1", "GC\0", "runtime", 12);
  asm.label("command");
  asm.store("u64", "fp", COMMAND, "r2");
  asm.label("no command");
  unless("r1", "NETNS=", "no netns", 4);
  asm.mov("r2", "r1");
  asm.add("r2", 10);
  asm.store("u64", "fp", NETNS, "r2");
  asm.label("no netns");
  copyString("r7", REQUEST + REQUEST_SIZE - 4 * KB, "runtime");
  asm.jump("variable");
  asm.label("of weave");
  unless("r1", "E_RUN_DIR=", "variable", 4);
  asm.add("r1", 14);
  asm.load("u8", "r2", "r1", 0);
  asm.jumpIf("r2", "eq", 0, "variable");
  asm.store("u64", "fp", RUN_DIR, "r1");
  asm.jump("variable");
  asm.label("variables read");
  asm.load("u64", "r1", "fp", COMMAND);
  asm.jumpIf("r1", "eq", 0, "runtime");
  asm.store("u8", "r7", 0, 0);
  asm.add("r7", 1);

  // The inode of the namespace, as this process sees it.
  asm.load("u64", "r2", "fp", NETNS);
  asm.jumpIf("r2", "eq", 0, "no inode");
  local("r3", STAT);
  call("newfstatat", AT_FDCWD, "r2", "r3", 0);
  asm.jumpIf("r0", "ne", 0, "no inode");
  asm.load("u64", "r2", "fp", STAT + ST_INO);
  asm.store("u64", "fp", REQUEST + head.length, "r2");
  asm.label("no inode");

  // The socket's address.
  local("r9", ADDRESS);
  asm.store("u16", "r9", 0, AF_UNIX);
  asm.add("r9", SUN_PATH);
  asm.load("u64", "r1", "fp", RUN_DIR);
  asm.jumpIf("r1", "eq", 0, "default");
  copyString("r9", ADDRESS + SUN_SIZE - 12, "runtime");
  asm.sub("r9", 1);
  asm.jump("directory");
  asm.label("default");
  put("r9", "/run/weave");
  asm.label("directory");
  put("r9", "/weave.sock\0");
  call("socket", AF_UNIX, SOCK_STREAM_NONBLOCK, 0);
  asm.jumpIf("r0", "gt", ERRORS, "runtime");
  moveTo(PENDING_FD, "runtime");
  local("r2", ADDRESS);
  call("connect", PENDING_FD, "r2", SUN_SIZE);
  asm.jumpIf("r0", "ne", 0, "not connected");

  // The file for what is read: first, as input cannot be given back without. Linux 6.3 to 6.5 may require the flag
  // (vm.memfd_noexec), which earlier ones refuse.
  asm.store("u64", "fp", TEXT, word("cni\0"));
  local("r1", TEXT);
  call("memfd_create", "r1", MFD_NOEXEC_SEAL);
  asm.jumpIf("r0", "le", ERRORS, "file");
  local("r1", TEXT);
  call("memfd_create", "r1", 0);
  asm.jumpIf("r0", "gt", ERRORS, "not connected");
  asm.label("file");
  moveTo(INPUT_FD, "not connected");

  // Standard input, to its end.
  asm.store("u64", "fp", INPUT, "r7");
  asm.label("input");
  local("r3", REQUEST + REQUEST_SIZE);
  asm.sub("r3", "r7");
  asm.jumpIf("r3", "eq", 0, "with input");
  call("read", 0, "r7", "r3");
  asm.jumpIf("r0", "eq", 0, "input read");
  again(0, POLLIN, "input");
  asm.jumpIf("r0", "gt", ERRORS, "unreadable");
  asm.add("r7", "r0");
  asm.jump("input");
  asm.label("input read");

  // Content-Length, in 6 digits.
  local("r1", REQUEST);
  asm.mov("r2", "r7");
  asm.sub("r2", "r1");
  asm.sub("r2", head.length);
  for (let digit = 0; digit < DIGITS; digit++) {
    const [again, done] = [fresh("digit"), fresh("digit done")];
    const unit = 10 ** (DIGITS - 1 - digit);
    asm.mov("r3", 48);
    asm.label(again);
    asm.jumpIf("r2", "lt", unit, done);
    asm.sub("r2", unit);
    asm.add("r3", 1);
    asm.jump(again);
    asm.label(done);
    asm.store("u8", "r1", head.length - 4 - DIGITS + digit, "r3");
  }
  asm.mov("r8", "r7");
  asm.sub("r8", "r1");
  asm.mov("r2", "r1");
  call("sendto", PENDING_FD, "r2", "r8", MSG_NOSIGNAL, 0);
  asm.jumpIf("r0", "ne", "r8", "with input");

  // The answer: r8 is where it goes on.
  local("r8", ANSWER);
  asm.label("wait");
  asm.store("u64", "fp", TIMEOUT, 1);
  asm.store("u64", "fp", TIMEOUT + 8, 0);
  local("r3", TIMEOUT);
  poll(PENDING_FD, POLLIN);
  asm.jumpIf("r0", "eq", EINTR, "wait");
  asm.jumpIf("r0", "ne", 1, "pending");
  local("r3", REQUEST);
  asm.sub("r3", "r8");
  call("read", PENDING_FD, "r8", "r3");
  asm.jumpIf("r0", "eq", 0, "pending");
  asm.jumpIf("r0", "gt", ERRORS, "pending");
  asm.add("r8", "r0");
  local("r1", ANSWER);
  asm.mov("r2", "r8");
  asm.sub("r2", "r1");
  asm.jumpIf("r2", "lt", 16, "wait");
  unless("r1", "200 ", "with input", 9);
  asm.load("u8", "r2", "r8", -1);
  asm.jumpIf("r2", "ne", 0, "wait");

  asm.label("header");
  asm.jumpIf("r1", "ge", "r8", "pending");
  asm.load("u32", "r2", "r1", 0);
  asm.add("r1", 1);
  asm.jumpIf("r2", "ne", word("\r\n\r\n"), "header");
  asm.load("u8", "r6", "r1", 3);
  asm.sub("r6", 48);
  asm.jumpIf("r6", "gt", 9, "pending");
  asm.mov("r7", "r1");
  asm.add("r7", 4);
  asm.sub("r8", 1);
  asm.label("output");
  asm.mov("r3", "r8");
  asm.sub("r3", "r7");
  asm.jumpIf("r3", "eq", 0, "exit");
  call("write", 1, "r7", "r3");
  again(1, POLLOUT, "output");
  // A closed standard output is /dev/null to the runtime.
  asm.jumpIf("r0", "eq", EBADF, "exit");
  asm.jumpIf("r0", "gt", ERRORS, "not written");
  asm.add("r7", "r0");
  asm.jump("output");
  asm.label("not written");
  local("r7", REQUEST);
  put("r7", `${NOT_WRITTEN}\n`);
  local("r2", REQUEST);
  call("write", 2, "r2", NOT_WRITTEN.length + 1);
  asm.mov("r6", 1);
  asm.label("exit");
  call("exit_group", "r6");

  // Unanswered: the runtime waits on.
  asm.label("pending");
  call("fcntl", PENDING_FD, F_SETFL, 0);
  asm.load("u64", "r1", "fp", COMMAND_AT);
  asm.add("r1", 4);
  put("r1", "PENDING".slice(0, 4));
  asm.store("u16", "r1", 0, word("IN\0\0"));
  asm.store("u8", "r1", 2, "G".charCodeAt(0));
  asm.jump("restore");
  asm.label("with input");
  call("close", PENDING_FD);
  asm.label("restore");
  restoreInput();
  asm.jump("runtime");
  asm.label("unreadable");
  call("close", INPUT_FD);
  asm.label("not connected");
  call("close", PENDING_FD);
  return toRuntime();

  /** End with the runtime. */
  function toRuntime(): Uint8Array {
    asm.label("runtime");
    asm.load("u64", "r6", "fp", ARGUMENTS);
    startInterpreter(asm, write, layout, REQUEST);
    return asm.code();
  }

  /** Change to / from a working directory that was deleted. */
  function leaveDeleted(): void {
    local("r1", REQUEST);
    call("getcwd", "r1", REQUEST_SIZE);
    asm.jumpIf("r0", "ne", ENOENT, "in a directory");
    asm.store("u64", "fp", TEXT, "/".charCodeAt(0));
    local("r1", TEXT);
    call("chdir", "r1");
    asm.label("in a directory");
  }

  /** Give the descriptor in r0 another number; jump where the limit of descriptors is below. */
  function moveTo(fd: number, otherwise: string): void {
    asm.mov("r9", "r0");
    call("dup3", "r9", fd, 0);
    asm.mov("r8", "r0");
    call("close", "r9");
    asm.jumpIf("r8", "ne", fd, otherwise);
  }

  /** Wait for an event of a descriptor, at most for the timespec at r3, for ever if that is 0. */
  function poll(fd: number, event: number): void {
    asm.store("u32", "fp", POLL, fd);
    asm.store("u32", "fp", POLL + 4, event);
    local("r1", POLL);
    call("ppoll", "r1", 1, "r3", 0, 8);
  }

  /** Go back where a call was interrupted, and where a descriptor that does not block was not ready, once it is. */
  function again(fd: number, event: number, to: string): void {
    const other = fresh("other");
    asm.jumpIf("r0", "eq", EINTR, to);
    asm.jumpIf("r0", "ne", EAGAIN, other);
    asm.mov("r3", 0);
    poll(fd, event);
    asm.jump(to);
    asm.label(other);
  }

  /** Put the file in memory in place of standard input: what was read, and what there is still to read. */
  function restoreInput(): void {
    asm.load("u64", "r8", "fp", INPUT);
    asm.mov("r3", "r7");
    asm.sub("r3", "r8");
    call("write", INPUT_FD, "r8", "r3");
    asm.mov("r6", KEPT_SIZE);
    asm.label("more input");
    local("r2", REQUEST);
    call("read", 0, "r2", PIECE_SIZE);
    again(0, POLLIN, "more input");
    asm.jumpIf("r0", "eq", 0, "input saved");
    asm.jumpIf("r0", "gt", ERRORS, "input saved");
    asm.sub("r6", "r0");
    asm.mov("r3", "r0");
    local("r2", REQUEST);
    call("write", INPUT_FD, "r2", "r3");
    asm.jumpIf("r6", "ge", PIECE_SIZE, "more input");
    asm.label("input saved");
    call("lseek", INPUT_FD, 0, 0);
    call("dup3", INPUT_FD, 0, 0);
    call("close", INPUT_FD);
  }
}
