// weave-npc's controller as a daemon: what it is started with, what it serves to whom, and what it counts and tells, in numbers.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { readArguments } from "../../cmd/arguments.ts";
import { controller } from "../../cmd/commands/npc/controller.ts";
import * as kubeconfig from "../../cmd/kubeconfig.ts";
import { colours } from "../../cmd/output/colour.ts";
import * as shutdown from "../../cmd/shutdown.ts";
import type { CrashReporter } from "../../lib/api/crashes.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { COLOURED, PLAIN } from "../../lib/help/layout.ts";
import { CONFLICT, KubeError } from "../../lib/kube/client.ts";
import * as logs from "../../lib/log/log.ts";
import * as unexpected from "../../lib/log/unexpected.ts";
import * as controllers from "../../lib/npc/controller.ts";
import { EventWriter } from "../../lib/npc/events.ts";
import { EndError } from "../../lib/npc/explain.ts";
import { frameLine, protocolName } from "../../lib/npc/frames.ts";
import { createMetrics, MAX_PORTS, PortLabels } from "../../lib/npc/metrics.ts";
import { MAX_PORT } from "../../lib/npc/objects.ts";
import * as confinement from "../../lib/sys/confine.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { VERSION } from "../../lib/version.ts";

const VARIABLES = ["HOSTNAME", "LOG_LEVEL", "WEAVE_LOG_FORMAT"];
let before: Record<string, string | undefined>;
let spies: { mockRestore(): void }[];
let told: unknown[][];
let lines: string[];
let scope: Scope | undefined;
let reporter: CrashReporter | undefined;
let served: { hostname: string; port: number; routes: Record<string, unknown>; fetch: never }[];
let npc: { metrics: ReturnType<typeof createMetrics>; inSync: boolean } & Record<string, unknown>;
let stopped: unknown[];
let unconfined: string[];

beforeEach(() => {
  before = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
  for (const name of VARIABLES) delete process.env[name];
  [told, lines, served, stopped, unconfined, scope, reporter] = [[], [], [], [], [], undefined, undefined];
  npc = {
    ...{ metrics: createMetrics(), inSync: false, status: () => "the status", view: () => ({ node: "n1" }) },
    stop: () => stopped.push("npc"),
    explain(...args: unknown[]) {
      told.push(["explain", ...args]);
      if (args[0] === "nobody") throw new EndError("no pod nobody");
      if (args[0] === "broken") throw new TypeError("a fault");
      return { verdict: "allow" };
    },
  };
  const note = (what: string, ...args: unknown[]) => void told.push([what, ...args]);
  spies = [
    spyOn(process, "getuid").mockImplementation(() => 0),
    spyOn(kubeconfig, "kubeConfig").mockImplementation(
      () => ({ server: new URL("https://10.96.0.1") }) as never,
    ),
    spyOn(logs, "createLog").mockImplementation((...of) => {
      note("log", ...of);
      return logs.logTo((level, text) => lines.push(`${level}: ${text}`));
    }),
    spyOn(shutdown, "runLoggedDaemon").mockImplementation(async (_log, stays, start) => {
      note("daemon", stays);
      scope = new Scope(() => {});
      await start(scope, () => {});
    }),
    spyOn(shutdown, "surviveCrashes").mockImplementation((of) => {
      reporter = of;
    }),
    spyOn(unexpected, "surviveUnexpectedErrors").mockImplementation(() => note("errors")),
    spyOn(confinement, "confine").mockImplementation((daemon) => {
      note("confine", daemon);
      return unconfined;
    }),
    spyOn(controllers, "startController").mockImplementation((config) => {
      note("start", config);
      return npc as never;
    }),
    spyOn(Bun, "serve").mockImplementation(((options: (typeof served)[number]) => {
      served.push(options);
      return { stop: async (now: boolean) => void stopped.push(["server", now]) };
    }) as never),
  ];
});
afterEach(async () => {
  await scope?.end();
  for (const spy of spies) spy.mockRestore();
  for (const [name, value] of Object.entries(before))
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
});

const run = async (...argv: string[]) => controller.run(readArguments(controller, argv));
const of = (what: string) => told.find(([each]) => each === what)?.slice(1);

