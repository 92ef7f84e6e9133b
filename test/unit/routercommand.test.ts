// weave-router, alone and as a pod of a cluster: in what order it becomes the router of a host, and what it passes to the parts
// that do the work, which note it.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readArguments } from "../../cmd/arguments.ts";
import { router } from "../../cmd/commands/router.ts";
import * as kubeconfig from "../../cmd/kubeconfig.ts";
import * as shutdown from "../../cmd/shutdown.ts";
import type { CrashReporter } from "../../lib/api/crashes.ts";
import * as membership from "../../lib/cluster/membership.ts";
import * as registration from "../../lib/cluster/registration.ts";
import { runInRouter } from "../../lib/cni/main.ts";
import * as overlap from "../../lib/host/overlap.ts";
import * as logs from "../../lib/log/log.ts";
import * as unexpected from "../../lib/log/unexpected.ts";
import * as migration from "../../lib/migration/migration.ts";
import * as originals from "../../lib/migration/process.ts";
import type { RouterServices } from "../../lib/router/context.ts";
import * as instance from "../../lib/router/instance.ts";
import type { RouterOptions } from "../../lib/router/options.ts";
import * as policies from "../../lib/router/policies.ts";
import * as routers from "../../lib/router/router.ts";
import * as servers from "../../lib/router/servers.ts";
import * as confinement from "../../lib/sys/confine.ts";
import * as openfiles from "../../lib/sys/openfiles.ts";
import * as capabilities from "../../lib/sys/requiredcapabilities.ts";
import { Scope } from "../../lib/sys/scope.ts";
import * as ui from "../../lib/ui/ui.ts";
import { VERSION } from "../../lib/version.ts";
import { useFolder } from "../support/ownfolders.ts";

const API = async () => "";
const KEEPERS = () => [];
const PEER = "02:00:00:00:00:09";

let folder: string;
let setBack: () => void;
let told: unknown[][];
let lines: string[];
let spies: { mockRestore(): void }[];
let scope: Scope;
let started: { options: RouterOptions; services: RouterServices } | undefined;
let state: {
  running?: { pid: number };
  original?: { kernel: { rules: unknown[] } };
  unconfined: string[];
  config?: Error;
  failed?: Error;
};
let joined: { ready: boolean; notes(): string[]; stop(): Promise<void> };
let entered: { peer: string; peers: string[] };
let probed: (() => string)[];
let reporter: CrashReporter | undefined;

const note = (what: string, ...args: unknown[]) => void told.push([what, ...args]);
const steps = () => told.map(([what]) => what);
const find = (what: string) => told.find(([each]) => each === what)?.slice(1);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-command-"));
  setBack = useFolder(folder);
  [told, lines, probed, started, reporter] = [[], [], [], undefined, undefined];
  state = { unconfined: [] };
  entered = { peer: PEER, peers: ["10.0.0.2", "10.0.0.3"] };
  joined = { ready: false, notes: () => ["of the cluster"], stop: async () => note("left") };
  const log = logs.logTo((level, text) => lines.push(`${level}: ${text}`));
  spies = [
    spyOn(process, "getuid").mockImplementation(() => 0),
    spyOn(logs, "createLog").mockImplementation((...of) => {
      note("log", ...of.slice(0, 2));
      return log;
    }),
    spyOn(shutdown, "runLoggedDaemon").mockImplementation(async (_log, stays, start) => {
      note("daemon", stays);
      scope = new Scope(() => {});
      await start(scope, (why) => note("restart", why));
    }),
    spyOn(shutdown, "surviveCrashes").mockImplementation((of) => {
      reporter = of;
      note("crashes");
    }),
    spyOn(unexpected, "surviveUnexpectedErrors").mockImplementation(() => note("errors")),
    spyOn(capabilities, "requireCapabilities").mockImplementation(() => {}),
    spyOn(openfiles, "requireOpenFiles").mockImplementation(() => note("files")),
    spyOn(instance, "acquireInstanceLock").mockImplementation(() => note("lock")),
    spyOn(confinement, "confine").mockImplementation((daemon) => {
      note("confine", daemon);
      return state.unconfined;
    }),
    spyOn(originals, "findOriginalProcess").mockImplementation(() => state.running as never),
    spyOn(migration, "findOriginal").mockImplementation(() => state.original as never),
    spyOn(migration, "importState").mockImplementation((original) => note("import", original)),
    spyOn(migration, "removeConflictingLinks").mockImplementation((original) =>
      note("remove links", original),
    ),
    spyOn(migration, "completeMigration").mockImplementation((original, api, npc) => {
      note("migrate", original, api, npc);
      return { stop: () => note("migration stops") } as never;
    }),
    spyOn(policies, "expectPolicies").mockImplementation((enforced) => {
      note("expect policies", enforced);
      return KEEPERS;
    }),
    spyOn(policies, "expectNoPolicies").mockImplementation(() => note("expect none")),
    spyOn(policies, "switchPoliciesOff").mockImplementation(() => note("policies off")),
    spyOn(policies, "policyNotes").mockImplementation(() => ["of policies"]),
    spyOn(overlap, "refuseOverlap").mockImplementation((_nl, range, name) => note("overlap", range, name)),
    spyOn(routers, "startRouter").mockImplementation(async (options, services) => {
      note("start");
      started = { options, services };
      if (state.failed) throw state.failed;
      return API;
    }),
    spyOn(servers, "serveWaiting").mockImplementation((options, why) => {
      note("probes", options.nickname);
      probed.push(why);
      return { [Symbol.dispose]: () => note("no more probes") };
    }),
    spyOn(kubeconfig, "kubeConfig").mockImplementation(() => {
      if (state.config) throw state.config;
      return { server: "https://10.96.0.1" } as never;
    }),
    spyOn(registration, "Registration").mockImplementation(((_client: unknown, settings: unknown) => {
      note("registration", settings);
      return {
        reason: undefined as string | undefined,
        stop: () => note("registration stops"),
        start: async () => {
          note("enter");
          return entered;
        },
      };
    }) as never),
    spyOn(membership, "joinCluster").mockImplementation((api, of, settings, _log, again) => {
      note("join", api, of, settings, again);
      return joined as never;
    }),
    spyOn(ui, "statusPage").mockImplementation((() => "the page") as never),
  ];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  setBack();
  rmSync(folder, { recursive: true });
});

