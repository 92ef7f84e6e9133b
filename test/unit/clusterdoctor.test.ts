// What other routers say of their hosts is a stranger's word: bounded, printable, and never more than text.
import { describe, expect, test } from "bun:test";
import { type ApiClient, ApiError } from "../../lib/api/client.ts";
import { diagnoseCluster } from "../../lib/doctor/cluster.ts";
import { clusterText, hasClusterProblem } from "../../lib/doctor/clustertext.ts";
import { healthAnswerer } from "../../lib/doctor/health.ts";

const ME = "02:00:00:00:00:01";
const OTHER = "02:00:00:00:00:02";
const WELL = { version: "3.0.0", findings: [], more: 0 };

/** This host's API, where the other router answers this, or fails. */
function api(health: unknown, pings: unknown = []): ApiClient {
  return async (_method, path) => {
    if (path === "/report") {
      const peers = [
        { Name: ME, NickName: "one" },
        { Name: OTHER, NickName: "two" },
      ];
      return JSON.stringify({ Router: { Name: ME, NickName: "one", Peers: peers } });
    }
    if (path.startsWith(`/ask/${ME}/doctor`)) return JSON.stringify(WELL);
    if (path.startsWith(`/ask/${ME}/ping`)) return "[]";
    const answer = path.startsWith(`/ask/${OTHER}/doctor`) ? health : pings;
    if (answer instanceof Error) throw answer;
    return JSON.stringify(answer);
  };
}

const finding = { check: "peers", level: "problem", found: "it is ill", advice: "heal it" };

test.each<[string, unknown, string]>([
  ["well", WELL, "answers"],
  ["ill", { ...WELL, findings: [finding] }, "answers"],
  ["an original", new ApiError(501, "not reachable through routers that answer questions"), "older"],
  ["a version without a doctor", new ApiError(501, "unknown subject doctor"), "older"],
  ["one that hangs", new ApiError(504, "no answer within 8 s"), "silent"],
  ["one that refuses", new ApiError(502, "unknown subject doctor"), "refused"],
  ["one that has much to do", new ApiError(503, "too many questions"), "refused"],
  ["another kind of answer", "well", "refused"],
  ["too many findings", { ...WELL, findings: Array(33).fill(finding) }, "refused"],
  ["too long a text", { ...WELL, findings: [{ ...finding, found: "x".repeat(401) }] }, "refused"],
  ["an unknown level", { ...WELL, findings: [{ ...finding, level: "fatal" }] }, "refused"],
])("a router that is %s", async (_, health, state) => {
  const found = await diagnoseCluster(api(health));
  expect(found.hosts.map((host) => host.state)).toEqual([
    "answers",
    state,
  ] as (typeof found.hosts)[number]["state"][]);
});

describe("a peer that was lost", () => {
  const NAMED = { Name: OTHER, NickName: "two" };
  const lost = (health: unknown, listed: boolean): ApiClient => {
    const asked = api(health);
    return async (method, path, options) => {
      if (path !== "/report") return asked(method, path, options);
      const Peers = [{ Name: ME, NickName: "one" }, ...(listed ? [NAMED] : [])];
      const Lost = [{ ...NAMED, Address: "10.0.0.2:6783", Reason: "connection reset" }];
      return JSON.stringify({ Router: { Name: ME, NickName: "one", Peers, Lost } });
    };
  };
  const states = async (health: unknown, listed: boolean) =>
    (await diagnoseCluster(lost(health, listed))).hosts.map(({ state }) => state);

  test("is that, also while another one lists it and it is silent", async () => {
    const silent = new ApiError(504, "no answer within 8 s");
    expect(await states(silent, false)).toEqual(["answers", "lost"]);
    expect(await states(silent, true)).toEqual(["answers", "lost"]);
    const [, host] = (await diagnoseCluster(lost(silent, true))).hosts;
    expect(host).toEqual({
      ...{ peer: { name: OTHER, nickname: "two" }, state: "lost", version: null, more: 0 },
      problems: [
        {
          level: "problem",
          check: "peers",
          found: "not connected any more: connection reset",
          advice: `start weave at 10.0.0.2 again, or 'weave rmpeer ${OTHER}' if it is gone for good`,
        },
      ],
    });
  });

  test("and answers is well", async () => {
    expect(await states(WELL, true)).toEqual(["answers", "answers"]);
    expect(await states(new ApiError(501, ""), true)).toEqual(["answers", "older"]);
    expect(await states(new ApiError(502, ""), true)).toEqual(["answers", "refused"]);
  });
});

