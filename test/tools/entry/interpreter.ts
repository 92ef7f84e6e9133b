// Start the dynamic linker as the kernel does (fs/binfmt_elf.c): map its segments, tell it where it and the executable's own
// entry are (getauxval(3)), and go on there. Until then nothing but the kernel has run, and no library is mapped.
import { type Layout, PAGE, PHDR_SIZE, PT_INTERP, PT_LOAD } from "./elf.ts";
import type { Machine } from "./machine.ts";
import type { Writer } from "./writer.ts";

const AT_PHDR = 3;
const AT_BASE = 7;
const AT_ENTRY = 9;

const AT_FDCWD = -100;
const O_CLOEXEC = 0x80000;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const PF_X = 1;
const PF_W = 2;
const PF_R = 4;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const NO_FILE = -1;

const ELF_MAGIC = 0x464c457f;
const ERRORS = -4096;
/** As the shell's for a program that it cannot execute. */
const EXIT_CODE = 126;
const FAILURE =
  "weave: cannot load the dynamic linker of this executable; install the C library that it was built for\n";

// Offsets from the frame pointer.
const HEADERS = -16;
const BASE_AT = -24;
const ENTRY_AT = -32;
const BASE = -40;
const FILE = -48;
const END = -56;
const PROTECTION = -64;

