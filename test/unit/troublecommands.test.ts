// Commands that look for trouble, and those that attach: what they ask, print, undo and exit with.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attach, detach } from "../../cmd/commands/attach.ts";
import { doctor } from "../../cmd/commands/doctor.ts";
import { explainCommand } from "../../cmd/commands/npc/explain.ts";
import { ping } from "../../cmd/commands/ping.ts";
import { podAddress, policyOpinion } from "../../cmd/commands/pods.ts";
import { top } from "../../cmd/commands/top.ts";
import { trace } from "../../cmd/commands/trace.ts";
import { complete } from "../../cmd/complete.ts";
import { takeSteps } from "../../cmd/steps.ts";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import * as clusters from "../../lib/doctor/cluster.ts";
import type { CommandSpec } from "../../lib/help/spec.ts";
import * as walks from "../../lib/trace/trace.ts";
import { ask } from "../support/fakerouter.ts";

let restore: () => void;
beforeEach(() => {
  const code = process.exitCode;
  const spy = spyOn(process, "getuid").mockImplementation(() => 0);
  restore = () => {
    spy.mockRestore();
    process.exitCode = code ?? 0;
  };
  process.exitCode = 0;
});
afterEach(() => restore());

describe("ping", () => {
  const way = { overlay: "fastdp", inUse: true, sent: 3, received: 3, roundTripMs: null, mtu: 1_376 };
  const pinged = (change: object = {}, ofWay: object = {}) =>
    JSON.stringify([
      {
        ...{ peer: { name: "n", nickname: "host2" }, via: null, networkMtu: 1_376, problem: null },
        ...{ remedy: null, note: null, overlays: [{ ...way, problem: null, remedy: null, ...ofWay }] },
        ...change,
      },
    ]);

  test("asks for peers and a number of probes; all is well where nothing has a problem", async () => {
    const { asked, error } = await ask(ping, ["host2", "-n", "3"], { "POST /ping": pinged() });
    expect([asked, error, process.exitCode]).toEqual([["POST /ping peer=host2&count=3"], undefined, 0]);
    const all = await ask(ping, [], { "POST /ping": pinged({ note: "older", overlays: [] }) });
    expect([all.asked, process.exitCode]).toEqual([["POST /ping count=10"], 0]);
  });

  test.each([
    ["a peer has a problem", pinged({ problem: "silent", remedy: "start it" })],
    ["an overlay has one", pinged({}, { problem: "lost 1 of 3", remedy: "x" })],
    ["nobody is connected", "[]"],
  ])("exit code 1 where %s", async (_what, answer) => {
    await ask(ping, ["--json"], { "POST /ping": answer });
    expect(process.exitCode).toBe(1);
  });

  test.each(["0", "1000", "x", "-1", ""])('"%s" is no number of probes', async (count) => {
    const { error, asked } = await ask(ping, [`--count=${count}`], {});
    expect([error?.message, asked]).toEqual([`--count "${count}" is not a number from 1 to 999`, []]);
  });
});

