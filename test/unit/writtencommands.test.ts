// Commands that write what others deploy or read: manifests, charts, monitoring, bug reports; whole or not at all.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bugreport } from "../../cmd/commands/bugreport.ts";
import { helm, kubernetes, kustomize, marathon } from "../../cmd/commands/manifest.ts";
import { monitoring } from "../../cmd/commands/monitoring.ts";
import { connect } from "../../cmd/commands/peers.ts";
import { report } from "../../cmd/commands/report.ts";
import { status } from "../../cmd/commands/status.ts";
import { stdout } from "../../cmd/output/stdout.ts";
import { PARAMETERS } from "../../lib/deploy/addon.ts";
import * as reports from "../../lib/doctor/bugreport.ts";
import * as locals from "../../lib/sys/localhttp.ts";
import { ask, runCommand } from "../support/fakerouter.ts";

let folder: string;
let spies: { mockRestore(): void }[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-written-"));
  spies = [spyOn(process, "getuid").mockImplementation(() => 0)];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  rmSync(folder, { recursive: true });
});

describe("manifest kubernetes", () => {
  const run = async (...argv: string[]) => {
    const { out, error } = await runCommand(kubernetes, argv);
    return error?.message ?? out;
  };

  test("has variables and options of the command line, before those of the query", async () => {
    expect(await run("--env", "IPALLOC_RANGE=10.48.0.0/12")).toContain("10.48.0.0/12");
    const queried = await run("--query", "env.WEAVE_MTU=1337&k8s-version=1.20");
    expect(queried).toContain("1337");
    const both = await run("--query", "env.WEAVE_MTU=1337", "--env", "WEAVE_MTU=1200");
    expect([both.includes("1200"), both.includes("1337")]).toEqual([true, false]);
    expect(await run("--disable-npc")).not.toContain("weave-npc");
    expect(await run()).toContain("weave-npc");
  });

  test("has what the query says where the command line says nothing, as if that had said it", async () => {
    const said: Record<string, string> = {
      "k8s-version": "1.20",
      version: "9.9",
      image: "registry.example/weave",
      "password-secret": "theirs",
      "known-peers": "192.0.2.1",
      "trusted-subnets": "192.0.2.0/24",
      "disable-npc": "true",
      "use-legacy-netpol": "true",
      distribution: "k3s",
      "cni-bin-dir": "/opt/there",
      "cni-conf-dir": "/etc/there",
      "startup-taint": "true",
      "max-unavailable": "7",
      guaranteed: "100m,200Mi",
    };
    expect(Object.keys(said).sort()).toEqual([...PARAMETERS].sort());
    const plain = await run();
    for (const [name, value] of Object.entries(said)) {
      const queried = await run("--query", `${name}=${value}`);
      expect([name, queried === plain]).toEqual([name, false]);
      const option = value === "true" ? [`--${name}`] : [`--${name}`, value];
      expect([name, queried]).toEqual([name, await run(...option)]);
    }
  });

  test("may have = in a value, but needs one", async () => {
    expect(await run("--env", "EXTRA_ARGS=--a=b")).toContain("--a=b");
    expect(await run("--env", "EXTRA_ARGS")).toBe('--env "EXTRA_ARGS": should be NAME=VALUE');
    expect(await run("--selinux-options", "type")).toBe('--selinux-options "type": should be NAME=VALUE');
    expect(await run("--selinux-options", "type=spc_t")).toContain("spc_t");
  });
});

describe.each([
  ["helm", helm, ["Chart.yaml", "templates", "values.schema.json", "values.yaml"]],
  ["kustomize", kustomize, ["kustomization.yaml"]],
] as const)("manifest %s", (_, command, expected) => {
  test("writes a new folder, whole", async () => {
    const to = join(folder, "a");
    const { out, error } = await runCommand(command, ["--output-dir", `${to}`]);
    expect(error).toBeUndefined();
    expect(readdirSync(to)).toEqual(expect.arrayContaining([...expected]));
    expect(out).toMatch(new RegExp(`^\\d+ files in ${to}\n$`));
    expect(readdirSync(folder)).toEqual(["a"]);
    for (const name of expected)
      if (name.includes(".")) expect(statSync(join(to, name)).size).toBeGreaterThan(0);
  });
});

test("a folder that exists is not written, nor a part of one that cannot be", async () => {
  mkdirSync(join(folder, "there"));
  expect((await runCommand(kustomize, ["--output-dir", join(folder, "there")])).error?.message).toBe(
    `${folder}/there exists: name a new folder, or remove it`,
  );
  expect((await runCommand(kustomize, [])).error?.message).toBe("name the folder with --output-dir DIR");
  // What others have put where it would be written first is none of ours.
  mkdirSync(join(folder, `x.${process.pid}`));
  expect((await runCommand(kustomize, ["--output-dir", join(folder, "x")])).error?.message).toContain(
    "EEXIST",
  );
  expect(readdirSync(folder).sort()).toEqual(["there", `x.${process.pid}`]);
  rmdirSync(join(folder, `x.${process.pid}`));
  writeFileSync(join(folder, "file"), "");
  expect((await runCommand(kustomize, ["--output-dir", join(folder, "file/x")])).error).toBeDefined();
  expect(readdirSync(folder).sort()).toEqual(["file", "there"]);
});

test("manifest marathon needs what the app needs", async () => {
  const argv = [
    "--host-prefix",
    "agent",
    "--ipalloc-range",
    "10.32.0.0/12",
    "--instances",
    "3",
    "--env",
    "WEAVE_MTU=1200",
  ];
  const app = JSON.parse((await runCommand(marathon, argv)).out);
  expect(app).toMatchObject({ id: "/weave", instances: 3, env: { WEAVE_MTU: "1200" } });
  expect((await runCommand(marathon, argv.slice(2))).error?.message).toBe(
    "required: --host-prefix; see 'weave help mesos'",
  );
});

