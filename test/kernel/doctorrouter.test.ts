// A router that answers, hangs, is stopped, is gone or was never there; crashes of the last day; and a bug report of all that.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, constants, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError, RouterDownError, RouterSilentError } from "../../lib/api/client.ts";
import { collect } from "../../lib/doctor/bugreport.ts";
import { crashFindings } from "../../lib/doctor/crashes.ts";
import { diagnose } from "../../lib/doctor/doctor.ts";
import { askRouter, portOf, rangeOf, reportFindings, routerFindings } from "../../lib/doctor/router.ts";
import { trySyscall } from "../../lib/sys/syscall.ts";
import { isRoot } from "../support/newnetns.ts";
import { useFolder } from "../support/ownfolders.ts";

/** flock(2) */
const LOCK_EX = 2;

let folder: string;
let setBack: () => void;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-doctorrouter-"));
  setBack = useFolder(folder);
});
afterEach(() => {
  setBack();
  rmSync(folder, { recursive: true });
});

const REPORT = {
  Ready: true,
  Router: { Encryption: true, Interface: "vxlan-6784 (fast datapath: eBPF)", Connections: [] },
  IPAM: { Range: "10.32.0.0/12", RangeNumIPs: 100, Entries: null as object[] | null },
};
const answering = (report: unknown, available: Error | string = "", asked: unknown[] = []): ApiClient => {
  return async (method, path, options) => {
    asked.push([method, path, options?.timeoutMs]);
    const answer = path === "/report" ? report : available;
    if (answer instanceof Error) throw answer;
    return typeof answer === "string" ? answer : JSON.stringify(answer);
  };
};

describe("a router is asked", () => {
  test("for its report, and for addresses once it has a ring", async () => {
    const asked: unknown[] = [];
    const state = await askRouter(answering(REPORT, "", asked));
    expect([state.state, asked]).toEqual(["answers", [["GET", "/report", 8_000]]]);
    const ring = { ...REPORT, IPAM: { ...REPORT.IPAM, Entries: [] } };
    expect(await askRouter(answering(ring, "", asked))).toMatchObject({ obstacle: undefined });
    expect(asked.slice(1)).toEqual([
      ["GET", "/report", 8_000],
      ["GET", "/ipinfo/available", 8_000],
    ]);
    const obstacle = { cause: "full", reason: "all are taken", remedy: "a larger range" };
    const refused = (status: number, text: string) => askRouter(answering(ring, new ApiError(status, text)));
    expect(await refused(503, JSON.stringify(obstacle))).toMatchObject({ obstacle });
    expect(await refused(503, "all are taken")).toMatchObject({
      obstacle: { cause: "other", reason: "all are taken", remedy: "see 'weave status ipam'" },
    });
    expect(await refused(500, "broken")).toEqual({ state: "failing", reason: "broken" });
  });

  test("and may answer with what is no report, or an error", async () => {
    expect(await askRouter(answering({}))).toEqual({
      ...{ state: "failing", reason: "its report is of another version" },
    });
    expect((await askRouter(answering("no JSON"))).state).toBe("failing");
    expect(await askRouter(answering(new ApiError(500, "broken")))).toEqual({
      ...{ state: "failing", reason: "broken" },
    });
  });

  test("and may not answer, or not be there", async () => {
    for (const error of [new RouterSilentError("s", { seconds: 60 }), new ApiError(504, "no answer")])
      expect(await askRouter(answering(error))).toEqual({ state: "silent", pid: undefined, stopped: false });
    const down = answering(new RouterDownError("s"));
    expect(await askRouter(down)).toEqual({ state: "down", launchedBefore: false });
    writeFileSync(join(folder, "weave.db"), "");
    expect(await askRouter(down)).toEqual({ state: "down", launchedBefore: true });
    const fd = openSync(join(folder, "weave.pid"), constants.O_CREAT | constants.O_RDWR, 0o600);
    writeFileSync(join(folder, "weave.pid"), `${process.pid}\n`);
    trySyscall("flock", fd, LOCK_EX);
    expect(await askRouter(down)).toEqual({ state: "no socket", pid: process.pid });
    expect(await askRouter(answering(new RouterSilentError("s", { seconds: 60 })))).toEqual({
      ...{ state: "silent", pid: process.pid, stopped: false },
    });
    closeSync(fd);
  });
});

test.each<[Parameters<typeof routerFindings>[0], string, string]>([
  [
    { state: "silent", pid: 7, stopped: true },
    "problem: it runs (pid 7) and does not answer: stopped by a signal",
    "'kill -CONT 7' resumes it",
  ],
  [
    { state: "silent", pid: undefined, stopped: false },
    "problem: it runs and does not answer: this host is overloaded, or the router hangs",
    "see 'top' and 'weave logs'; 'weave stop' and 'weave launch' restart it",
  ],
  [{ state: "failing", reason: "x" }, "problem: cannot read its report: x", "see 'weave logs'"],
  [{ state: "down", launchedBefore: true }, "problem: not running", "'weave launch' starts it"],
  [
    { state: "down", launchedBefore: false },
    "warning: never launched on this host",
    "'weave launch' starts it",
  ],
])("%j", (state, found, advice) => {
  expect(routerFindings(state).map((each) => [`${each.level}: ${each.found}`, each.advice])).toEqual([
    [found, advice],
  ]);
});

