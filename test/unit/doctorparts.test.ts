// The doctor's seams: which check gets what of the router's report, what survives a check that fails, what is believed of other
// routers at the bounds, and what is printed, word for word.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { formatCidr } from "../../lib/address/ipv4.ts";
import { systemClock } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import * as clocks from "../../lib/doctor/clock.ts";
import { diagnoseCluster } from "../../lib/doctor/cluster.ts";
import { clusterText, hasClusterProblem } from "../../lib/doctor/clustertext.ts";
import * as cnis from "../../lib/doctor/cni.ts";
import * as configured from "../../lib/doctor/configured.ts";
import * as crashes from "../../lib/doctor/crashes.ts";
import { diagnose } from "../../lib/doctor/doctor.ts";
import * as filters from "../../lib/doctor/filter.ts";
import type { Finding } from "../../lib/doctor/finding.ts";
import * as firewallds from "../../lib/doctor/firewalld.ts";
import { healthAnswerer } from "../../lib/doctor/health.ts";
import * as kernels from "../../lib/doctor/kernel.ts";
import * as proxies from "../../lib/doctor/kubeproxy.ts";
import * as leftovers from "../../lib/doctor/leftovers.ts";
import * as links from "../../lib/doctor/links.ts";
import * as networks from "../../lib/doctor/network.ts";
import { hasPingProblem, pingText } from "../../lib/doctor/pingtext.ts";
import * as ports from "../../lib/doctor/ports.ts";
import * as routers from "../../lib/doctor/router.ts";
import * as originals from "../../lib/migration/process.ts";
import { VERSION } from "../../lib/version.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

describe("all checks of a host", () => {
  const REPORT = {
    ...{ Ready: true, Problems: [] },
    Router: { Encryption: true, Port: 6_783, Interface: "vxlan-6784 (fast datapath)", Connections: [] },
    IPAM: { Range: "10.40.0.0/16" },
  };
  let told: Record<string, unknown[]>;
  const password = process.env["WEAVE_PASSWORD"];
  afterEach(() => {
    if (password === undefined) delete process.env["WEAVE_PASSWORD"];
    else process.env["WEAVE_PASSWORD"] = password;
  });

  async function run(router: object, { failing = "", original = false, kubelet = false } = {}) {
    told = {};
    const check =
      (name: string) =>
      (...args: unknown[]) => {
        told[name] = args.map((arg) => {
          const range = (arg as { range?: never })?.range;
          return range ? { ...(arg as object), range: formatCidr(range) } : arg;
        });
        if (name === failing) throw new Error("EPERM");
        return [{ check: name, level: "ok", found: "well", fixes: [{ action: name }] }] as never;
      };
    const { existsSync } = fs;
    spies.push(
      spyOn(routers, "askRouter").mockImplementation(async () => router as never),
      spyOn(routers, "routerFindings").mockImplementation(check("router")),
      spyOn(kernels, "kernelFindings").mockImplementation(check("kernel")),
      spyOn(networks, "networkFindings").mockImplementation(check("network")),
      spyOn(links, "linkFindings").mockImplementation(check("links")),
      spyOn(configured, "configuredFindings").mockImplementation(check("configured")),
      spyOn(filters, "filterFindings").mockImplementation(check("forward")),
      spyOn(firewallds, "firewalldFindings").mockImplementation(check("firewalld")),
      spyOn(ports, "portFindings").mockImplementation(check("ports")),
      spyOn(cnis, "cniFindings").mockImplementation(check("cni")),
      spyOn(proxies, "kubeProxyFindings").mockImplementation(check("kube-proxy")),
      spyOn(leftovers, "originalFindings").mockImplementation(check("original")),
      spyOn(leftovers, "leftoverFindings").mockImplementation(check("leftovers")),
      spyOn(clocks, "clockFinding").mockImplementation((() => check("clock")()[0]) as never),
      spyOn(crashes, "crashFindings").mockImplementation(check("crashes")),
      spyOn(originals, "findOriginalProcess").mockImplementation((() =>
        original ? { pid: 7 } : undefined) as never),
      spyOn(fs, "existsSync").mockImplementation((path) =>
        path === "/var/lib/kubelet" ? kubelet : existsSync(path),
      ),
    );
    return await diagnose((async () => "") as never, "questions" as never);
  }
  const NAMES = [
    "kernel",
    "network",
    "links",
    "configured",
    "forward",
    "firewalld",
    "ports",
    "cni",
    "kube-proxy",
    "original",
    "leftovers",
    "clock",
    "crashes",
    "router",
  ];

  test("get what the report says, in their order", async () => {
    const answers = { state: "answers", report: REPORT };
    expect((await run(answers, { kubelet: true })).map(({ check }) => check)).toEqual(NAMES);
    expect(told).toMatchObject({
      kernel: [true],
      network: [
        {
          encapsulation: { bytes: 84, by: "encrypted fastdp" },
          range: "10.40.0.0/16",
          kubernetes: true,
          running: true,
        },
      ],
      ...{
        links: [true, "vxlan-6784"],
        forward: [true],
        ports: [true, 6_783],
        cni: ["questions"],
        original: [true],
      },
      ...{ leftovers: [{ link: "vxlan-6784" }], router: [answers] },
    });
    expect(formatCidr(told["kube-proxy"]?.[0] as never)).toBe("10.40.0.0/16");
  });

  test.each<[string, boolean]>([
    ["silent", true],
    ["no socket", true],
    ["failing", true],
    ["down", false],
  ])("of one whose router is %s do without a report", async (state, running) => {
    process.env["WEAVE_PASSWORD"] = "x";
    await run({ state });
    expect(told).toMatchObject({
      ...{ kernel: [true], links: [running, undefined], forward: [running], leftovers: [undefined] },
      network: [
        {
          encapsulation: { bytes: 84, by: "encrypted fastdp" },
          range: undefined,
          kubernetes: false,
          running,
        },
      ],
    });
    for (const spy of spies.splice(0)) spy.mockRestore();
    for (const value of [undefined, ""]) {
      if (value === undefined) delete process.env["WEAVE_PASSWORD"];
      else process.env["WEAVE_PASSWORD"] = value;
      await run({ state });
      expect(told["kernel"]).toEqual([false]);
      for (const spy of spies.splice(0)) spy.mockRestore();
    }
  });

  test("go on after one that fails, which is a problem; beside the original, nothing is fixed", async () => {
    const found = await run({ state: "down" }, { failing: "ports" });
    expect(found.map(({ check }) => check)).toEqual(NAMES);
    expect(found[NAMES.indexOf("ports")]).toEqual({
      ...{
        check: "ports",
        level: "problem",
        found: "cannot check it: EPERM",
        advice: "run this as root, on the host",
      },
    } as Finding);
    expect(found.filter(({ fixes }) => fixes !== undefined).length).toBe(NAMES.length - 1);
    for (const spy of spies.splice(0)) spy.mockRestore();
    const beside = await run({ state: "down" }, { original: true });
    expect([beside.length, beside.filter((each) => "fixes" in each)]).toEqual([NAMES.length, []]);
  });
});