describe("the policy controller as a daemon", () => {
  const DEFAULT = { node: "n1", legacy: false, allowMulticast: true, denyUnknown: true };

  test("enforces for the node that it is told, else for the host's name", async () => {
    process.env["HOSTNAME"] = "n1";
    await run();
    expect([of("start"), of("log"), of("daemon"), of("confine")]).toEqual([
      ...[[DEFAULT], ["info", "text"], ["policies stay in force"], ["weave-npc"]],
    ]);
    expect(lines).toEqual([`info: weave-npc ${VERSION}; node name "n1"`]);
    expect(reporter?.state?.() as unknown).toBe("the status");
    expect([served.length, served[0]?.hostname, served[0]?.port]).toEqual([1, "0.0.0.0", 6_781]);
    await scope?.end();
    expect(stopped).toEqual([["server", true], "npc"]);
  });

  test("takes what the options say before what variables say; what makes no sense is refused before it begins", async () => {
    process.env["LOG_LEVEL"] = "debug";
    process.env["WEAVE_LOG_FORMAT"] = "json";
    unconfined = ["all"];
    await run("--node-name=n2", "--use-legacy-netpol", "--no-allow-mcast", "--metrics-addr=");
    expect([of("start"), of("log"), served]).toEqual([
      ...[[{ node: "n2", legacy: true, allowMulticast: false, denyUnknown: true }], ["debug", "json"], []],
    ]);
    expect(lines).toContain("warning: runs with more privileges than it needs: all");
    told.length = 0;
    await run("--node-name=n2", "--log-level=error", "--log-format=text", "--metrics-addr=127.0.0.1:9000");
    expect([of("log"), served[0]?.hostname, served[0]?.port]).toEqual([
      ["error", "text"],
      "127.0.0.1",
      9_000,
    ]);
    told.length = 0;
    for (const [argv, message] of [
      [[], "name this node with --node-name NAME or $HOSTNAME"],
      [["--node-name="], "name this node"],
      [["--node-name=n", "--metrics-addr=x"], "--metrics-addr"],
    ] as const)
      await expect(run(...argv)).rejects.toThrow(message);
    process.env["LOG_LEVEL"] = "loud";
    await expect(run("--node-name=n")).rejects.toThrow("--log-level is one of ");
    process.env["LOG_LEVEL"] = "";
    process.env["WEAVE_LOG_FORMAT"] = "xml";
    await expect(run("--node-name=n")).rejects.toThrow("--log-format is text or json");
    expect(told).toEqual([]);
  });

  async function get(
    path: string,
    address: string | undefined = "127.0.0.1",
    headers: Record<string, string> = {},
  ) {
    if (served.length === 0) await run("--node-name=n1");
    const [options = expect.unreachable()] = served;
    const url = new URL(`http://localhost${path}`);
    const route = options.routes[url.pathname];
    const request = new Request(url.href, { headers });
    const server = { requestIP: () => (address === undefined ? null : { address }) };
    const answer: Response = await (route === undefined
      ? (options.fetch as (request: Request, server: unknown) => Response)(request, server)
      : typeof route === "function"
        ? route(request)
        : (route as Response).clone());
    return [answer.status, await answer.text()] as const;
  }

  test("serves health, status and metrics to all; it is ready once policies are in force", async () => {
    expect([await get("/healthz"), await get("/status"), await get("/readyz")]).toEqual([
      ...([
        [200, "ok\n"],
        [200, "the status"],
        [503, "policies are not in force yet\n"],
      ] as const),
    ]);
    npc.inSync = true;
    expect(await get("/readyz")).toEqual([200, "ok\n"]);
    expect((await get("/metrics"))[1]).toContain("weavenpc_blocked_connections_total");
    expect(await get("/other", "10.0.0.9")).toEqual([404, "not found\n"]);
  });

  test("tells who talks to whom to this host's programs alone", async () => {
    for (const path of ["/view", "/explain?from=a&to=b&port=80"]) {
      expect((await get(path))[0]).toBe(200);
      expect((await get(path, "::1"))[0]).toBe(200);
      for (const address of ["10.0.0.9", undefined])
        expect(await get(path, address ?? "")).toEqual([
          403,
          "refused: this is for the router of this host\n",
        ]);
      expect((await get(path, "127.0.0.1", { origin: "http://evil" }))[0]).toBe(403);
    }
    expect((await get("/view"))[1]).toBe('{"node":"n1"}');
  });

  test.each<[string, unknown[] | undefined, number]>([
    ["from=a&to=b&port=80", ["a", "b", "TCP", 80], 200],
    ["from=a&to=b&port=1&protocol=UDP", ["a", "b", "UDP", 1], 200],
    ["from=a&to=b&port=65535&protocol=SCTP", ["a", "b", "SCTP", 65_535], 200],
    ["port=80", ["", "", "TCP", 80], 200],
    ["from=a&to=b&port=65536", undefined, 400],
    ["from=a&to=b&port=0", undefined, 400],
    ["from=a&to=b&port=000080", undefined, 400],
    ["from=a&to=b&port=8x", undefined, 400],
    ["from=a&to=b", undefined, 400],
    ["from=a&to=b&port=80&protocol=ICMP", undefined, 400],
    ["from=nobody&to=b&port=80", ["nobody", "b", "TCP", 80], 400],
  ])("explains %s", async (query, asked, status) => {
    expect((await get(`/explain?${query}`))[0]).toBe(status);
    expect(of("explain")).toEqual(asked);
  });

  test("says what is wrong with a question, and hides no fault", async () => {
    expect(await get("/explain?from=nobody&to=b&port=80")).toEqual([400, "no pod nobody\n"]);
    expect((await get("/explain?from=a&to=b&port=0"))[1]).toBe(
      "a port is a number from 1 to 65535, a protocol TCP, UDP or SCTP\n",
    );
    await expect(get("/explain?from=broken&to=b&port=80")).rejects.toThrow("a fault");
  });
});

