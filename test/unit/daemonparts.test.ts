// What a daemon is started with and gives up: the engine's options, its restarts in place, capabilities, memory of the start.

import { toArrayBuffer } from "bun:ffi";
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { confine, limitNextProgram } from "../../lib/sys/confine.ts";
import { capabilityBits, namesOf } from "../../lib/sys/privileges.ts";
import {
  countRestart,
  daemonEnvironment,
  execBlock,
  MAX_RESTARTS,
  mayRestart,
  releaseMemory,
  STARTED_MS,
} from "../../lib/sys/runtime.ts";
import * as seccomp from "../../lib/sys/seccomp.ts";
import * as syscalls from "../../lib/sys/syscall.ts";
import * as textfile from "../../lib/sys/textfile.ts";

const ENGINE = {
  BUN_JSC_thresholdForJITAfterWarmUp: "20000",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "20000",
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "1000000",
  BUN_JSC_largeHeapSize: "16777216",
  BUN_JSC_collectionTimerMaxPercentCPU: "0.0005",
  BUN_GC_TIMER_INTERVAL: "120000",
  MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "10000",
  MIMALLOC_PURGE_DELAY: "10000",
};

let calls: unknown[][];
let refuse: Record<string, number>;
let spies: { mockRestore(): void }[];
beforeEach(() => {
  [calls, refuse] = [[], {}];
  spies = [
    spyOn(syscalls, "trySyscall").mockImplementation((name, ...parameters) => {
      calls.push([name, ...parameters]);
      return refuse[String(name)] ?? 0;
    }),
  ];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
});

describe("a daemon's environment", () => {
  test("has the engine's options, unless it has others, and no variables without a value", () => {
    expect(daemonEnvironment({})).toEqual(ENGINE);
    const own = { BUN_GC_TIMER_INTERVAL: "1", A: "", B: undefined };
    expect(daemonEnvironment(own)).toEqual({ ...ENGINE, BUN_GC_TIMER_INTERVAL: "1", A: "" });
  });

  test("and arguments are handed to the kernel as it wants them", () => {
    const { path, argv, envp, kept } = execBlock(["run", "--name=ü"], { MORE: "1" });
    const text = (at: number) => {
      const bytes = new Uint8Array(toArrayBuffer(at as never, 0, 4_096));
      return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
    };
    const list = (at: number) => {
      const found: string[] = [];
      for (let i = 0; ; i++) {
        const [pointer = 0n] = new BigUint64Array(toArrayBuffer((at + 8 * i) as never, 0, 8));
        if (pointer === 0n) return found;
        found.push(text(Number(pointer)));
      }
    };
    expect([text(path), list(argv)]).toEqual([process.execPath, [process.argv0, "run", "--name=ü"]]);
    const expected = { ...daemonEnvironment(process.env), MORE: "1" };
    expect(list(envp)).toEqual(Object.entries(expected).map(([name, value]) => `${name}=${value}`));
    expect(kept.length).toBe(3);
  });
});

describe("restarts in place", () => {
  const NOW = 1_700_000_000_000;
  const before = process.env["WEAVE_RESTARTS"];
  beforeEach(() => {
    delete process.env["WEAVE_RESTARTS"];
  });
  afterEach(() => {
    if (before === undefined) delete process.env["WEAVE_RESTARTS"];
    else process.env["WEAVE_RESTARTS"] = before;
  });

  test("are five within a minute; the sixth is one too many", () => {
    expect(MAX_RESTARTS).toBe(5);
    for (let i = 1; i <= 5; i++) {
      expect([i, mayRestart(NOW + i)]).toEqual([i, true]);
      expect([i, countRestart(NOW + i)]).toEqual([i, false]);
    }
    expect([mayRestart(NOW + 6), countRestart(NOW + 6)]).toEqual([false, true]);
    expect(process.env["WEAVE_RESTARTS"]?.split(",").length).toBe(6);
  });

  test("count for less than a minute, by whatever way the clock was set", () => {
    for (let i = 0; i < 5; i++) countRestart(NOW);
    expect([59_999, 60_000].map((ms) => mayRestart(NOW + ms))).toEqual([false, true]);
    expect([59_999, 60_000].map((ms) => mayRestart(NOW - ms))).toEqual([false, true]);
    countRestart(NOW + 60_000);
    expect(process.env["WEAVE_RESTARTS"]).toBe(String(NOW + 60_000));
    process.env["WEAVE_RESTARTS"] = "x,,-1,0";
    expect(mayRestart(5)).toBe(true);
  });
});

