// The flow cache with the executables, on two hosts: what takes the fast path, that nothing passes it that the slow path drops, and
// that it ends where it is switched off. STEPS=500 plays as many random changes.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { TrafficSample } from "../../lib/api/traffic.ts";
import { FlowPeer, fastTraffic } from "../support/flowpods.ts";
import { eventually, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, type CniPod, CONFIG } from "../support/pods.ts";
import { randomOf } from "../support/seed.ts";

/** A change has to be in force after this (flowcache/flow.ts: LIFETIME_NS, and a tick of the kernel). */
const BOUND_MS = 100;
const STEPS = Number(process.env["STEPS"] ?? 25);
const BRIDGED = "net.bridge.bridge-nf-call-iptables";

let hosts: Hosts;
let a: Host;
let b: Host;
const peers: FlowPeer[] = [];
let pods: CniPod[] = [];

const address = (pod: CniPod) => pod.address;
const hostOf = (pod: CniPod) => (pods.indexOf(pod) < 2 ? a : b);
const launch = (host: Host, ...rest: string[]) =>
  host.weave("launch", "--ipalloc-init=consensus=2", "--flow-cache", ...rest);

beforeAll(async () => {
  hosts = await Hosts.create("flow", 2, 9100);
  [a, b] = [hosts.host(1), hosts.host(2)];
  await launch(a);
  await launch(b, a.ip);
  pods = [await addPod(hosts, a, "one"), await addPod(hosts, a, "two"), await addPod(hosts, b, "three")];
  const all = pods.map(address);
  for (const [i, pod] of pods.entries())
    peers.push(
      new FlowPeer(
        pod,
        i < 2 ? a : b,
        all.filter((other) => other !== pod.address),
      ),
    );
}, 60_000);

afterAll(() => {
  for (const peer of peers) peer.stop();
  hosts.disposeSync();
});

/** Wait until each has been reached by each other since now. */
async function allTalk(except: (from: string, to: string) => boolean = () => false): Promise<void> {
  const before = await Promise.all(peers.map((peer) => peer.reached()));
  await eventually(
    "all talk to each other",
    async () => {
      const now = await Promise.all(peers.map((peer) => peer.reached()));
      return peers.flatMap((to, i) =>
        pods
          .map(address)
          .filter((from) => from !== to.pod.address && !except(from, to.pod.address))
          .filter((from) => (now[i]?.get(from) ?? 0) <= (before[i]?.get(from) ?? 0) + 2)
          .map((from) => `${from} -> ${to.pod.address}`),
      );
    },
    (missing) => missing.length === 0,
  );
}

/** Packets by the fast path while all talk. */
async function fastNow(host: Host): Promise<bigint> {
  const before = fastTraffic(host);
  await allTalk();
  await Bun.sleep(100);
  const after = fastTraffic(host);
  return after.sentPackets - before.sentPackets + after.receivedPackets - before.receivedPackets;
}

async function takesFastPath(): Promise<void> {
  await allTalk();
  expect(await fastNow(a)).toBeGreaterThan(10n);
  expect(await fastNow(b)).toBeGreaterThan(10n);
  expect(await a.status("connections")).toContain("path=direct");
}

/** Let the packet filter see bridged packets, or not. */
async function filterBridged(on: boolean): Promise<void> {
  const filtered = async (host: Host) =>
    JSON.parse(await host.report("{{json .}}")).Router.OverlayDiagnostics.fastdp.flowCache.Filtered;
  for (const host of [a, b]) await host.must(["sysctl", "-qw", `${BRIDGED}=${Number(on)}`]);
  for (const host of [a, b])
    await eventually(
      "the packet filter is seen",
      () => filtered(host),
      (seen) => seen === on,
    );
}

test.each([
  ["without a packet filter", false],
  ["through a packet filter that sees bridged packets", true],
])("flows between hosts, and between containers of a host, take the fast path: %s", async (_what, on) => {
  await filterBridged(on);
  await takesFastPath();
});

test("counters of containers include what takes the fast path", async () => {
  const client = apiClient(join(b.folder, "run/weave.sock"));
  const before = fastTraffic(b);
  const { links } = v.parse(TrafficSample, JSON.parse(await client("GET", "/traffic")));
  const [received, sent] = (["receivedPackets", "sentPackets"] as const).map((field) =>
    links.reduce((sum, link) => sum + BigInt(link[field]), 0n),
  );
  expect(received).toBeGreaterThanOrEqual(before.receivedPackets);
  expect(sent).toBeGreaterThanOrEqual(before.sentPackets);
  expect(before.receivedPackets).toBeGreaterThan(10n);
});

