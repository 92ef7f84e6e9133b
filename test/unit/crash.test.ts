// Crash reports: what is in them, what is not, how many are kept; and a program that goes on after a fault of the kernel's kind.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CrashReporter,
  crashFiles,
  crashNotes,
  knownCrashes,
  readCrashes,
  recentCrashes,
} from "../../lib/api/crashes.ts";
import { crashFindings } from "../../lib/doctor/crashes.ts";
import { crashError, crashText } from "../../lib/log/crash.ts";
import { silentLog } from "../../lib/log/log.ts";
import { recentLines, remember } from "../../lib/log/recent.ts";
import { DATA } from "../../lib/sys/crashlayout.ts";
import { compiledPart, executableParts, readCrash } from "../../lib/sys/crashsignal.ts";

const FACTS = {
  time: "2026-11-26T14:00:00.000Z",
  number: 1,
  program: "weave-router",
  version: "3.0.0",
  kind: "uncaught error",
  what: "a callback",
  error: { name: "Error", message: "boom", stack: ["at f (lib/x.ts:1:2)"] },
  pid: 1,
  uptimeSeconds: 2,
  system: {},
  resources: {},
  state: { Ready: true },
  log: ["a line"],
} as const;

describe("a report", () => {
  test("has neither passwords nor tokens, wherever they are in it", () => {
    const kubeconfig = 'users: [{user: {"token": "abcdefgh", client-key-data: "aGVsbG8="}}]';
    const key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
    const text = crashText(
      {
        ...FACTS,
        error: { name: "Error", message: `with pass-word-1: ${kubeconfig}`, stack: [] },
        state: { Password: "pass-word-1", deep: [{ key }] },
        log: [`in base64 ${Buffer.from("pass-word-1").toString("base64")}`, "token=xyzxyz"],
      },
      ["pass-word-1"],
    );
    for (const secret of ["pass-word-1", "cGFzcy13b3JkLTE", "abcdefgh", "aGVsbG8", "MIIE", "xyzxyz"])
      expect(text).not.toContain(secret);
    expect(text).toContain("[redacted]");
  });

  test("is bounded, whatever the program knew, and JSON", () => {
    const long = "x".repeat(10_000_000);
    const error = Object.assign(new Error(long), { stack: `Error\n${`    at ${long}\n`.repeat(3)}` });
    const text = crashText({ ...FACTS, error: crashError(error), state: { long, big: 1n } }, []);
    expect(text.length).toBeLessThan(300_000);
    expect(JSON.parse(text).state.beginning).toStartWith('{"long":"xxx');
    expect(JSON.parse(crashText({ ...FACTS, state: { big: 12n } }, [])).state).toEqual({ big: "12" });
  });

  test("tells of the causes of an error, and of what is none", () => {
    const cause = new TypeError("the cause");
    const { stack, ...rest } = crashError(new Error("the error", { cause }));
    expect(rest).toEqual({ name: "Error", message: "the error" });
    expect(stack[0]).toStartWith("at ");
    expect(stack).toContain("caused by TypeError: the cause");
    expect(crashError("a text")).toEqual({ name: "string", message: "a text", stack: [] });
    const round = new Error("round");
    round.cause = round;
    expect(crashError(round).stack.length).toBeLessThanOrEqual(64);
  });
});

test("the last 200 lines of the log are remembered, cut", () => {
  for (let i = 0; i < 1000; i++) remember(`line ${i}\n`);
  remember("y".repeat(5000));
  expect(recentLines().length).toBe(200);
  expect(recentLines()[0]).toBe("line 801");
  expect(recentLines()[199]?.length).toBe(2000);
});

