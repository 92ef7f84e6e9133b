// Locks that other programs share, and the record of a crash: what is tried how often, what is closed, and what is read.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { withIptablesLock } from "../../lib/netlink/iptables/lock.ts";
import { executableParts, readCrash, takeCrash } from "../../lib/sys/crashsignal.ts";
import * as syscalls from "../../lib/sys/syscall.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

describe("the lock of iptables", () => {
  function lock(results: readonly number[], exists = true) {
    const told: unknown[] = [];
    let at = 0;
    const { openSync, closeSync } = fs;
    spies.push(
      spyOn(fs, "openSync").mockImplementation(((path: string, flags: "r") => {
        if (path !== "/run/xtables.lock") return openSync(path, flags);
        if (!exists) throw new Error("EROFS");
        told.push("open");
        return 991;
      }) as never),
      spyOn(fs, "closeSync").mockImplementation((fd) => {
        if (fd !== 991) return closeSync(fd);
        told.push("close");
      }),
      spyOn(syscalls, "trySyscall").mockImplementation((name, ...parameters: unknown[]) => {
        told.push([name, ...parameters]);
        return results[Math.min(at++, results.length - 1)] ?? 0;
      }),
      spyOn(Bun, "sleepSync").mockImplementation((ms) => void told.push(["sleep", ms])),
    );
    return told;
  }
  const TRY = ["flock", 991, 6];

  test("is held meanwhile, and given back also where that fails", () => {
    const told = lock([0]);
    expect(withIptablesLock(() => told.push("act"))).toBe(3);
    expect(told).toEqual(["open", TRY, "act", "close"]);
    expect(() =>
      withIptablesLock(() => {
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(told.at(-1)).toBe("close");
  });

  test("is tried every 10 ms while others have it, 20 times", () => {
    const told = lock([-11, -11, 0]);
    withIptablesLock(() => {});
    expect(told).toEqual(["open", TRY, ["sleep", 10], TRY, ["sleep", 10], TRY, "close"]);
    for (const spy of spies.splice(0)) spy.mockRestore();
    const held = lock([-11]);
    expect(() => withIptablesLock(() => held.push("act"))).toThrow(
      "cannot lock /run/xtables.lock, which another iptables holds",
    );
    expect([
      held.filter((each) => each === "act"),
      held.filter((each) => Array.isArray(each) && each[0] === "flock").length,
      held.at(-1),
    ]).toEqual([[], 20, "close"]);
  });

  test("that is refused for another reason is an error at once; where there can be no file, nobody locks", () => {
    const told = lock([-9]);
    expect(() => withIptablesLock(() => {})).toThrow("cannot lock");
    expect(told.length).toBe(3);
    for (const spy of spies.splice(0)) spy.mockRestore();
    const none = lock([0], false);
    expect([withIptablesLock(() => 5), none]).toEqual([5, []]);
  });
});

describe("the record of a crash", () => {
  const PARTS = [
    { from: "400000", to: "500000", path: "/opt/weave-router" },
    { from: "7f0000000000", to: "7f0000100000", path: "/lib/libc.so" },
  ];
  const header = `${JSON.stringify({ started: 1_700_000_000_000, parts: PARTS })}\n`;
  /** A record of x86-64: struct siginfo, the registers and a stack. */
  function record({
    signal = 11,
    code = 1,
    address = 0x10n,
    sender = 0,
    instruction = 0x400010n,
    stack = [] as bigint[],
  } = {}) {
    const bytes = new Uint8Array(128 + 184 + 8 * stack.length);
    const view = new DataView(bytes.buffer);
    view.setInt32(0, signal, true);
    view.setInt32(8, code, true);
    if (code > 0) view.setBigUint64(16, address, true);
    else view.setInt32(16, sender, true);
    view.setBigUint64(128 + 16 * 8, instruction, true);
    for (const [i, word] of stack.entries()) view.setBigUint64(128 + 184 + 8 * i, word, true);
    return new Uint8Array([...new TextEncoder().encode(header), ...bytes]);
  }

  const readX64 = (bytes: Uint8Array) => readCrash(bytes, "x64");

  test("names the signal, where it was, and what looks like return addresses, by their files", () => {
    const crash = readX64(record({ stack: [5n, 0x4fffffn, 0x500000n, 0x7f0000000000n] }));
    expect([crash?.name, crash?.message, crash?.started]).toEqual([
      "SIGSEGV",
      "at address 0x10",
      1_700_000_000_000,
    ]);
    expect(crash?.stack?.split("\n")).toEqual([
      ...[
        "SIGSEGV: at address 0x10",
        "    at weave-router+0x10",
        "    at weave-router+0xfffff",
        "    at libc.so+0x0",
      ],
    ]);
  });

  test("of arm64 has the program counter and the link register at other offsets", () => {
    const bytes = new Uint8Array(128 + 280 + 8);
    const view = new DataView(bytes.buffer);
    view.setInt32(0, 11, true);
    view.setInt32(8, 1, true);
    // linux/arch/arm64/include/uapi/asm/sigcontext.h: fault_address, regs[31], sp, pc, pstate
    view.setBigUint64(128 + 8 + 8 * 30, 0x400020n, true);
    view.setBigUint64(128 + 8 + 8 * 32, 0x400010n, true);
    view.setBigUint64(128 + 280, 0x400030n, true);
    const crash = readCrash(new Uint8Array([...new TextEncoder().encode(header), ...bytes]), "arm64");
    const frames = ["10", "20", "30"].map((at) => `    at weave-router+0x${at}`);
    expect(crash?.stack?.split("\n").slice(1)).toEqual(frames);
  });

  test("tells who sent a signal, and an instruction that is in no file by its address", () => {
    const crash = readX64(record({ signal: 6, code: 0, sender: 4_321, instruction: 0x123n }));
    expect([crash?.name, crash?.message, crash?.stack?.split("\n")[1]]).toEqual([
      "SIGABRT",
      "sent by process 4321",
      "    at 0x123",
    ]);
    expect(readX64(record({ signal: 40 }))?.name).toBe("signal 40");
    expect(readX64(record({ code: -6, sender: 9 }))?.message).toBe("sent by process 9");
  });

  test("has at most 40 frames, and is none where it is cut or another's", () => {
    const long = readX64(record({ stack: Array(100).fill(0x400020n) }));
    expect(long?.stack?.split("\n").length).toBe(41);
    const whole = record();
    expect(readX64(whole.subarray(0, whole.length - 1))).toBeUndefined();
    expect([readCrash(new Uint8Array()), readCrash(new TextEncoder().encode("{}\n"))]).toEqual([
      undefined,
      undefined,
    ]);
    // A stack that is cut within a word is read up to that.
    const cut = record({ stack: [0x400020n, 0x400030n] });
    expect(readCrash(cut.subarray(0, cut.length - 1))?.stack?.split("\n").length).toBe(3);
  });

  test("is taken once, by the descriptor that the program before has left", () => {
    const VARIABLE = "WEAVE_CRASH_FD";
    const { readSync, fstatSync, closeSync } = fs;
    const closed: number[] = [];
    const bytes = record();
    spies.push(
      spyOn(fs, "fstatSync").mockImplementation(((fd: number) =>
        fd === 992 ? { size: bytes.length } : fstatSync(fd)) as never),
      spyOn(fs, "readSync").mockImplementation(((
        fd: number,
        buffer: Uint8Array,
        offset: number,
        length: number,
        position: number,
      ) => {
        if (fd !== 992) return readSync(fd, buffer, offset, length, position);
        buffer.set(bytes.subarray(position, position + length), offset);
        return length;
      }) as never),
      spyOn(fs, "closeSync").mockImplementation((fd) => (fd === 992 ? void closed.push(fd) : closeSync(fd))),
    );
    process.env[VARIABLE] = "992";
    expect([takeCrash()?.name, VARIABLE in process.env, closed]).toEqual(["SIGSEGV", false, [992]]);
    expect(takeCrash()).toBeUndefined();
    for (const other of ["", "2", "x", "1.5"]) {
      process.env[VARIABLE] = other;
      expect([takeCrash(), VARIABLE in process.env]).toEqual([undefined, false]);
    }
    process.env[VARIABLE] = "99999";
    expect(takeCrash()).toBeUndefined();
  });

  test("has the parts of memory that are executable, with and without a file", () => {
    const maps = [
      "00400000-00500000 r--p 00000000 08:01 1 /opt/weave-router",
      "00500000-00600000 r-xp 00100000 08:01 1                     /opt/weave router",
      "7f00-7f10 rwxp 00000000 00:00 0 ",
      "7f20-7f30 ---p 00000000 00:00 0 [vdso]",
    ].join("\n");
    expect(executableParts(maps)).toEqual([
      { from: "00500000", to: "00600000", path: "/opt/weave router" },
      { from: "7f00", to: "7f10", path: "" },
    ]);
  });
});