const run = async (...argv: string[]) => router.run(readArguments(router, argv));

describe("weave-router", () => {
  const ALONE = ["log", "daemon", "files", "lock", "crashes", "errors", "confine"];

  test("becomes the only one of its host before it does anything, and says what it is", async () => {
    await run("--log-level=warning", "--log-format=json", "10.0.0.9");
    expect(steps()).toEqual([...ALONE, "expect none", "start"]);
    expect([find("log"), find("daemon"), find("confine")]).toEqual([
      ["warning", "json"],
      ["containers stay attached"],
      ["weave-router"],
    ]);
    expect(lines[0]).toBe(`info: weave ${VERSION}`);
    const { options, services } = started ?? expect.unreachable();
    expect([options.peers, services.cni, services.peersAreTold, services.ready, services.keepers]).toEqual([
      ...[["10.0.0.9"], runInRouter as never, undefined, undefined, undefined],
    ]);
    expect(services.notes?.()).toEqual(["of policies"]);
    expect(services.answerers).toBeDefined();
  });

  test("says which privileges it could not give up", async () => {
    state.unconfined = ["one", "two"];
    await run();
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([
      "warning: runs with more privileges than it needs: one",
      "warning: runs with more privileges than it needs: two",
    ]);
  });

  test("tells crash reports its state, by the sources of its page", async () => {
    await run();
    const report = () => ({ Ready: true });
    expect(started?.services.page?.({ report } as never)).toBe("the page" as never);
    expect(reporter?.state as unknown).toBe(report);
  });

  test.each<[boolean, number]>([
    [false, 0],
    [true, 0],
    [true, 3],
  ])(
    "takes over from the original before it starts, and finishes that after (--expect-npc %p, %p rules)",
    async (npc, rules) => {
      const original = { kernel: { rules: Array(rules).fill("rule") } };
      state.original = original;
      await run(...(npc ? ["--expect-npc"] : []));
      expect(steps().slice(ALONE.length)).toEqual([
        ...["import", npc ? "expect policies" : "expect none", "remove links", "start", "migrate"],
      ]);
      expect(find("expect policies")).toEqual(npc ? [rules > 0] : undefined);
      expect(started?.services.keepers as unknown).toBe(npc ? KEEPERS : undefined);
      expect([find("import"), find("remove links"), find("migrate")]).toEqual([
        ...[[original], [original], [original, API, npc]],
      ]);
      await scope.end();
      expect(steps().at(-1)).toBe("migration stops");
    },
  );

  test("does not start beside the original, and changes nothing", async () => {
    state.running = { pid: 7 };
    state.original = { kernel: { rules: [] } };
    await expect(run()).rejects.toThrow(
      "the original's router runs here (pid 7): 'weave migrate' takes over from it",
    );
    expect(steps()).toEqual(ALONE);
  });

  test("finishes no migration where it cannot start", async () => {
    state.original = { kernel: { rules: [] } };
    state.failed = new Error("port taken");
    await expect(run()).rejects.toThrow("port taken");
    expect(steps().at(-1)).toBe("start");
  });

  test("refuses options that make no sense before it is a daemon; without root, too", async () => {
    await expect(run("--cni-conf-dir=/etc/cni/net.d")).rejects.toThrow(
      "--cni-conf-dir goes with --kubernetes",
    );
    await expect(run("--mtu=1")).rejects.toThrow("--mtu: ");
    spies[0]?.mockRestore();
    spies.push(spyOn(process, "getuid").mockImplementation(() => 1_000));
    await expect(run()).rejects.toThrow();
    expect(told).toEqual([]);
  });
});