describe("what is counted", () => {
  test("has few labels: ports from 32,768 on are one, types of frames that nobody knows, too", () => {
    const labels = new PortLabels();
    expect([0, 80, 32_767, 32_768, 65_535].map((port) => labels.label("TCP", port))).toEqual([
      "0",
      "80",
      "32767",
      "ephemeral",
      "ephemeral",
    ]);
    // A pod tries all ports: those met first keep their labels, the others share one.
    const scanned = new Set<string>();
    for (const protocol of ["TCP", "UDP", "SCTP"])
      for (let port = 0; port <= MAX_PORT; port++) scanned.add(`${protocol} ${labels.label(protocol, port)}`);
    expect(scanned.size).toBeLessThanOrEqual(MAX_PORTS + 6);
    expect([labels.label("TCP", 80), labels.label("UDP", 32_767)]).toEqual(["80", "other"]);
    const names = [
      0, 0x5ff, 0x600, 0x8100, 0x88a8, 0x8847, 0x8848, 0x8863, 0x8864, 0x88cc, 0x88e5, 0x88e6,
    ].map(protocolName);
    expect(names).toEqual([
      "LLC",
      "LLC",
      "other",
      "802.1Q",
      "802.1ad",
      "MPLS",
      "MPLS",
      "PPPoE",
      "PPPoE",
      "LLDP",
      "MACsec",
      "other",
    ]);
    expect(frameLine({ source: undefined, type: 0x88 } as never, "LLC")).toStartWith(
      "dropped LLC frame (type 0x0088): with policies",
    );
    expect(frameLine({ source: "02:00:00:00:00:01", type: 0x8100 } as never, "802.1Q")).toContain(
      "(type 0x8100) from 02:00:00:00:00:01: ",
    );
  });

  test("times go from 1 ms to 10 s, in steps of 1, 2 and 5", async () => {
    const { registry, syncSeconds } = createMetrics();
    syncSeconds.observe(0.001);
    const text = await registry.metrics();
    for (const name of ["sync", "lag"]) {
      const bounds = [
        ...text.matchAll(new RegExp(`weavenpc_${name}_seconds_bucket\\{le="([^"]+)"\\}`, "g")),
      ].map(([, le]) => le);
      expect(bounds).toEqual([
        ...["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"],
        "+Inf",
      ]);
    }
    expect(text).toContain('weavenpc_sync_seconds_bucket{le="0.001"} 1');
  });
});

