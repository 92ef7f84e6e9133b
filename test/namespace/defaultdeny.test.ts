// The default deny of weave launch --expect-npc: what ends it, and what does not.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, ping } from "../support/pods.ts";

let hosts: Hosts;
let host: Host;
let a: Pod;
let b: Pod;

beforeAll(async () => {
  hosts = await Hosts.create("ddn", 1);
  host = hosts.host(1);
  await host.weave("launch", "--expect-npc");
  a = await addPod(hosts, host, "a");
  b = await addPod(hosts, host, "b");
}, 300_000);

afterAll(() => hosts?.disposeSync());

const reaches = async (from: Pod, to: Pod) => (await ping(from, to.address, "-W", "1")).code === 0;
/** Whether a pod reaches the other, and the other way round: who may, does so in the end; who may not, never does. */
async function expectReach(there: boolean, back: boolean): Promise<void> {
  for (const [from, to, may] of [
    [a, b, there],
    [b, a, back],
  ] as const)
    if (may) await eventually(`${from.netns} reaches ${to.netns}`, () => reaches(from, to), Boolean);
    else expect(await reaches(from, to)).toBe(false);
}
const tables = async () =>
  (await host.must(["nft", "list", "tables"])).split("\n").filter((line) => line.includes("weave-npc"));

async function relaunch(...options: string[]): Promise<void> {
  await host.weave("stop");
  await host.weave("launch", ...options);
}

/** Puts policies in force: pods may reach `open`, or everybody may be reached. */
async function apply(isolated: readonly Pod[]): Promise<void> {
  const pod = (name: string, { address }: Pod) => ({
    kind: "Pod",
    metadata: {
      namespace: "x",
      name,
      labels: { isolated: String(isolated.some((each) => each.address === address)) },
    },
    spec: { nodeName: "n1" },
    status: { phase: "Running", podIP: address },
  });
  const policy = {
    kind: "NetworkPolicy",
    metadata: { namespace: "x", name: "p" },
    spec: { podSelector: { matchLabels: { isolated: "true" } } },
  };
  const items = [{ kind: "Namespace", metadata: { name: "x" } }, pod("a", a), pod("b", b), policy];
  const file = join(host.folder, "snapshot.json");
  writeFileSync(file, JSON.stringify({ kind: "List", items }));
  await host.must([join(DIST, "weave-npc"), "apply", "--snapshot", file, "--node", "n1"]);
}

const NOTE = "Note: default deny (--expect-npc)";

test("weave-npc apply replaces it by its policies, which later launches keep", async () => {
  await expectReach(false, false);
  expect(await host.weave("status")).toContain(NOTE);
  await apply([]);
  expect(await host.weave("status")).not.toContain(NOTE);
  await expectReach(true, true);
  await apply([a]);
  await expectReach(true, false);
  await relaunch();
  await expectReach(true, false);
  // Policies depend on it, and no weave-npc runs that would keep it on.
  const bridged = "net.bridge.bridge-nf-call-iptables";
  await host.must(["sysctl", "-qw", `${bridged}=0`]);
  await eventually(
    "the router turns the filtering of bridged packets on again",
    () => host.must(["sysctl", "-n", bridged]),
    (value) => value.trim() === "1",
  );
  await expectReach(true, false);
  expect((await host.exec([join(DIST, "weave"), "doctor"])).stdout).toContain(
    `sysctl ${bridged} (0 instead of 1`,
  );
  await relaunch("--expect-npc");
  await expectReach(true, false);
}, 300_000);

test("others who change or remove it, or policies in its place, leave no gap", async () => {
  const marked = () => host.exec(["nft", "list", "chain", "inet", "weave-npc", "default-deny"]);
  const comesBack = (what: string) => eventually(what, marked, ({ code }) => code === 0);
  await relaunch("--expect-npc");
  await apply([]);
  await expectReach(true, true);
  await host.must(["nft", "delete", "table", "inet", "weave-npc"]);
  await comesBack("policies that were removed are replaced by it");
  await expectReach(false, false);
  const before = await host.must(["nft", "list", "ruleset"]);
  for (const family of ["inet", "bridge"]) {
    await host.must(["nft", "flush", "table", family, "weave-npc"]);
    await eventually(
      `rules of family ${family} are put back`,
      async () => (await host.must(["nft", "list", "ruleset"])).length,
      (length) => length === before.length,
    );
    await expectReach(false, false);
  }
  await apply([]);
  await expectReach(true, true);
  expect((await marked()).code).not.toBe(0);
}, 300_000);

test("a launch without the option removes it, a launch with it does not", async () => {
  for (const family of ["inet", "bridge"]) await host.must(["nft", "delete", "table", family, "weave-npc"]);
  await relaunch("--expect-npc");
  await expectReach(false, false);
  await relaunch("--expect-npc");
  await expectReach(false, false);
  await relaunch();
  await expectReach(true, true);
  expect(await tables()).toEqual([]);
}, 300_000);

test("weave-npc without an API server opens nothing, and weave status shows what it says of itself", async () => {
  await relaunch("--expect-npc");
  const config = join(host.folder, "kubeconfig");
  // Nobody answers there.
  writeFileSync(
    config,
    JSON.stringify({
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      clusters: [{ name: "c", cluster: { server: "http://127.0.0.1:1" } }],
      users: [{ name: "u", user: {} }],
    }),
  );
  expect(await host.weave("status")).not.toContain("Service: weave-npc");
  const npc = Bun.spawn(host.command(join(DIST, "weave-npc"), "--node-name", "n1", "--kubeconfig", config), {
    stdout: "ignore",
    stderr: "ignore",
  });
  try {
    const text = await eventually(
      "it is shown",
      () => host.weave("status"),
      (shown) => shown.includes("Service: weave-npc"),
    );
    expect(text).toContain("           Node: n1\n       Policies: not in force yet\n");
    await expectReach(false, false);
  } finally {
    npc.kill("SIGKILL");
    await npc.exited;
  }
}, 300_000);