const peer = (name: string, nickname = name) => ({ name, nickname });
const way = (change: object = {}) => ({
  ...{ overlay: "fastdp", inUse: true, sent: 10, received: 10, mtu: 1_450, problem: null, remedy: null },
  ...{ roundTripMs: { min: 0.1, median: 0.25, max: 12.4 }, ...change },
});
const ping = (change: object = {}) => ({
  ...{
    peer: peer("p2", "two"),
    via: null,
    networkMtu: 1_450,
    overlays: [way()],
    problem: null,
    remedy: null,
    note: null,
  },
  ...change,
});

describe("what other routers say of pings", () => {
  async function paths(pings: unknown) {
    const found = await diagnoseCluster(async (_method, path) => {
      if (path === "/report")
        return JSON.stringify({
          Router: { Name: "p1", NickName: "one", Peers: [{ Name: "p1", NickName: "one" }] },
        });
      return JSON.stringify(path.includes("/doctor") ? { version: "3", findings: [], more: 0 } : pings);
    });
    return found.paths.length;
  }
  const text = (length: number) => "x".repeat(length);
  test.each<[string, unknown[], number]>([
    ["64 peers", Array(64).fill(ping()), 64],
    ["65 peers", Array(65).fill(ping()), 0],
    ["4 overlays", [ping({ overlays: Array(4).fill(way()) })], 1],
    ["5 overlays", [ping({ overlays: Array(5).fill(way()) })], 0],
    [
      "512 characters",
      [ping({ problem: text(512), remedy: text(512), note: text(512), peer: peer(text(512), text(512)) })],
      1,
    ],
    ["a name of 513", [ping({ peer: peer(text(513)) })], 0],
    ["a problem of 513", [ping({ problem: text(513) })], 0],
    ["a remedy of 513", [ping({ remedy: text(513) })], 0],
    ["a note of 513", [ping({ note: text(513) })], 0],
    ["a second overlay's problem of 513", [ping({ overlays: [way(), way({ problem: text(513) })] })], 0],
    ["a second peer's problem of 513", [ping(), ping({ problem: text(513) })], 0],
  ])("is taken with %s, or not", async (_, pings, count) => {
    expect(await paths(pings)).toBe(count);
  });
});