/** End the code; r6 points to argc. `memory` is the offset of a free page in the frame. */
export function startInterpreter(
  asm: Machine,
  { call, local, put, fresh }: Writer,
  { entry, here, interpreter }: Layout,
  memory: number,
): void {
  auxiliaryVector();
  asm.load("u64", "r2", "fp", HEADERS);
  asm.add("r2", interpreter.path);
  call("openat", AT_FDCWD, "r2", O_CLOEXEC);
  asm.jumpIf("r0", "gt", ERRORS, "no interpreter");
  asm.store("u64", "fp", FILE, "r0");
  asm.mov("r1", "r0");
  local("r2", memory);
  call("read", "r1", "r2", PAGE);
  asm.jumpIf("r0", "lt", PHDR_SIZE, "no interpreter");
  asm.jumpIf("r0", "gt", PAGE, "no interpreter");
  local("r7", memory);
  asm.load("u32", "r1", "r7", 0);
  asm.jumpIf("r1", "ne", ELF_MAGIC, "no interpreter");
  // Behind its program headers, which have to be within the page.
  asm.load("u16", "r1", "r7", 56);
  asm.mov("r8", 0);
  asm.label("headers");
  asm.add("r8", PHDR_SIZE);
  asm.sub("r1", 1);
  asm.jumpIf("r1", "ne", 0, "headers");
  asm.load("u64", "r2", "r7", 32);
  asm.jumpIf("r2", "gt", PAGE, "no interpreter");
  asm.add("r8", "r2");
  asm.jumpIf("r8", "gt", PAGE, "no interpreter");
  asm.add("r8", "r7");

  // Its size: the end of its last segment.
  eachSegment(() => {
    asm.load("u64", "r2", "r9", 16);
    asm.load("u64", "r1", "r9", 40);
    asm.add("r2", "r1");
    asm.store("u64", "fp", END, "r2");
  });
  asm.load("u64", "r2", "fp", END);
  call("mmap", 0, "r2", 0, MAP_PRIVATE | MAP_ANONYMOUS, NO_FILE, 0);
  asm.jumpIf("r0", "gt", ERRORS, "no interpreter");
  asm.store("u64", "fp", BASE, "r0");
  eachSegment(mapSegment);
  asm.load("u64", "r1", "fp", FILE);
  call("close", "r1");

  asm.load("u64", "r2", "fp", BASE);
  asm.load("u64", "r1", "fp", BASE_AT);
  asm.store("u64", "r1", 8, "r2");
  asm.load("u64", "r1", "fp", ENTRY_AT);
  asm.load("u64", "r2", "r1", 8);
  asm.add("r2", entry - here);
  asm.store("u64", "r1", 8, "r2");
  showInterpreter();
  asm.load("u64", "r1", "r7", 24);
  asm.load("u64", "r2", "fp", BASE);
  asm.add("r1", "r2");
  asm.leave("r1");

  asm.label("no interpreter");
  local("r7", memory);
  put("r7", FAILURE);
  local("r2", memory);
  call("write", 2, "r2", FAILURE.length);
  call("exit_group", EXIT_CODE);

  /** Find the program headers, and where the addresses of the linker and of the entry are to be. */
  function auxiliaryVector(): void {
    asm.load("u64", "r8", "r6", 0);
    for (let doubled = 1; doubled < 8; doubled *= 2) asm.add("r8", "r8");
    asm.add("r8", "r6");
    asm.add("r8", 16);
    asm.label("environment");
    asm.load("u64", "r1", "r8", 0);
    asm.add("r8", 8);
    asm.jumpIf("r1", "ne", 0, "environment");
    asm.label("auxiliary");
    asm.load("u64", "r1", "r8", 0);
    asm.jumpIf("r1", "eq", 0, "auxiliary read");
    asm.load("u64", "r2", "r8", 8);
    for (const [type, at, value] of [
      [AT_PHDR, HEADERS, "r2"],
      [AT_BASE, BASE_AT, "r8"],
      [AT_ENTRY, ENTRY_AT, "r8"],
    ] as const) {
      const other = fresh("other");
      asm.jumpIf("r1", "ne", type, other);
      asm.store("u64", "fp", at, value);
      asm.label(other);
    }
    asm.add("r8", 16);
    asm.jump("auxiliary");
    asm.label("auxiliary read");
  }

  /** r9 points to the program header of each; r7 to the file, r8 behind its program headers. */
  function eachSegment(body: () => void): void {
    const [again, next, done] = [fresh("segment"), fresh("next"), fresh("done")];
    asm.load("u64", "r9", "r7", 32);
    asm.add("r9", "r7");
    asm.label(again);
    asm.jumpIf("r9", "ge", "r8", done);
    asm.load("u32", "r1", "r9", 0);
    asm.jumpIf("r1", "ne", PT_LOAD, next);
    body();
    asm.label(next);
    asm.add("r9", PHDR_SIZE);
    asm.jump(again);
    asm.label(done);
  }

  function mapSegment(): void {
    const [zeros, zero, mapped] = [fresh("zeros"), fresh("zero"), fresh("mapped")];
    asm.store("u64", "fp", PROTECTION, 0);
    for (const [flag, protection] of [
      [PF_R, PROT_READ],
      [PF_W, PROT_WRITE],
      [PF_X, PROT_EXEC],
    ] as const) {
      const without = fresh("without");
      asm.load("u32", "r1", "r9", 4);
      asm.and("r1", flag);
      asm.jumpIf("r1", "eq", 0, without);
      asm.load("u64", "r2", "fp", PROTECTION);
      asm.add("r2", protection);
      asm.store("u64", "fp", PROTECTION, "r2");
      asm.label(without);
    }
    // The file's part, from the beginning of its first page.
    asm.load("u64", "r1", "r9", 16);
    asm.mov("r2", "r1");
    asm.and("r2", PAGE - 1);
    asm.load("u64", "r3", "r9", 32);
    asm.add("r2", "r3");
    asm.and("r1", -PAGE);
    asm.load("u64", "r3", "fp", BASE);
    asm.add("r1", "r3");
    asm.load("u64", "r3", "fp", PROTECTION);
    asm.load("u64", "r5", "fp", FILE);
    asm.load("u64", "r10", "r9", 8);
    asm.and("r10", -PAGE);
    call("mmap", "r1", "r2", "r3", MAP_PRIVATE | MAP_FIXED, "r5", "r10");
    asm.jumpIf("r0", "gt", ERRORS, "no interpreter");
    // The rest is zero: to the end of that page, and whole pages.
    asm.load("u64", "r1", "r9", 32);
    asm.load("u64", "r2", "r9", 40);
    asm.jumpIf("r2", "le", "r1", mapped);
    asm.load("u64", "r3", "r9", 16);
    asm.load("u64", "r4", "fp", BASE);
    asm.add("r3", "r4");
    asm.add("r1", "r3");
    asm.add("r2", "r3");
    asm.label(zero);
    asm.mov("r3", "r1");
    asm.and("r3", PAGE - 1);
    asm.jumpIf("r3", "eq", 0, zeros);
    asm.store("u8", "r1", 0, 0);
    asm.add("r1", 1);
    asm.jump(zero);
    asm.label(zeros);
    asm.jumpIf("r2", "le", "r1", mapped);
    asm.sub("r2", "r1");
    asm.load("u64", "r3", "fp", PROTECTION);
    call("mmap", "r1", "r2", "r3", MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, NO_FILE, 0);
    asm.jumpIf("r0", "gt", ERRORS, "no interpreter");
    asm.label(mapped);
  }

  /** Give the interpreter's program header its type, for the dynamic linker: it would not start without. */
  function showInterpreter(): void {
    const protect = (protection: number) => {
      asm.load("u64", "r1", "fp", HEADERS);
      asm.and("r1", -PAGE);
      call("mprotect", "r1", PAGE, protection);
    };
    protect(PROT_READ | PROT_WRITE);
    asm.jumpIf("r0", "ne", 0, "no interpreter");
    asm.load("u64", "r1", "fp", HEADERS);
    asm.store("u32", "r1", interpreter.header, PT_INTERP);
    protect(PROT_READ);
  }
}