describe("top", () => {
  const link = (receivedBytes: number) => ({
    ...{ id: "c1", interface: "eth0", port: "veth1", index: 7, addresses: ["10.32.0.1/12"] },
    ...{
      receivedBytes,
      sentBytes: 0,
      receivedPackets: 0,
      sentPackets: 0,
      receivedDropped: 0,
      sentDropped: 0,
    },
  });

  test("measures for 1 s where it is printed once", async () => {
    let now = 5_000;
    const spies = [
      spyOn(Bun, "sleep").mockImplementation(async (ms) => {
        now += Number(ms);
      }),
      spyOn(performance, "now").mockImplementation(() => now),
    ];
    let bytes = 0;
    try {
      const { asked, out } = await ask(top, ["--json"], {
        "GET /traffic": () => {
          bytes += 700;
          return JSON.stringify({ name: "n", nickname: "host1", peers: 2, links: [link(bytes)] });
        },
      });
      expect(asked).toEqual(["GET /traffic", "GET /traffic"]);
      expect(JSON.parse(out)).toMatchObject({
        nickname: "host1",
        containers: [{ id: "c1", receivedBytesPerS: 700, receivedBytes: 1_400 }],
      });
      expect(now).toBe(6_000);
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  });
});

describe("trace", () => {
  test.each<[string[], string]>([
    [["a"], "name both ends: weave trace FROM TO"],
    [["a", "b", "c"], '"c" is superfluous: trace takes two ends'],
    [["a", ""], "an argument is empty"],
    [["a", "x".repeat(257)], "an end has 1 to 256 characters"],
    ...["0", "65536", "80/sctp", "x", "/tcp", ""].map((port): [string[], string] => [
      ["a", "b", `--port=${port}`],
      `--port "${port}" is not PORT/PROTOCOL, such as 80/tcp or 53/udp`,
    ]),
  ])("refuses %p", async (argv, message) => {
    const { error, asked } = await ask(trace, argv, {});
    expect([error?.message, asked]).toEqual([message, []]);
  });

  test.each<[string[], string, number]>([
    [[], "icmp", 0],
    [["--port=1"], "tcp", 1],
    [["--port=80/tcp"], "tcp", 80],
    [["--port=65535/TCP"], "tcp", 65_535],
    [["--port=53/udp"], "udp", 53],
    [["--port=53/UDP"], "udp", 53],
    [["--port=53/Udp"], "udp", 53],
  ])("with %p sends %s to port %d", async (options, protocol, port) => {
    using walk = spyOn(walks, "trace").mockImplementation(() => Promise.reject(new Error("the end")));
    const { error } = await ask(trace, ["a", "b", ...options], {});
    expect([error?.message, walk.mock.calls[0]?.[0]]).toEqual([
      ...["the end", { from: "a", to: "b", protocol, port } as never],
    ]);
  });
});

describe("attach", () => {
  const IP = JSON.stringify({ owned: [] });

  test("gives its addresses back, before it fails, where the container cannot be attached", async () => {
    const { asked, error } = await ask(attach, ["web", "--netns", "/run/netns/there-is-none"], {
      "GET /ip": IP,
      "POST /ip/web": "10.32.0.5/12\n",
      "DELETE /ip/web/10.32.0.5": "",
    });
    expect(asked).toEqual(["GET /ip", "POST /ip/web?container=true", "DELETE /ip/web/10.32.0.5"]);
    expect(error?.message).toContain("/run/netns/there-is-none");
  });

  test.each<[string[], string]>([
    [["a/b", "--netns", "/x"], '"a/b" is neither the id of a container nor an address such as 10.32.0.5/12'],
    [["1.2.3", "--pid", "7"], "1.2.3"],
    [["web", "--netns", "/x", "--add-host", "db:10.0.0.1"], "--add-host goes with --rewrite-hosts"],
    [["web", "--netns", "/x", "--rewrite-hosts"], "--rewrite-hosts is for a container of Docker or podman"],
    [["web", "--netns", "/x", "--rewrite-hosts", "--add-host", "db"], '--add-host "db": should be NAME:IP'],
    [
      ["web", "--netns", "/x", "--rewrite-hosts", "--add-host", "db:host"],
      '--add-host "db:host": should be NAME:IP',
    ],
  ])("refuses %p, and asks for nothing", async (argv, message) => {
    const { error, asked } = await ask(attach, argv, {});
    expect(error?.message).toContain(message);
    expect(asked).toEqual([]);
  });

  test("detach forgets the attachment before the addresses are released, of an older router, too", async () => {
    const netns = ["--netns", "/run/netns/there-is-none"];
    const answers = { "GET /ip/web": "10.32.0.5/12 10.40.0.1/24", "DELETE /ip/web/": "" };
    const { asked, error } = await ask(detach, ["web", ...netns], answers);
    expect(asked).toEqual(["GET /ip/web", "DELETE /attachment/web address=10.32.0.5&address=10.40.0.1"]);
    expect(error?.message).toContain("/run/netns/there-is-none");
    const failing = await ask(detach, ["web", ...netns], {
      ...answers,
      "DELETE /attachment/": { status: 500, text: "disk full" },
    });
    expect(failing.error?.message).toBe("disk full");
  });

  test("detach forgets nothing of a container without addresses", async () => {
    const { asked } = await ask(detach, ["web", "--netns", "/run/netns/there-is-none"], {
      "GET /ip/web": "",
    });
    expect(asked).toEqual(["GET /ip/web"]);
  });
});

describe("policies of a snapshot", () => {
  let folder: string;
  let snapshot: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-snapshot-"));
    snapshot = join(folder, "cluster.json");
    const pod = (name: string, podIP: string) => ({
      ...{ apiVersion: "v1", kind: "Pod", metadata: { namespace: "default", name, labels: { app: name } } },
      ...{ spec: { nodeName: "n" }, status: { podIP, podIPs: [{ ip: podIP }], phase: "Running" } },
    });
    const items = [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } },
      pod("web", "10.32.0.1"),
      pod("db", "10.32.0.2"),
      pod("six", "fd00::3"),
      {
        ...{
          apiVersion: "networking.k8s.io/v1",
          kind: "NetworkPolicy",
          metadata: { namespace: "default", name: "db" },
        },
        spec: {
          podSelector: { matchLabels: { app: "db" } },
          ingress: [{ from: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ port: 5432 }] }],
        },
      },
    ];
    writeFileSync(snapshot, JSON.stringify({ kind: "List", items }));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test.each([
    ["5432", "TCP", "allow", 0],
    ["5433", "TCP", "deny", 3],
    ["5432", "udp", "deny", 3],
  ])("explain: port %s of %s is %s, exit code %d", async (port, protocol, verdict, code) => {
    const argv = ["--from=default/web", "--to=10.32.0.2", `--port=${port}`, `--protocol=${protocol}`];
    const { out, error } = await ask(explainCommand, [...argv, `--snapshot=${snapshot}`, "--json"], {});
    expect([error, JSON.parse(out).verdict, process.exitCode]).toEqual([undefined, verdict, code]);
  });

  test.each<[string[], string]>([
    [["--to=x", "--port=1"], "name both ends with --from END and --to END"],
    [["--from=x", "--port=1"], "name both ends with --from END and --to END"],
    ...["0", "65536", "x", "1.5"].map((port): [string[], string] => [
      ["--from=x", "--to=y", `--port=${port}`],
      "--port is a number from 1 to 65535",
    ]),
    [["--from=x", "--to=y"], "--port is a number from 1 to 65535"],
  ])("explain refuses %p", async (argv, message) => {
    expect((await ask(explainCommand, argv, {})).error?.message).toBe(message);
  });

  test("a file that is none is named", async () => {
    writeFileSync(snapshot, "no");
    const argv = ["--from=default/web", "--to=10.32.0.2", "--port=1", `--snapshot=${snapshot}`];
    expect((await ask(explainCommand, argv, {})).error?.message).toStartWith(`${snapshot}: `);
  });

  test("a pod has the IPv4 address that the snapshot has; another end is none", async () => {
    expect(await podAddress({ snapshot }, "default/web")).toBe("10.32.0.1");
    await expect(podAddress({ snapshot }, "default/six")).rejects.toThrow(
      "pod default/six has no IPv4 address; 'kubectl get pod -o wide' shows whether it runs",
    );
    for (const name of ["web", "Default/web", "a/b/c", "/web"])
      await expect(podAddress({ snapshot }, name)).rejects.toThrow("is neither a pod, such as default/web");
  });

  test("what policies say of a probe: by its ports, and of none for ICMP", async () => {
    const [source, destination] = [parseIPv4("10.32.0.1"), parseIPv4("10.32.0.2")];
    const opinion = async (protocol: "tcp" | "udp" | "icmp", port: number) =>
      (await policyOpinion({ snapshot }, { source, destination, protocol, port, id: 1 }))?.ingress ?? "";
    const allowed = await opinion("tcp", 5_432);
    expect(await opinion("tcp", 5_433)).not.toBe(allowed);
    expect(await opinion("udp", 5_432)).not.toBe(allowed);
    expect(await opinion("icmp", 0)).not.toBe(allowed);
    const before = process.env["KUBECONFIG"];
    delete process.env["KUBECONFIG"];
    const nothing = await policyOpinion({}, { source, destination, protocol: "tcp", port: 1, id: 1 });
    expect(nothing).toBeUndefined();
    if (before !== undefined) process.env["KUBECONFIG"] = before;
  });
});

