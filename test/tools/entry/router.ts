// The router executes itself once more, with the engine's options in its environment and a daemon's capabilities as its bounding
// set, as execAsDaemon does (lib/sys/runtime.ts), but before its runtime starts for the first time: 2 ms instead of 20 ms.
import { capabilityBits, namesOf } from "../../../lib/sys/privileges.ts";
import { ENGINE_OPTIONS } from "../../../lib/sys/runtime.ts";
import type { Machine } from "./machine.ts";
import { type Writer, word } from "./writer.ts";

/** linux/prctl.h, linux/capability.h */
const PR_CAPBSET_DROP = 24;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
const VERSION_3 = 0x20080522;
const CAPABILITIES = 64;

const ERRORS = -4096;
const EPERM = -1;

/** Bytes for each of the strings, the path and the sets of capabilities. */
const PART = 4096;

/** Return the ranges of capability numbers that are not in a set; `end` is the first number behind a range. */
function gaps(bits: bigint): [from: number, end: number][] {
  const found: [number, number][] = [];
  for (let number = 0; number < CAPABILITIES; number++) {
    if ((bits >> BigInt(number)) & 1n) continue;
    const last = found.at(-1);
    if (last?.[1] === number) last[1]++;
    else found.push([number, number + 1]);
  }
  return found;
}

/**
 * Execute this program again; r6 points to argc. Goes on to the runtime where the kernel refuses, where the environment does not
 * fit into `memory`, and where it has a variable of the engine: then this has been done already, or a user has set the variable
 * and execAsDaemon adds the others.
 */
export function executeAsRouter(
  asm: Machine,
  { fresh, put, call, local }: Writer,
  memory: { readonly strings: number; readonly end: number },
): void {
  const [variable, read, limited, done] = [fresh("variable"), fresh("read"), fresh("limited"), fresh("done")];
  const { strings } = memory;
  const [path, sets, variables] = [strings + PART, strings + 2 * PART, strings + 3 * PART];

  // r7: where the next address is stored; r8: the environment, behind the arguments.
  local("r7", variables);
  asm.load("u64", "r8", "r6", 0);
  for (let doubled = 1; doubled < 8; doubled *= 2) asm.add("r8", "r8");
  asm.add("r8", "r6");
  asm.add("r8", 16);
  asm.label(variable);
  asm.load("u64", "r1", "r8", 0);
  asm.jumpIf("r1", "eq", 0, read);
  asm.load("u32", "r2", "r1", 0);
  for (const start of new Set(Object.keys(ENGINE_OPTIONS).map(word))) asm.jumpIf("r2", "eq", start, done);
  local("r2", memory.end - PART);
  asm.jumpIf("r7", "ge", "r2", done);
  asm.store("u64", "r7", 0, "r1");
  asm.add("r7", 8);
  asm.add("r8", 8);
  asm.jump(variable);
  asm.label(read);
  local("r1", strings);
  for (const [name, value] of Object.entries(ENGINE_OPTIONS)) {
    asm.store("u64", "r7", 0, "r1");
    asm.add("r7", 8);
    put("r1", `${name}=${value}\0`);
  }
  asm.store("u64", "r7", 0, 0);

  local("r1", sets);
  asm.mov("r2", "r1");
  put("r2", "/proc/self/exe\0");
  local("r2", path);
  call("readlink", "r1", "r2", PART - 1);
  asm.jumpIf("r0", "gt", ERRORS, done);
  local("r1", path);
  asm.add("r1", "r0");
  asm.store("u8", "r1", 0, 0);

  for (const [from, end] of gaps(capabilityBits(namesOf("weave-router")))) {
    const next = fresh("capability");
    asm.mov("r9", from);
    asm.label(next);
    call("prctl", PR_CAPBSET_DROP, "r9", 0, 0, 0);
    // Without CAP_SETPCAP, as in a container, the bounding set stays as it is.
    asm.jumpIf("r0", "eq", EPERM, limited);
    asm.add("r9", 1);
    asm.jumpIf("r9", "lt", end, next);
  }
  call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  // execve(2) gives root its inheritable capabilities, too, even outside the bounding set.
  local("r1", sets);
  asm.store("u64", "r1", 0, VERSION_3);
  local("r2", sets + 8);
  asm.call("capget");
  asm.jumpIf("r0", "ne", 0, limited);
  local("r1", sets);
  local("r2", sets + 8);
  for (const word of [0, 1]) asm.store("u32", "r2", 12 * word + 8, 0);
  asm.call("capset");
  asm.label(limited);

  local("r1", path);
  asm.mov("r2", "r6");
  asm.add("r2", 8);
  local("r3", variables);
  asm.call("execve");
  asm.label(done);
}