/** Rules of a host that drop packets from one address to another. */
class Drops {
  readonly #rules = new Map<string, { host: Host; how: "nft" | "legacy" }>();

  blocked(from: string, to: string): boolean {
    return this.#rules.has(`${from} ${to}`);
  }

  async block(host: Host, how: "nft" | "legacy", from: string, to: string): Promise<void> {
    if (this.blocked(from, to)) return;
    if (how === "nft") {
      const table = "add table ip mean; add chain ip mean forward { type filter hook forward priority 10; }";
      await host.must(["nft", `${table}; add rule ip mean forward ip saddr ${from} ip daddr ${to} drop`]);
    } else await host.must(["iptables-legacy", "-I", "FORWARD", "-s", from, "-d", to, "-j", "DROP"]);
    this.#rules.set(`${from} ${to}`, { host, how });
  }

  async clear(): Promise<void> {
    for (const host of [a, b]) await host.exec(["nft", "delete table ip mean"]);
    for (const [key, { host, how }] of this.#rules) {
      const [from = "", to = ""] = key.split(" ");
      if (how === "legacy")
        await host.must(["iptables-legacy", "-D", "FORWARD", "-s", from, "-d", to, "-j", "DROP"]);
    }
    this.#rules.clear();
  }
}

/** Nobody is reached by those that are blocked, from BOUND_MS after now on. */
async function nothingPasses(drops: Drops): Promise<void> {
  await Bun.sleep(BOUND_MS);
  const before = await Promise.all(peers.map((peer) => peer.reached()));
  await Bun.sleep(60);
  const after = await Promise.all(peers.map((peer) => peer.reached()));
  const passed = peers.flatMap((to, i) =>
    pods
      .map(address)
      .filter((from) => drops.blocked(from, to.pod.address))
      .filter((from) => (after[i]?.get(from) ?? 0) > (before[i]?.get(from) ?? 0))
      .map((from) => `${from} -> ${to.pod.address}`),
  );
  expect(passed).toEqual([]);
}

test(
  `nothing passes that the slow path drops: ${STEPS} random changes`,
  async () => {
    const { pick, below } = randomOf("flow cache");
    const drops = new Drops();
    for (let step = 0; step < STEPS; step++) {
      const kind = pick(["block", "block", "block", "clear", "kill", "mac", "again"]);
      const [from, to] = [pick(pods), pick(pods)];
      const i = below(pods.length);
      const host = i < 2 ? a : b;
      if (kind === "block" && from !== to)
        await drops.block(hostOf(pick([from, to])), pick(["nft", "legacy"]), from.address, to.address);
      else if (kind === "clear") {
        await drops.clear();
        await allTalk();
      } else if (kind === "kill") {
        await host.killRouter();
        await nothingPasses(drops);
        await launch(host, ...(host === b ? [a.ip] : []));
      } else if (kind === "mac") {
        const mac = `02:00:00:00:${step >> 8}:${(step & 255).toString(16).padStart(2, "0")}`;
        await must(["ip", "-n", pods[i]?.netns ?? "", "link", "set", "eth0", "address", mac]);
      } else if (kind === "again") {
        // The address goes to another container, if the router gives it away again.
        const old = pods[i];
        if (!old) continue;
        peers[i]?.stop();
        const { code, stdout } = await host.cni("DEL", CONFIG, {
          id: old.id,
          netns: `/run/netns/${old.netns}`,
        });
        if (code !== 0) throw new Error(stdout);
        await drops.clear();
        const fresh = await addPod(hosts, host, `again${step}`);
        pods[i] = fresh;
        peers[i] = new FlowPeer(
          fresh,
          host,
          pods.map(address).filter((other) => other !== fresh.address),
        );
        for (const peer of peers) if (peer.pod !== fresh) await peer.add(fresh.address);
      }
      await nothingPasses(drops);
    }
    await drops.clear();
    await allTalk();
    expect(await fastNow(a)).toBeGreaterThan(10n);
  },
  60_000 + STEPS * 8_000,
);

describe("--no-flow-cache", () => {
  test("ends it, with all its programs on links of the underlay", async () => {
    await a.weave("stop");
    await a.weave("launch", "--ipalloc-init=consensus=2", "--no-flow-cache");
    await allTalk();
    expect(await fastNow(a)).toBe(0n);
    expect(await a.status("connections")).not.toContain("path=");
    expect(await a.must(["bpftool", "net"]).catch(() => "")).not.toContain("weave_arrive");
  });
});