test("what cannot be asked is no problem; what does not answer is one", async () => {
  const isWrong = async (health: unknown) => hasClusterProblem(await diagnoseCluster(api(health)));
  expect(await isWrong(WELL)).toBe(false);
  expect(await isWrong(new ApiError(501, ""))).toBe(false);
  expect(await isWrong(new ApiError(504, ""))).toBe(true);
  expect(await isWrong({ ...WELL, findings: [finding] })).toBe(true);
  expect(await isWrong({ ...WELL, findings: [{ ...finding, level: "warning" }] })).toBe(false);
});

test("pings of a stranger: bounded, else none", async () => {
  const way = {
    overlay: "fastdp",
    inUse: true,
    sent: 5,
    received: 5,
    roundTripMs: { min: 1, median: 2, max: 3 },
    mtu: 1376,
    problem: null,
    remedy: null,
  };
  const peer = { name: ME, nickname: "one" };
  const ping = {
    peer,
    via: null,
    networkMtu: 1376,
    overlays: [way],
    problem: null,
    remedy: null,
    note: null,
  };
  const count = async (pings: unknown) => (await diagnoseCluster(api(WELL, pings))).paths.length;
  expect(await count([ping])).toBe(1);
  expect(await count(Array(65).fill(ping))).toBe(0);
  expect(await count([{ ...ping, overlays: Array(5).fill(way) }])).toBe(0);
  expect(await count([{ ...ping, problem: "x".repeat(513) }])).toBe(0);
  expect(await count([{ ...ping, overlays: [{ ...way, mtu: "large" }] }])).toBe(0);
  expect(await count("none")).toBe(0);
  expect(await count(new ApiError(504, ""))).toBe(0);
});

test("as text: a line a host, nothing that moves the cursor", async () => {
  const evil = {
    ...WELL,
    version: "3.0\u001b[2J",
    findings: [{ ...finding, found: "ill\nhost3 3.0.0 none" }],
    more: 2,
  };
  const text = clusterText(await diagnoseCluster(api(evil)));
  expect(text.split("\n")).toEqual([
    "HOST                 VERSION          PROBLEMS",
    "one                  3.0.0            none",
    "two                  3.0\\x1b[2J       1 problem",
    "  problem: peers: ill\\x0ahost3 3.0.0 none",
    "  -> heal it",
    "  2 more: 'weave doctor' there shows them",
    "",
    "paths: none was tried",
    "",
  ]);
});

test("what we answer others: problems first, cut, and no more than there is room for", async () => {
  const Problems = Array.from({ length: 40 }, (_, i) => ({
    Check: "c",
    Found: `${i} ${"x".repeat(500)}`,
    Advice: "a",
  }));
  const report = {
    Ready: true,
    Problems,
    Router: { Encryption: false, Interface: "", Connections: [] },
    IPAM: { Range: "10.32.0.0/12", RangeNumIPs: 100 },
  };
  let asked = 0;
  const answer = healthAnswerer(async () => {
    asked++;
    return JSON.stringify(report);
  });
  const health = await answer();
  expect(health.findings).toHaveLength(32);
  expect(health.more).toBe(8);
  expect(health.findings.every(({ found }) => found.length === 400)).toBe(true);
  await answer();
  expect(asked).toBe(1);
});