describe("manifest monitoring", () => {
  const run = async (...argv: string[]) => {
    const { out, error } = await runCommand(monitoring, argv);
    return error?.message ?? out;
  };

  test("prints all of it, or a part", async () => {
    expect(await run()).toContain("kind: List");
    expect(await run("--scrape", "services")).not.toBe(await run());
    expect(JSON.parse(await run("dashboard"))).toHaveProperty("panels");
    expect(await run("rules")).toStartWith("groups:");
    expect(await run("rules", "--runbooks", "https://x.example/r/")).toContain("https://x.example/r/");
  });

  test.each([
    [["rule"], "unknown part of monitoring: rule; did you mean"],
    [["rules", "dashboard"], "unknown part of monitoring: rules dashboard"],
    [["--runbooks", "ftp://x"], '--runbooks "ftp://x": should be an http or https address'],
    [["--scrape", "nodes"], '--scrape "nodes": should be one of pods, services'],
  ])("%j is refused", async (argv, message) => expect(await run(...argv)).toStartWith(message));
});

describe("bugreport", () => {
  beforeEach(() => {
    spies.push(
      spyOn(reports, "collect").mockImplementation(async () => ({ "a.txt": "one", "b/c.txt": "two" })),
    );
  });

  test("packs all parts into a file that root alone reads, in a folder of its name", async () => {
    const file = join(folder, "report.tar.gz");
    const { out, error } = await runCommand(bugreport, ["-o", file]);
    expect([error, out]).toEqual([undefined, `2 files in ${file}\n`]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { stdout } = Bun.spawnSync(["tar", "-tzf", file]);
    expect(stdout.toString().trim().split("\n").sort()).toEqual(["report/a.txt", "report/b/c.txt"]);
  });

  test("takes no other file's place", async () => {
    const file = join(folder, "report.tar.gz");
    writeFileSync(file, "theirs");
    const { error } = await runCommand(bugreport, ["-o", file]);
    expect([error?.message, readFileSync(file, "utf8")]).toEqual([
      `cannot write ${file}: it exists; choose another with --output FILE`,
      "theirs",
    ]);
    expect((await runCommand(bugreport, ["-o", ""])).error?.message).toBe("--output is empty");
    expect(existsSync("")).toBe(false);
  });
});

/** No control characters but line ends, and nothing that reverses text. */
const SAFE =
  /^[^\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]*(?:\n[^\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]*)*$/u;

describe("on a terminal", () => {
  const REPORT = JSON.stringify({
    Router: { Name: "a", NickName: "one", Connections: [], Targets: [], Peers: [], Lost: [], Refused: [] },
    ...{ Problems: [], Notes: [] },
  });
  const onTerminal = async <T>(act: () => Promise<T>): Promise<T> => {
    const before = [stdout.isTTY, process.stderr.isTTY] as const;
    stdout.isTTY = true;
    try {
      return await act();
    } finally {
      [stdout.isTTY, process.stderr.isTTY] = before;
    }
  };
  const answers = { "GET /status/targets": "", "GET /status/peers": "p1\n", "GET /report": REPORT };

  test("a part of the status that is empty says so; scripts get nothing", async () => {
    expect((await ask(status, ["targets"], answers)).out).toBe("");
    const { out } = await onTerminal(() => ask(status, ["targets"], answers));
    expect(out.trim().length).toBeGreaterThan(10);
    expect((await onTerminal(() => ask(status, ["peers"], answers))).out).toBe("p1\n");
  });

  test("a report shows no escape sequences of peers; files get them as they are", async () => {
    const evil = { "GET /report": "one\u001b[2Jtwo" };
    expect((await ask(report, ["-f", "x"], evil)).out).toBe("one\u001b[2Jtwo\n");
    expect((await onTerminal(() => ask(report, ["-f", "x"], evil))).out).not.toContain("\u001b");
  });

  test("no command shows escape sequences of others, as text, as JSON, or refreshed", async () => {
    const nickname = "\u001b[2J\u009b31m\u202etxt\nroot#";
    const evil = JSON.stringify({
      ...JSON.parse(REPORT),
      Router: { ...JSON.parse(REPORT).Router, Peers: [] },
    });
    const named = JSON.parse(evil);
    named.Router.Peers = [{ Name: "p", NickName: nickname, Connections: [] }];
    const { out } = await ask(status, ["peers", "--json"], { "GET /report": JSON.stringify(named) });
    expect(out).toMatch(SAFE);
    expect(JSON.parse(out)).toEqual([{ name: "p", nickname, connections: [] }]);
    // Whoever has the port of weave-npc first.
    spies.push(
      spyOn(locals, "askLocally").mockImplementation(async () => ({ status: 200, body: `${nickname}\n` })),
    );
    const shown = await ask(status, [], { "GET /status": "fine\n" });
    expect(shown.out).toMatch(SAFE);
    expect(shown.out).toContain("\\x1b[2J\\x9b31m\\u202etxt");
  });

  test("a template that makes no sense is a fault of the command line; other refusals are not", async () => {
    const refused = (code: number) =>
      ask(report, ["-f", "{{"], { "GET /report": { status: code, text: "no" } });
    expect((await refused(400)).error?.name).toBe("UsageError");
    expect((await refused(500)).error?.name).toBe("ApiError");
    expect((await ask(report, ["-f", "x", "--json"], {})).error?.message).toBe(
      "--format or --json, not both",
    );
    expect((await ask(connect, [], {})).error?.name).toBe("UsageError");
  });
});