describe("events of Kubernetes", () => {
  function writer() {
    const clock = new SimulatedClock(1_000_000, 1_700_000_000_123);
    const written: { how: string; path: string; body: never }[] = [];
    const failed: string[] = [];
    const state = { error: undefined as Error | undefined };
    const client = {
      async write(how: string, path: string, body: never) {
        written.push({ how, path, body });
        if (state.error) throw state.error;
      },
    };
    return {
      clock,
      written,
      failed,
      state,
      events: new EventWriter(client as never, "n1", clock, (text) => failed.push(text)),
    };
  }
  const policy = (name: string, uid?: string) =>
    ({ kind: "NetworkPolicy", object: { namespace: "x", name, uid } }) as never;

  test("are warnings of this node about the object, named by what they say", () => {
    const { events, written } = writer();
    events.warn(policy("allow", "u1"), "Unreadable", "a text");
    events.warn({ kind: "Namespace", object: { name: "y" } } as never, "Unreadable", "a text");
    const [one, two] = written as unknown as {
      how: string;
      path: string;
      body: Record<string, Record<string, string>>;
    }[];
    expect([one?.how, one?.path, two?.path]).toEqual([
      "create",
      "/api/v1/namespaces/x/events",
      "/api/v1/namespaces/default/events",
    ]);
    expect(one?.body).toMatchObject({
      ...{
        apiVersion: "v1",
        kind: "Event",
        type: "Warning",
        reason: "Unreadable",
        message: "a text",
        count: 1,
      },
      ...{ firstTimestamp: "2023-11-14T22:13:20Z", lastTimestamp: "2023-11-14T22:13:20Z" },
      involvedObject: {
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        name: "allow",
        namespace: "x",
        uid: "u1",
      },
      source: { component: "weave-npc", host: "n1" },
    });
    expect(one?.body["metadata"]?.["name"]).toMatch(/^allow\.[0-9a-f]{16}$/);
    expect(two?.body["involvedObject"]).toEqual({ apiVersion: "v1", kind: "Namespace", name: "y" });
  });

  test("are made once for all nodes, and again where they say something else, or of another object of that name", () => {
    const { events, written } = writer();
    const last = () =>
      written.at(-1)?.body as unknown as { metadata?: { name: string }; message?: string } | undefined;
    const name = () => last()?.metadata?.name ?? "";
    const names = new Set<string>();
    for (const [uid, reason, text] of [
      ["u1", "R", "t"],
      ["u1", "R", "t"],
      ["u2", "R", "t"],
      ["u1", "S", "t"],
      ["u1", "R", "u"],
    ] as const) {
      events.warn(policy("allow", uid), reason, text);
      names.add(name());
    }
    expect(names.size).toBe(4);
    events.warn(policy("n".repeat(253), "u1"), "R", "x".repeat(1_001));
    expect([name().length, last()?.message?.length]).toEqual([217, 1_000]);
  });

  test("are 50 at once, then one a second", () => {
    const { events, written, clock } = writer();
    for (let i = 0; i < 60; i++) events.warn(policy("p"), "R", String(i));
    expect(written.length).toBe(50);
    clock.advance(999);
    events.warn(policy("p"), "R", "a");
    expect(written.length).toBe(50);
    clock.advance(1);
    events.warn(policy("p"), "R", "b");
    events.warn(policy("p"), "R", "c");
    expect(written.length).toBe(51);
  });

  test("that another node made first are none that failed", async () => {
    const { events, failed, state } = writer();
    for (const error of [
      new KubeError("there is one", CONFLICT),
      new KubeError("no", 403),
      new Error("offline"),
    ]) {
      state.error = error;
      events.warn(policy("p"), "R", "t");
    }
    for (let i = 0; i < 5; i++) await Promise.resolve();
    expect(failed).toEqual(["cannot create an event: no", "cannot create an event: offline"]);
  });
});

test("colour is for terminals that have it, unless it is asked for or forbidden; the last word counts", () => {
  const style = (argv: string[], isTTY: boolean, env: Record<string, string> = {}) => {
    const { style: chosen, rest } = colours(argv, { isTTY }, env);
    expect(chosen === COLOURED || chosen === PLAIN).toBe(true);
    return [chosen === COLOURED, rest];
  };
  expect(style(["a"], true)).toEqual([true, ["a"]]);
  expect(style(["a"], false)).toEqual([false, ["a"]]);
  expect(style([], true, { NO_COLOR: "1" })).toEqual([false, []]);
  expect(style([], true, { NO_COLOR: "" })).toEqual([true, []]);
  expect(style([], true, { TERM: "dumb" })).toEqual([false, []]);
  expect(style(["--color", "a"], false, { NO_COLOR: "1" })).toEqual([true, ["a"]]);
  expect(style(["--no-color"], true)).toEqual([false, []]);
  expect(style(["--color=always", "--color=never"], true)).toEqual([false, []]);
  expect(style(["--no-color", "--color=auto", "--colorful"], true)).toEqual([true, ["--colorful"]]);
  expect(style(["--", "--color"], false)).toEqual([false, ["--", "--color"]]);
  expect(() => colours(["--color=red"], { isTTY: true }, {})).toThrow(
    'option --color is auto, always, never, not "red"',
  );
});