test("one without its socket is told by the socket's path", () => {
  const [finding] = routerFindings({ state: "no socket", pid: 9 });
  expect(finding?.found).toBe(
    `it runs (pid 9) but does not listen at ${folder}/weave.sock: it is starting or stopping, or the socket was removed`,
  );
});

describe("a report", () => {
  const connection = (State: string, Address = "10.0.0.2:6783", change: object = {}) => ({
    ...{ Address, State, Info: "why" },
    ...change,
  });
  const about = (change: object, router: object = {}, obstacle?: Parameters<typeof reportFindings>[1]) =>
    reportFindings(
      { ...REPORT, Problems: [], ...change, Router: { ...REPORT.Router, ...router } } as never,
      obstacle,
    ).map(({ level, check, found }) => `${level} ${check}: ${found}`);

  test("counts connections that are established", () => {
    const Connections = [connection("established"), connection("pending"), connection("established")];
    expect(about({}, { Connections })).toEqual(["ok router: ready, with 2 connections"]);
    expect(about({}, { Connections: Connections.slice(1) })).toEqual(["ok router: ready, with 1 connection"]);
  });

  test("that is not ready says why where that is known", () => {
    expect(about({ Ready: false })).toEqual(["problem router: not ready for containers yet"]);
    const obstacle = { cause: "full", reason: "all are taken", remedy: "x" };
    const IPAM = { ...REPORT.IPAM, Entries: [] };
    const [first, second] = about({ Ready: false, IPAM }, {}, obstacle);
    expect(first).toBe("warning router: not ready for containers yet");
    expect(second).toStartWith("problem addresses: ");
  });

  test("has problems of its own; a peer that one of them is about is told once", () => {
    const Problems = [{ Check: "name", Found: "taken", Advice: "x", Address: "10.0.0.2:6783" }];
    const Connections = [connection("failed"), connection("failed", "10.0.0.3:6783")];
    expect(about({ Problems }, { Connections })).toEqual([
      "ok router: ready, with 0 connections",
      "problem name: taken",
      "problem connections: 10.0.0.3:6783 cannot be reached: why",
    ]);
  });

  test("tells of sleeve, with its reason, and of no connection to itself", () => {
    const self = { Trouble: { Cause: "self", Reason: "r", Remedy: "m" } };
    const Connections = [
      connection("established", "a", { Attrs: { name: "sleeve", reason: "UDP 6784 is closed" } }),
      connection("established", "b", { Attrs: { name: "sleeve" }, Trouble: { ...self.Trouble, Cause: "x" } }),
      connection("established", "c", { Attrs: { name: "fastdp" } }),
      connection("established", "d", { Attrs: { name: "sleeve" } }),
      connection("failed", "e", self),
    ];
    expect(about({}, { Connections }).slice(1)).toEqual([
      "warning connections: a is reached by sleeve only: UDP 6784 is closed",
      "warning connections: b is reached by sleeve only: r",
      "warning connections: d is reached by sleeve only: cause unknown",
    ]);
  });

  test("tells of connections by sleeve that have one cause once, three of them by address", () => {
    const Trouble = { Cause: "no encryption", Reason: "fastdp: no ESP", Remedy: "'weave doctor' says" };
    const slow = (address: string) =>
      connection("established", address, { Attrs: { name: "sleeve" }, Trouble });
    const findings = (addresses: string) => about({}, { Connections: [...addresses].map(slow) }).slice(1);
    expect(findings("ab")).toEqual(["warning connections: a, b are reached by sleeve only: fastdp: no ESP"]);
    expect(findings("abcde")).toEqual([
      "warning connections: a, b, c and 2 more are reached by sleeve only: fastdp: no ESP",
    ]);
  });

  test("names the link to other hosts, and the range", () => {
    expect(portOf(REPORT as never)).toBe("vxlan-6784");
    expect([
      rangeOf(REPORT as never),
      rangeOf(undefined),
      rangeOf({ ...REPORT, IPAM: undefined } as never),
    ]).toEqual([parseCidr("10.32.0.0/12"), undefined, undefined]);
  });
});

describe("crashes", () => {
  const NOW = Date.parse("2026-11-26T12:00:00.000Z");
  const crash = (time: string) =>
    ({
      ...{ time, number: 1, program: "weave-router", version: "3", kind: "failed part", what: "dns" },
      ...{ error: { name: "E", message: "no\nmore", stack: ["at f (/a.ts:1:2)"] }, file: "/c/1.json" },
    }) as never;

  test("of the last 24 h are a warning with the last of them", () => {
    expect(crashFindings(NOW, [])).toEqual([]);
    expect(crashFindings(NOW, [crash("2026-11-25T11:59:59.000Z")])).toEqual([]);
    const [one] = crashFindings(NOW, [crash("2026-11-25T12:00:01.000Z")]);
    expect([one?.level, one?.found]).toEqual([
      "warning",
      "1 crash report within 24 h, the last at 2026-11-25T12:00:01.000Z: weave-router 3: failed part in dns: no (/a.ts:1:2)",
    ]);
    const two = [crash("2026-11-26T10:00:00.000Z"), crash("2026-11-26T11:00:00.000Z")];
    expect(crashFindings(NOW, two)[0]?.found).toStartWith(
      "2 crash reports within 24 h, the last at 2026-11-26T11:00:00.000Z: ",
    );
  });
});