test("steps go on after one that fails, at once or later, each after the end of the one before, and each is told", async () => {
  const taken: string[] = [];
  const step = (name: string, run?: () => void | Promise<void>) => ({
    does: `do ${name}`,
    did: `did ${name}`,
    ...(run && { run }),
  });
  const made = await takeSteps([
    step("a", () => void taken.push("a")),
    step("b", () => {
      throw new Error("busy");
    }),
    step("c"),
    step("d", async () => {
      await Promise.resolve();
      taken.push("d");
    }),
    step("e", async () => {
      await Promise.resolve();
      throw new Error("away");
    }),
    step("f", () => void taken.push("f")),
  ]);
  expect(made).toEqual({
    did: ["did a", "did c", "did d", "did f"],
    failed: ["cannot do b: busy", "cannot do e: away"],
  });
  expect(taken).toEqual(["a", "d", "f"]);
});

describe("completion", () => {
  const commands: CommandSpec[] = [
    { name: "ping", description: "Ping", positionals: "[PEER…]", positionalsComplete: "peers" },
    { name: "forget", description: "Forget", positionals: "PEER…", positionalsComplete: "targets" },
    { name: "detach", description: "Detach", positionals: "ID", positionalsComplete: "containers" },
    {
      ...{ name: "trace", description: "Trace", positionals: "" },
      options: { snapshot: { type: "string", description: "File", completes: "files" } },
    },
    {
      ...{ name: "setup", description: "Setup", positionals: "" },
      options: { dir: { type: "string", description: "Folder", completes: "folders" } },
    },
  ];
  const printed = async (words: string[], answers: Parameters<typeof ask>[2] = {}) => {
    const command = { name: "complete", description: "x", run: () => complete(commands, words) };
    const { out, error } = await ask(command, [], answers);
    expect(error).toBeUndefined();
    return out
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split("\t")[0]);
  };
  const report = JSON.stringify({
    Router: { Peers: [{ NickName: "host2" }, { NickName: "other" }], Targets: ["t1"] },
  });

  test.each<[string, string[], string[]]>([
    ["peers by nickname", ["ping", "ho"], ["host2"]],
    ["targets", ["forget", ""], ["t1"]],
    ["containers", ["detach", "c"], ["c1", "c2"]],
    ["commands and help", ["h"], ["help"]],
  ])("of %s", async (_what, words, expected) => {
    const owned = ["c1", "c2"].map((containerid) => ({ containerid, addrs: [] }));
    const found = await printed(words, { "GET /report": report, "GET /ip": JSON.stringify({ owned }) });
    expect(found.filter((each) => !each?.startsWith("-"))).toEqual(expected);
  });

  test("of nothing where the router does not answer", async () => {
    expect((await printed(["ping", ""])).filter((each) => !each?.startsWith("-"))).toEqual([]);
  });

  test("of files and folders, of folders alone where a folder is meant", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weave-complete-"));
    writeFileSync(join(folder, "ab"), "");
    mkdirSync(join(folder, "ac"));
    try {
      const found = await printed(["trace", "--snapshot", `${folder}/a`]);
      expect(found.sort()).toEqual([`${folder}/ab`, `${folder}/ac/`]);
      expect(await printed(["setup", "--dir", `${folder}/a`])).toEqual([`${folder}/ac/`]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("doctor --cluster", () => {
  const peer = { name: "n", nickname: "host2" };
  const host = (problems: { level: "problem" | "warning"; problem: string }[]) => ({
    ...{ peer, state: "answers" as const, version: "3.0.0", more: 0 },
    problems: problems.map((each) => ({ ...each, check: "mtu", remedy: "x" })),
  });

  test.each<[string, ReturnType<typeof host>[], number]>([
    ["a problem", [host([]), host([{ level: "problem", problem: "x" }])], 1],
    ["no problem", [host([])], 0],
  ])("exits by what it finds: %s", async (_what, hosts, code) => {
    const spy = spyOn(clusters, "diagnoseCluster").mockImplementation(
      async () => ({ hosts, paths: [] }) as never,
    );
    try {
      const { error } = await ask(doctor, ["--cluster", "--json"], {});
      expect([error, process.exitCode]).toEqual([undefined, code]);
    } finally {
      spy.mockRestore();
    }
  });

  test.each<[string[], string]>([
    [["--yes"], "--yes is for --fix"],
    [["--force"], "--yes is for --fix"],
    [["--cluster", "--fix"], "--fix is for this host alone: leave out --cluster"],
  ])("%p is refused", async (argv, message) => {
    expect((await ask(doctor, argv, {})).error?.message).toBe(message);
  });
});