describe("weave-router --kubernetes", () => {
  const VARIABLES = ["HOSTNAME", "KUBE_PEERS", "EXPECT_NPC", "CHECKPOINT_DISABLE", "WEAVE_EXPOSE_IP"];
  let before: Record<string, string | undefined>;
  beforeEach(() => {
    before = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
    for (const name of VARIABLES) delete process.env[name];
    process.env["HOSTNAME"] = "node1";
  });
  afterEach(() => {
    for (const [name, value] of Object.entries(before))
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  });

  test("enters the cluster, answering probes, and is the peer that the cluster says, with its peers", async () => {
    await run("--kubernetes");
    expect(steps().slice(7)).toEqual([
      ...["overlap", "expect policies", "registration", "probes", "enter", "no more probes", "start", "join"],
    ]);
    const { options, services } = started ?? expect.unreachable();
    expect([options.name, options.nickname, options.peers]).toEqual([PEER as never, "node1", entered.peers]);
    expect(options["ipalloc-init"]).toEqual({ kind: "consensus", count: 3 });
    expect([services.peersAreTold, services.cni, services.keepers as unknown]).toEqual([
      true,
      runInRouter,
      KEEPERS,
    ]);
    expect(find("probes")).toEqual(["node1"]);
    expect(probed[0]?.()).toBe("starting");
    expect(find("overlap")).toEqual([options.range, undefined]);
    expect(lines.some((line) => line.includes("CHECKPOINT_DISABLE"))).toBe(false);
  });

  test("is ready once it has joined, and leaves in the opposite order", async () => {
    process.env["WEAVE_EXPOSE_IP"] = "10.32.0.1/16";
    await run("--kubernetes");
    const { services } = started ?? expect.unreachable();
    expect([services.ready?.(), services.notes?.()]).toEqual([false, ["of policies", "of the cluster"]]);
    joined.ready = true;
    expect(services.ready?.()).toBe(true);
    const [api, of, settings, again] = find("join") ?? [];
    expect(api).toBe(API);
    expect(of).toBeDefined();
    expect(settings).toMatchObject({ node: "node1", exposeAddress: "10.32.0.1/16", policies: true });
    expect(settings).toEqual(find("registration")?.[0]);
    (again as (why: string) => void)("taken over");
    expect(find("restart")).toEqual(["taken over"]);
    await scope.end();
    expect(steps().slice(-2)).toEqual(["left", "registration stops"]);
  });

  test("is not ready, and has no notes of a cluster, before it has joined", async () => {
    state.failed = new Error("no");
    await expect(run("--kubernetes")).rejects.toThrow("no");
    expect([started?.services.ready?.(), started?.services.notes?.()]).toEqual([false, ["of policies"]]);
    expect(find("join")).toBeUndefined();
  });

  test("switches policies off where weave-npc is not to enforce any", async () => {
    process.env["EXPECT_NPC"] = "0";
    process.env["CHECKPOINT_DISABLE"] = "1";
    state.original = { kernel: { rules: ["rule"] } };
    await run("--kubernetes");
    expect(steps()).toContain("policies off");
    expect(steps()).not.toContain("expect policies");
    expect([started?.services.keepers, find("migrate")?.[2]]).toEqual([undefined, false]);
    expect(steps().slice(-4)).toEqual(["remove links", "start", "join", "migrate"]);
    expect(lines.filter((line) => line.includes("CHECKPOINT_DISABLE has no effect")).length).toBe(1);
  });

  test("keeps the original's policies in force until its own are", async () => {
    state.original = { kernel: { rules: ["rule"] } };
    await run("--kubernetes");
    expect([find("expect policies"), find("migrate")?.[2]]).toEqual([[true], true]);
  });

  test("needs no API server where it is told the peers, and one where it is not", async () => {
    state.config = new Error("no cluster here");
    await expect(run("--kubernetes")).rejects.toThrow("no cluster here");
    expect(told).toEqual([]);
    process.env["KUBE_PEERS"] = "10.0.0.7 10.0.0.8";
    await run("--kubernetes");
    expect(started?.options.peers).toEqual(["10.0.0.7", "10.0.0.8"]);
    expect(steps()).not.toContain("registration");
    expect(steps()).not.toContain("probes");
    expect([find("join")?.[0], find("join")?.[1]]).toEqual([API, undefined]);
  });
});