describe.if(isRoot)("a host as a whole", () => {
  const cni = () => {
    const none = join(folder, "none");
    return { bin: none, conf: none, executable: none, hairpin: true, runtime: undefined, named: false };
  };

  test("is examined whatever the router does; checks come in order", async () => {
    const findings = await diagnose(answering(new RouterDownError("s")), cni());
    const checks = [...new Set(findings.map(({ check }) => check))];
    expect(checks[0]).toBe("kernel");
    expect(checks.at(-1)).toBe("router");
    expect(checks).toEqual(expect.arrayContaining(["mtu", "forward", "leftovers", "clock"]));
    expect(findings.at(-1)?.found).toBe("never launched on this host");
  });

  test("is packed into a report; what is not to be had says why, and secrets are left out", async () => {
    mkdirSync(join(folder, "crashes"), { recursive: true });
    const log = join(folder, "weave.log");
    writeFileSync(log, "line of the log: --password s3cr3t-word\n");
    process.env["WEAVE_PASSWORD"] = "s3cr3t-word";
    try {
      const asked: unknown[] = [];
      const parts = await collect({
        api: answering(REPORT, new ApiError(500, "broken"), asked),
        cni: cni(),
        logFiles: { "weave.log": log, "none.log": join(folder, "no.log") },
        journal: () => undefined,
        pid: process.pid,
      });
      const names = Object.keys(parts);
      expect(names).toEqual(
        expect.arrayContaining([
          ...["version.txt", "status.txt", "status-connections.txt", "status-ipam.txt", "report.json"],
          ...["addresses.json", "doctor.json", "links.json", "link-addresses.json", "routes.json"],
          ...["neighbours.json", "filters.json", "nftables.json", "sysctls.txt", "weave.log"],
          ...["proc/version.txt", "proc/net-dev.txt", "proc/limits.txt", "proc/status.txt"],
        ]),
      );
      expect(names).not.toContain("none.log");
      expect(names).not.toContain("journal.txt");
      expect(parts["status.txt"]).toBe("not available: broken\n");
      expect(parts["weave.log"]).not.toContain("s3cr3t-word");
      expect(parts["weave.log"]).toStartWith("line of the log: ");
      expect(JSON.parse(parts["report.json"] ?? "")).toEqual(REPORT);
      expect(JSON.parse(parts["links.json"] ?? "")[0].name).toBe("lo");
      expect(parts["sysctls.txt"]).toContain("net/ipv4/ip_forward = ");
      expect(parts["proc/status.txt"]).toContain(`Pid:\t${process.pid}\n`);
      expect(
        JSON.parse(parts["nftables.json"] ?? "").map(({ family }: { family: string }) => family),
      ).toEqual(["ip", "inet", "bridge"]);
      expect(asked).toContainEqual(["GET", "/status", 5_000]);
    } finally {
      delete process.env["WEAVE_PASSWORD"];
    }
  });

  test("keeps the secrets of the router's process to itself, wherever that has them from", async () => {
    const secrets = { variable: "of-the-variables", word: "of-the-words", file: "of-the-file" };
    const [log, key] = [join(folder, "weave.log"), join(folder, "key")];
    writeFileSync(log, Object.entries(secrets).flat().join(" "));
    writeFileSync(key, `${secrets.file}\n`);
    const words = [`--password=${secrets.word}`, "--password-file", key];
    const router = Bun.spawn(["sh", "-c", "read line", "sh", ...words], {
      env: { WEAVE_PASSWORD: secrets.variable },
      stdin: "pipe",
    });
    const from = { api: answering(new RouterDownError("s")), cni: cni(), journal: () => undefined };
    const { "weave.log": text } = await collect({ ...from, logFiles: { "weave.log": log }, pid: router.pid });
    router.stdin.end();
    await router.exited;
    expect(Object.values(secrets).filter((secret) => text?.includes(secret))).toEqual([]);
    expect(text?.split(" ").filter((_, i) => i % 2 === 0)).toEqual(Object.keys(secrets));
  });

  test("has of a long log its end", async () => {
    const log = join(folder, "weave.log");
    writeFileSync(log, `${"x".repeat(5 << 20)}the end`);
    const logFiles = { "weave.log": log };
    const api = answering(new RouterDownError("s"));
    const parts = await collect({ api, cni: cni(), logFiles, journal: () => "journal", pid: undefined });
    expect([parts["weave.log"]?.length, parts["weave.log"]?.slice(-8)]).toEqual([4 << 20, "xthe end"]);
    expect([parts["journal.txt"], parts["proc/limits.txt"]]).toEqual(["journal", undefined]);
  });
});