test("routers are asked eight at a time, ours first, then by nickname; each for as long as it may take", async () => {
  const asked: string[] = [];
  let [open, most] = [0, 0];
  const names = Array.from({ length: 18 }, (_, i) => `n${String(17 - i).padStart(2, "0")}`);
  const found = await diagnoseCluster(async (_method, path) => {
    if (path === "/report")
      return JSON.stringify({
        Router: { Name: "n17", NickName: "n17", Peers: names.map((Name) => ({ Name, NickName: Name })) },
      });
    asked.push(path);
    most = Math.max(most, ++open);
    for (let i = 0; i < 5; i++) await Promise.resolve();
    open--;
    return JSON.stringify(path.includes("/doctor") ? { version: "3", findings: [], more: 0 } : []);
  });
  expect([most, asked.length]).toEqual([8, 36]);
  expect(found.hosts.map(({ peer: { name } }) => name)).toEqual(["n17", ...names.slice(1).reverse()]);
  expect([asked[0], asked.at(-1)]).toEqual(["/ask/n17/doctor?timeout=8000", "/ask/n16/ping?timeout=28000"]);
});

describe("our health, as others get it", () => {
  const finding = (level: string, found = "found", check = "c") => ({ check, level, found, advice: "a" });

  test("is looked at again once an answer is older than 2 s; problems go before warnings, 32 in all, of 400 characters", async () => {
    const clock = new SimulatedClock(5_000);
    let looks = 0;
    let found: object[] = [
      finding("ok"),
      finding("warning", "w"),
      finding("problem", "p"),
      { ...finding("warning"), advice: undefined },
    ];
    spies.push(
      spyOn(systemClock, "now").mockImplementation(() => clock.now()),
      spyOn(routers, "askRouter").mockImplementation(async () => {
        looks++;
        return {} as never;
      }),
      spyOn(routers, "routerFindings").mockImplementation(() => found as never),
    );
    const answer = healthAnswerer((async () => "") as never);
    const first = await answer();
    expect(first).toMatchObject({ version: VERSION, more: 0 });
    expect(first.findings.map((each) => `${each.level} ${each.found} ${each.advice}`)).toEqual([
      "problem p a",
      "warning w a",
      "warning found ",
    ]);
    clock.advance(2_000);
    await answer();
    expect(looks).toBe(1);
    clock.advance(1);
    found = Array(32).fill(finding("warning", "x".repeat(400)));
    const full = await answer();
    expect([looks, full.findings.length, full.more, full.findings[0]?.found]).toEqual([
      2,
      32,
      0,
      "x".repeat(400),
    ]);
    clock.advance(2_001);
    found = [...Array(32).fill(finding("warning", "x".repeat(401))), finding("problem", "p")];
    const over = await answer();
    expect([over.findings.length, over.more, over.findings[0]?.found, over.findings[1]?.found]).toEqual([
      32,
      1,
      "p",
      `${"x".repeat(399)}…`,
    ]);
  });
});