describe("files", () => {
  let folder: string;
  const reporter = () => new CrashReporter("weave-router", silentLog, folder);
  const event = (message: string) =>
    ({ kind: "uncaught error", what: "a callback", error: new Error(message) }) as const;

  beforeEach(() => {
    folder = join(mkdtempSync(join(tmpdir(), "weave-crash-")), "crashes");
  });
  afterEach(() => rmSync(join(folder, ".."), { recursive: true, force: true }));

  test("are for root only, numbered on; the last 10 are kept, of one process 20 written", async () => {
    const one = reporter();
    for (let i = 0; i < 25; i++) {
      one.write(event(`error ${i}`));
      // A name has the time in ms.
      await Bun.sleep(2);
    }
    const crashes = readCrashes(folder);
    expect(crashes.map(({ number }) => number)).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    expect(crashes.at(-1)?.error.message).toBe("error 19");
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    reporter().write(event("the next process"));
    expect(readCrashes(folder).at(-1)?.number).toBe(21);
  });

  test("have what the program knew; a state that cannot be told is no hindrance", () => {
    const one = reporter();
    one.state = () => ({ Ready: true });
    const [good] = [one.write(event("a"))];
    expect(JSON.parse(readFileSync(good ?? "", "utf8"))).toMatchObject({
      program: "weave-router",
      kind: "uncaught error",
      state: { Ready: true },
      error: { message: "a" },
    });
    one.state = () => {
      throw new Error("broken, too");
    };
    const bad = new CrashReporter("weave-npc", silentLog, folder);
    bad.state = one.state;
    expect(readFileSync(bad.write(event("b")) ?? "", "utf8")).toContain("broken, too");
  });

  test("that were not finished are removed by the next one of their program", () => {
    reporter().write(event("a"));
    for (const program of ["weave-router", "weave-npc"])
      writeFileSync(join(folder, `crash-20261126T140000000Z-${program}.json.tmp`), "{");
    reporter().write(event("b"));
    const left = readdirSync(folder).filter((name) => name.endsWith(".tmp"));
    expect(left).toEqual(["crash-20261126T140000000Z-weave-npc.json.tmp"]);
  });

  test("that cannot be written are said to be in the log, with the place", () => {
    writeFileSync(folder, "");
    const lines: string[] = [];
    const log = {
      error: () => {},
      warning: (text: string, fields?: object) => lines.push(text + JSON.stringify(fields)),
    };
    expect(new CrashReporter("weave-router", log, folder).write(event("c"))).toBeUndefined();
    expect(lines.join()).toMatch(/^cannot write a crash report: .*crash\.test\.ts:\d+/);
  });

  test("that others have put there are left out", () => {
    mkdirSync(folder);
    for (const [name, text] of [
      ["crash-20261126T140000000Z-weave-router.json", "{"],
      ["crash-20261126T140000001Z-weave-router.json", '{"number":-1}'],
      ["crash-20261126T140000002Z-weave-router.json", "z".repeat(3 << 20)],
      ["other.json", JSON.stringify(FACTS)],
    ] as const)
      writeFileSync(join(folder, name), text);
    expect(crashFiles(folder).length).toBe(3);
    expect(readCrashes(folder)).toEqual([]);
    writeFileSync(join(folder, "crash-20261126T140000003Z-weave-npc.json"), JSON.stringify(FACTS));
    expect(knownCrashes(folder).length).toBe(1);
  });

  test("of the last 24 h are in doctor and status, with place and remedy", () => {
    const now = Date.parse(FACTS.time) + 60_000;
    const crash = { ...FACTS, error: { ...FACTS.error, stack: [...FACTS.error.stack] }, file: "/f.json" };
    expect(recentCrashes(now, [crash])).toEqual([crash]);
    expect(recentCrashes(now + 86_400_000, [crash])).toEqual([]);
    expect(crashFindings(now, [crash])).toEqual([
      {
        check: "crashes",
        level: "warning",
        found:
          "1 crash report within 24 h, the last at 2026-11-26T14:00:00.000Z: weave-router 3.0.0: uncaught error in a callback: boom (lib/x.ts:1:2)",
        advice: "see /f.json; 'weave bugreport' packs all of them: attach it when you report the fault",
      },
    ]);
    expect(crashFindings(now, [])).toEqual([]);
    expect(crashNotes(now)).toEqual([]);
  });
});