describe("capabilities", () => {
  const ALLOWED = capabilityBits(namesOf("weave-npc"));
  const hex = (bits: bigint) => bits.toString(16).padStart(16, "0");
  /** What /proc says before and after: bounding sets, inheritable, permitted. */
  function has(before: bigint, after: bigint, inheritable = 0n, permitted = before) {
    const sets = (bounding: bigint) =>
      `CapInh:\t${hex(inheritable)}\nCapPrm:\t${hex(permitted)}\nCapEff:\t${hex(permitted)}\nCapBnd:\t${hex(bounding)}\nCapAmb:\t${hex(0n)}\nNoNewPrivs:\t0\nSeccomp:\t0\n`;
    let reads = 0;
    spies.push(spyOn(textfile, "textOf").mockImplementation(() => sets(reads++ === 0 ? before : after)));
  }

  test("that the daemon does not need are dropped for the next program, the ambient ones too", () => {
    has(ALLOWED | (1n << 0n) | (1n << 21n) | (1n << 40n), ALLOWED);
    expect(limitNextProgram("weave-npc")).toBe(true);
    expect(calls).toEqual([
      ["prctl", 24, 0],
      ["prctl", 24, 21],
      ["prctl", 24, 40],
      ["prctl", 47, 4, 0, 0, 0],
    ]);
  });

  test("are left as they are where there are no others, or where the kernel does not let us", () => {
    has(ALLOWED, ALLOWED);
    expect([limitNextProgram("weave-npc"), calls]).toEqual([false, []]);
    spies.pop()?.mockRestore();
    has(ALLOWED | 1n | 2n, ALLOWED);
    refuse["prctl"] = -1;
    expect([limitNextProgram("weave-npc"), calls]).toEqual([false, [["prctl", 24, 0]]]);
    // One that this kernel does not know is no reason to stop; nothing dropped means no second start.
    refuse["prctl"] = -22;
    spies.pop()?.mockRestore();
    has(ALLOWED | 1n | 2n, ALLOWED | 1n | 2n);
    calls.length = 0;
    expect([limitNextProgram("weave-npc"), calls.length]).toEqual([false, 3]);
  });

  test("that root would inherit are cleared; this program keeps its own, in words of 32 bits", () => {
    const permitted = ALLOWED | (5n << 32n);
    has(ALLOWED | 1n, ALLOWED, 8n, permitted);
    expect(limitNextProgram("weave-npc")).toBe(true);
    const [name, header, sets] = calls.at(-1) ?? [];
    const words = (bytes: unknown) => [...new Uint32Array((bytes as Uint8Array).buffer)];
    const low = Number(permitted & 0xffffffffn);
    expect([name, words(header), words(sets)]).toEqual(["capset", [0x20080522, 0], [low, low, 0, 5, 5, 0]]);
  });

  test("and system calls are confined; what is missing of that is said", () => {
    has(ALLOWED, ALLOWED);
    const filter = spyOn(seccomp, "filterCalls").mockImplementation(() => 0);
    spies.push(filter);
    expect([confine("weave-npc"), calls]).toEqual([[], [["prctl", 38, 1, 0, 0, 0]]]);
    filter.mockImplementation(() => -22);
    expect(confine("weave-npc")).toEqual(["no filter of system calls (errno 22)"]);
    refuse["prctl"] = -38;
    filter.mockClear();
    expect(confine("weave-npc")).toEqual(["no filter of system calls (errno 38)"]);
    expect(filter).toHaveBeenCalledTimes(0);
    spies[1]?.mockRestore();
    has(ALLOWED | 1n, ALLOWED | 1n);
    expect(confine("weave-npc")).toContain("cannot drop capabilities 1: no CAP_SETPCAP");
  });
});

test("memory of the start is released: code and constants of this program, and nothing else", () => {
  expect(STARTED_MS).toBe(60_000);
  const own = process.execPath;
  const maps = [
    `00400000-00500000 r--p 00000000 08:01 1 ${own}`,
    `00500000-00700000 r-xp 00100000 08:01 1 ${own}`,
    `00700000-00800000 r--p 00300000 08:01 1 ${own}`,
    `00800000-00900000 rw-p 00400000 08:01 1 ${own}`,
    "7f0000000000-7f0000100000 r-xp 00000000 08:01 2 /lib/libc.so",
    "7f0000200000-7f0000300000 r--p 00000000 00:00 0 ",
  ].join("\n");
  const { readFileSync } = fs;
  spies.push(
    spyOn(fs, "readFileSync").mockImplementation(((path: string, ...more: never[]) =>
      path === "/proc/self/maps" ? maps : readFileSync(path, ...more)) as never),
  );
  releaseMemory();
  expect(calls).toEqual([
    ["madvise", 0x400000n, 0x100000n, 4],
    ["madvise", 0x500000n, 0x200000n, 4],
  ]);
});