describe("the cluster as text", () => {
  const host = (name: string, change: object = {}) => ({
    peer: peer(name),
    state: "answers",
    version: "3.0.0",
    problems: [],
    more: 0,
    ...change,
  });
  const problem = (level: string) => ({
    level,
    check: "peers",
    found: "it is ill",
    advice: level === "problem" ? "heal it" : "",
  });

  test("has a line for each host, with what is wrong there; then paths that do not carry, and the span of the others", () => {
    const hosts = [
      host("one", { problems: [problem("problem"), problem("warning"), problem("warning")], more: 3 }),
      host("a-name-of-more-than-20-characters", { version: "3.0.0-rc1-of-more-than-16" }),
      host("p2", { state: "older", version: null }),
    ];
    const paths = [
      {
        from: peer("one"),
        ping: ping({
          overlays: [
            way(),
            way({ overlay: "sleeve", inUse: false, problem: "no answer", remedy: "open it" }),
          ],
        }),
      },
      {
        from: peer("p2", ""),
        ping: ping({
          peer: peer("one"),
          overlays: [way({ mtu: 1_376, roundTripMs: { min: 1, median: 7, max: 9 } })],
        }),
      },
      { from: peer("one"), ping: ping({ note: "not tried", overlays: [] }) },
      { from: peer("one"), ping: ping({ peer: peer("p2"), problem: "silent", overlays: [] }) },
      { from: peer("one"), ping: ping({ peer: peer("p9"), problem: "gone", remedy: "look", overlays: [] }) },
    ];
    expect(
      clusterText({ hosts, paths } as never)
        .trimEnd()
        .split("\n")
        .map((line) => line.trimEnd()),
    ).toEqual([
      "HOST                 VERSION          PROBLEMS",
      "one                  3.0.0            1 problem, 2 warnings",
      ...[
        "  problem: peers: it is ill",
        "  -> heal it",
        "  warning: peers: it is ill",
        "  warning: peers: it is ill",
      ],
      "  3 more: 'weave doctor' there shows them",
      "a-name-of-more-than- 3.0.0-rc1-of-mor none",
      "p2                   -                not asked: Weave Net 2.x or an older version, or only reached through one",
      ...["  problem: one -> two: no answer", "  -> open it", "  problem: one -> p9: gone", "  -> look"],
      ...[
        "",
        "paths: 2 of 4 carry frames by the overlay in use without a problem; round trip 0.25 to 7.00 ms, MTU 1376 to 1450",
      ],
    ]);
    expect(hasClusterProblem({ hosts, paths } as never)).toBe(true);
  });

  test.each<[string, object[], string]>([
    ["none was tried", [ping({ note: "n", overlays: [] })], "paths: none was tried"],
    [
      "all alike",
      [ping(), ping()],
      "paths: 2 of 2 carry frames by the overlay in use without a problem; round trip 0.25 ms, MTU 1450",
    ],
    [
      "each has other figures, in the order of numbers",
      [10, 9, 100].map((median) =>
        ping({ overlays: [way({ mtu: 10 * median, roundTripMs: { min: 1, median, max: 200 } })] }),
      ),
      "paths: 3 of 3 carry frames by the overlay in use without a problem; round trip 9.00 to 100.00 ms, MTU 90 to 1000",
    ],
    [
      "none measured",
      [ping({ overlays: [way({ roundTripMs: null })] })],
      "paths: 1 of 1 carry frames by the overlay in use without a problem",
    ],
    [
      "not in use",
      [ping({ overlays: [way({ inUse: false })] })],
      "paths: 0 of 1 carry frames by the overlay in use without a problem",
    ],
    [
      "in use, with a problem",
      [ping({ overlays: [way({ problem: "p" })] })],
      "paths: 0 of 1 carry frames by the overlay in use without a problem",
    ],
  ])("sums up paths of which %s", (_, pings, summary) => {
    const paths = pings.map((each) => ({ from: peer("one"), ping: each }));
    expect(
      clusterText({ hosts: [], paths } as never)
        .trimEnd()
        .split("\n")
        .at(-1),
    ).toBe(summary);
  });

  test("has a problem where a host, a path or one of its overlays has one; a warning is none", () => {
    const one = (hosts: object[], pings: object[]) =>
      hasClusterProblem({ hosts, paths: pings.map((each) => ({ from: peer("a"), ping: each })) } as never);
    expect([
      one([host("a", { problems: [problem("warning")] })], [ping()]),
      one([host("a"), host("b", { problems: [problem("warning"), problem("problem")] })], []),
      one([], [ping(), ping({ problem: "p" })]),
      one([], [ping({ overlays: [way(), way({ problem: "p" })] })]),
    ]).toEqual([false, true, true, true]);
  });
});

describe("pings as text", () => {
  const lines = (...pings: object[]) =>
    pingText(pings as never)
      .trimEnd()
      .split("\n");
  test("have a line for each peer and overlay, with what is wrong below", () => {
    expect(
      lines(
        ping({
          overlays: [
            way(),
            way({ overlay: "sleeve", inUse: false, received: 7, mtu: 1_376 }),
            way({ overlay: "x", received: 0, roundTripMs: null, mtu: null, problem: "p", remedy: "r" }),
          ],
        }),
        ping({
          peer: peer("p3", ""),
          via: peer("p2", "a-relay-of-a-long-name"),
          overlays: [way({ roundTripMs: { min: 9.994, median: 10, max: 100.4 } })],
        }),
        ping({ peer: peer("p4", "n".repeat(30)), overlays: [], note: "not tried" }),
        ping({ peer: peer("p5"), overlays: [], problem: "gone" }),
      ),
    ).toEqual([
      "PEER                 OVERLAY        LOST      ROUND TRIP (MS)      MTU",
      "two                  fastdp         0 of 10   0.10/0.25/12         1450",
      "                     (sleeve)       3 of 10   0.10/0.25/12         1376 of 1450",
      "                     x              all       -                    -",
      "  problem: p",
      "  -> r",
      "p3                   via a-relay-o  0 of 10   9.99/10/100          1450",
      `${"n".repeat(20)} -              -         -                    -`,
      "  not tried",
      "p5                   -              all       -                    -",
      "  problem: gone",
    ]);
    expect(pingText([])).toBe("no peer is connected: 'weave status connections' shows why\n");
    expect(
      [[ping()], [ping({ problem: "p" })], [ping(), ping({ overlays: [way(), way({ problem: "p" })] })]].map(
        (each) => hasPingProblem(each as never),
      ),
    ).toEqual([false, true, true]);
  });
});