describe("a fatal signal", () => {
  const PROGRAM = join(import.meta.dir, "../support/crashing.ts");
  test.each([
    ["fault", "SIGSEGV", /^at address 0x10$/, /^ +at bun(\.exe)?\+0x[0-9a-f]+$/],
    ["sent", "SIGSEGV", /^sent by process \d+$/, /^ +at /],
    ["sent", "SIGABRT", /^sent by process \d+$/, /^ +at /],
    ["sent", "SIGILL", /^sent by process \d+$/, /^ +at /],
  ] as const)(
    "%s, %s: the program goes on in place and knows of it; the engine's own faults are the engine's",
    async (how, name, message, frame) => {
      // What the engine interprets has faults in its own code, until a thread of it has compiled it.
      const env = { ...process.env, BUN_JSC_useWasmIPInt: "0" };
      const child = Bun.spawn([process.execPath, PROGRAM, how], { env, stdout: "pipe", stderr: "inherit" });
      let text = "";
      for await (const chunk of child.stdout) {
        text += new TextDecoder().decode(chunk);
        if (how === "sent" && text.endsWith(`pid ${child.pid}\n`)) process.kill(child.pid, name);
      }
      expect(await child.exited).toBe(7);
      const lines = text.split("\n");
      expect(lines.slice(0, 2)).toEqual(["trap", `pid ${child.pid}`]);
      const crash = JSON.parse(lines[2] ?? "");
      expect(crash).toMatchObject({ pid: child.pid, name });
      expect(crash.message).toMatch(message);
      expect(crash.frames[0]).toMatch(frame);
    },
  );

  test("records that are none are refused", () => {
    expect(readCrash(new Uint8Array())).toBeUndefined();
    expect(readCrash(new TextEncoder().encode('{"started":1,"parts":[]}\nshort'))).toBeUndefined();
    expect(readCrash(new Uint8Array(1000))).toBeUndefined();
    const maps =
      "00400000-00500000 r-xp 00000000 fe:00 12 /x y\n7f00-7f10 rwxp 00000000 00:00 0 \n7f20-7f30 rw-p 0 00:00 0\n";
    expect(executableParts(maps)).toEqual([
      { from: "00400000", to: "00500000", path: "/x y" },
      { from: "7f00", to: "7f10", path: "" },
    ]);
  });

  test("has compiled what lies in the largest part without a file, wherever that is in the list", () => {
    const part = (from: string, to: string, path = "") => ({ from, to, path });
    const [small, large, file] = [
      part("1000", "3000"),
      part("7f0000000000", "7f0040000000"),
      part("0", "ff000000", "/x"),
    ];
    for (const parts of [
      [small, large, file],
      [large, file, small],
      [file, small, large],
    ])
      expect(compiledPart(parts)).toEqual(large);
    // The kernel may split a mapping.
    const [one, other] = [part("5500f7d000", "5506f7d000"), part("5506f7d000", "5520f7d000")];
    expect(compiledPart([small, one, other])).toEqual(part("5500f7d000", "5520f7d000"));
    expect(compiledPart([part("1000", "2000"), part("2000", "5000", "/x"), part("5000", "5800")])).toEqual(
      part("1000", "2000"),
    );
    expect([compiledPart([file]), compiledPart([])]).toEqual([undefined, undefined]);
  });
});

test("the data of the crash handler is in order, 8 bytes a value, with 64 handlers", () => {
  const { handlers, mask, none, size, ...values } = DATA;
  expect<number[]>(Object.values(values)).toEqual(Object.keys(values).map((_, i) => 8 * i));
  expect([handlers, mask - handlers, none - mask]).toEqual([8 * Object.keys(values).length, 8 * 64, 8]);
  // struct sigaction of the kernel: handler, flags, restorer, mask.
  expect(size - none).toBe(4 * 8);
});
