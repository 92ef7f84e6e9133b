// Edges of what is deployed: agents of Mesos and their neighbours, parameters in a query, and the doctor's own limits.
import { describe, expect, test } from "bun:test";
import type { ApiClient } from "../../lib/api/client.ts";
import { AddonError } from "../../lib/deploy/addon.ts";
import { has } from "../../lib/deploy/kubernetes/features.ts";
import { neighbours } from "../../lib/deploy/mesos.ts";
import { queryParameters } from "../../lib/deploy/query.ts";
import { answerManifest } from "../../lib/deploy/serve.ts";
import { clockFinding } from "../../lib/doctor/clock.ts";
import { diagnoseCluster } from "../../lib/doctor/cluster.ts";
import { healthAnswerer } from "../../lib/doctor/health.ts";
import { simulateSystemClock } from "../support/systemclock.ts";

describe("the neighbours of an agent", () => {
  test.each<[string, string, string[]]>([
    ["c1agent3", "c1agent", ["c1agent2", "c1agent4"]],
    ["c1agent1", "c1agent", ["c1agent0", "c1agent2"]],
    ["c1agent0", "c1agent", ["c1agent1"]],
    ["C1Agent009.Example.com", "c1AGENT", ["c1agent008.example.com", "c1agent010.example.com"]],
    ["a99", "a", ["a98", "a100"]],
  ])("%s", (hostname, prefix, expected) => {
    expect(neighbours(hostname, prefix)).toEqual(expected);
  });

  test.each([
    ["c1agent", "c1agent"],
    ["c1agent3x", "c1agent"],
    ["other3", "c1agent"],
    ["c1agent1234567890", "c1agent"],
    ["3", ""],
  ])("%s has none by the prefix %p", (hostname, prefix) => {
    expect(() => neighbours(hostname, prefix)).toThrow(`the host name "${hostname}" is not HOST_PREFIX`);
  });
});

describe("the parameters of a query", () => {
  test("are plain ones, variables and SELinux's", () => {
    expect(queryParameters("?known-peers=a,b&env.A=1&env.B=&seLinuxOptions.type=t")).toEqual({
      plain: { "known-peers": "a,b" },
      env: { A: "1", B: "" },
      selinux: { type: "t" },
    });
  });

  test("are refused where one is unknown, and above 65,536 characters", () => {
    expect(() => queryParameters("?peers=a")).toThrow('unknown parameter "peers"');
    expect(() => queryParameters("?xenv.A=1")).toThrow(AddonError);
    const long = (length: number) => () => queryParameters(`?env.A=${"x".repeat(length - 7)}`);
    expect(long(65_536)).not.toThrow();
    expect(long(65_537)).toThrow("a query of more than 65536 characters");
  });

  const answer = async (path: string, method = "GET") => {
    const defaults = { plain: { version: "1.0" }, env: { A: "default", B: "default" }, selinux: {} };
    const response = answerManifest(new Request(`http://x${path}`, { method }), defaults);
    return [response.status, await response.text()] as const;
  };

  test("go before the defaults, and before the version in the path", async () => {
    const [status, text] = await answer("/k8s/v1.28/net.yaml?env.A=asked&version=2.0");
    expect(status).toBe(200);
    expect(text).toContain("localhost/weave:2.0");
    expect(text).toMatch(/name: A\n +value: "?asked/);
    expect(text).toMatch(/name: B\n +value: "?default/);
    const [, plain] = await answer("/k8s/net");
    expect(plain).toContain("localhost/weave:1.0");
  });

  test("are of one path, for reading", async () => {
    expect((await answer("/k8s/v1.28/net", "HEAD"))[0]).toBe(200);
    expect((await answer("/k8s/v1.28/net", "POST"))[0]).toBe(405);
    expect((await answer("/k8s/v2.28/net"))[0]).toBe(404);
    expect((await answer("/k8s/net?x=1"))[0]).toBe(400);
  });
});

test("no clock is right before 2024", () => {
  expect(clockFinding(Date.UTC(2023, 11, 31, 23, 59, 59)).level).toBe("problem");
  expect(clockFinding(Date.UTC(2024, 0, 1)).level).not.toBe("problem");
});

test("other hosts get the same answer of the doctor for 2 s", async () => {
  using time = simulateSystemClock();
  let asked = 0;
  const answer = healthAnswerer(async () => {
    asked++;
    throw new Error("starting");
  });
  const first = await answer();
  const once = asked;
  await time.pass(2_000);
  expect(await answer()).toBe(first);
  expect(asked).toBe(once);
  await time.pass(100);
  expect(await answer()).not.toBe(first);
  expect(asked).toBe(2 * once);
});

test("all hosts are asked, eight at a time, this one first and then by nickname", async () => {
  const Peers = Array.from({ length: 20 }, (_, i) => ({ Name: `n${i}`, NickName: `host${String(99 - i)}` }));
  const state = { running: 0, most: 0 };
  const api: ApiClient = async (_method, path) => {
    if (path === "/report") return JSON.stringify({ Router: { Name: "n5", NickName: "host94", Peers } });
    if (path.includes("/ping")) return "[]";
    state.most = Math.max(state.most, ++state.running);
    await Bun.sleep(0);
    state.running--;
    return JSON.stringify({ version: "3.0.0", findings: [], more: 0 });
  };
  const { hosts } = await diagnoseCluster(api);
  const names = hosts.map(({ peer }) => peer.nickname);
  expect(names[0]).toBe("host94");
  expect(names.slice(1)).toEqual(
    Peers.map(({ NickName }) => NickName)
      .filter((name) => name !== "host94")
      .sort(),
  );
  expect(state.most).toBe(8);
});

test.each<[Parameters<typeof has>[1], number]>([
  ["escalation", 8],
  ["rbacV1", 8],
  ["hostPathType", 8],
  ["appsV1", 9],
  ["mountPropagation", 10],
  ["systemPriority", 11],
  ["serviceLinks", 13],
  ["osLabel", 14],
  ["startupProbe", 18],
  ["seccompProfile", 19],
  ["cni1", 24],
])("Kubernetes has %s since 1.%d", (what, first) => {
  const minor = (number: number) => number as Parameters<typeof has>[0];
  expect([has(minor(first - 1), what), has(minor(first), what), has(minor(first + 1), what)]).toEqual([
    ...[false, true, true],
  ]);
});
