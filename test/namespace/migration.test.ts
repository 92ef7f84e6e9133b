// A host that the original has run on: what it left there is the original's own (test/vectors/original), its router and
// policy controller killed. Ours takes over under traffic.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { addVeth, DIST, eventually, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, type Pod, ping, podCommand } from "../support/pods.ts";
import { lookalike } from "../support/processes.ts";
import { Stream } from "../support/stream.ts";

const VECTORS = join(import.meta.dir, "../vectors/original");
const NAME = "36:b9:2f:4d:4f:4e";

let hosts: Hosts;
let host: Host;
let other: Host;
let client: Pod;
let server: Pod;

/** A container as the original has attached it. */
async function attached(name: string, address: string): Promise<Pod> {
  const path = await hosts.pod(name);
  const netns = path.split("/").at(-1) ?? "";
  const ip = (...args: string[]) => must(["ip", ...args]);
  const veth = `vethwepl${name.slice(0, 6)}`;
  await addVeth(["ip", "-n", host.netns], veth, netns, 1376);
  await ip("-n", host.netns, "link", "set", veth, "master", "weave", "up");
  await ip("-n", netns, "link", "set", "eth0", "up");
  await ip("-n", netns, "addr", "add", `${address}/12`, "dev", "eth0");
  await ip("-n", netns, "route", "add", "default", "via", "10.32.0.1");
  return { netns, address, mac: "" };
}

/** Brings a host into the state that the original leaves it in; rules of iptables of the one kind or the other. */
async function prepare(variant: "nft" | "legacy"): Promise<void> {
  const vector = await Bun.file(join(VECTORS, "leftovers.json")).json();
  const ip = (...args: string[]) => host.must(["ip", ...args]);
  await ip("link", "add", "weave", "address", NAME, "type", "bridge");
  await ip("link", "set", "weave", "up", "mtu", "1376");
  await ip("addr", "add", "10.32.0.1/12", "brd", "+", "dev", "weave");
  await ip("link", "add", "vethwe-bridge", "type", "veth", "peer", "name", "vethwe-pcap");
  await ip("link", "set", "vethwe-bridge", "master", "weave", "up");
  await ip("link", "set", "vethwe-pcap", "up");
  await host.must([
    "sh",
    "-c",
    "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables",
  ]);
  await host.must(["ipset", "restore"], { stdin: vector.ipset });
  await host.must([`iptables-${variant}-restore`], { stdin: vector.iptables });
  // What others have in there stays.
  await host.must([`iptables-${variant}`, "-A", "FORWARD", "-i", "eth9", "-j", "ACCEPT"]);
  await host.must(["ipset", "create", "other", "hash:ip"]);
  [client, server] = [await attached("client", "10.32.0.2"), await attached("server", "10.32.0.3")];
}

/** All that there is of it, in words. */
async function leftovers(): Promise<string> {
  const outputs = await Promise.all(
    [["iptables-nft-save"], ["iptables-legacy-save"], ["ipset", "list", "-n"], ["ip", "-o", "link"]].map(
      async (command) => (await host.exec(command)).stdout,
    ),
  );
  return outputs
    .join("")
    .split("\n")
    .filter((line) => /WEAVE|Weave|weaver?-[^n]|vethwe-|-[io] weave/.test(line))
    .join("\n");
}

const reaches = async (from: Pod, to: string) => (await ping(from, to, "-c", "1", "-W", "1")).code === 0;
const state = (name: string) => join(host.folder, "lib", name);

beforeEach(async () => {
  hosts = await Hosts.create("mig", 2);
  [host, other] = [hosts.host(1), hosts.host(2)];
  mkdirSync(state(""), { recursive: true });
});

afterEach(() => hosts.disposeSync());

describe.each(["nft", "legacy"] as const)("iptables-%s", (variant) => {
  test("the same peer, with its addresses; nothing of the original is left once ours carries traffic", async () => {
    await prepare(variant);
    copyFileSync(join(VECTORS, "data.db"), state("weave-netdata.db"));
    expect(await leftovers()).toContain("WEAVE-NPC-INGRESS");
    // The original's policies hold: what may talk, may. New ports of a bridge forward a moment later.
    await eventually("the server is reached", () => reaches(client, server.address), Boolean);
    await eventually("the host is reached", () => reaches(server, "10.32.0.1"), Boolean);
    using flow = new Stream("the containers", podCommand(client), server.address, 50);
    await flow.flows();
    flow.mark();
    await host.weave("launch", other.ip);
    // There is nobody to be connected to yet.
    await eventually(
      "the other host has been tried",
      () => host.status("connections"),
      (text) => new RegExp(`${other.ip}:6783 +(failed|retrying)`).test(text),
    );
    expect(await leftovers()).toContain("WEAVE-NPC-INGRESS");
    expect(await host.weave("status")).toContain(`Name: ${NAME}`);
    await other.weave("launch", "--ipalloc-init=observer", host.ip);
    await eventually("nothing is left", leftovers, (left) => left === "");
    await flow.flows();
    expect(flow.lost).toBeLessThanOrEqual(1);
    await eventually("the state is renamed", () => existsSync(state("weave-netdata.db.migrated")), Boolean);
    expect(existsSync(state("weave-netdata.db"))).toBe(false);
    expect(await host.must([`iptables-${variant}`, "-S", "FORWARD"])).toContain(
      "-A FORWARD -i eth9 -j ACCEPT",
    );
    expect(await host.must(["ipset", "list", "-n"])).toBe("other\n");
    // Addresses in use are known to be; others are given to new ones, here and on other hosts.
    const held = await host.weave("ps");
    for (const id of ["id-of-clien", "id-of-serve"]) expect(held).toContain(id);
    const far = await addPod(hosts, other, "far");
    const near = await addPod(hosts, host, "near");
    expect(["10.32.0.1", client.address, server.address]).not.toContain(near.address);
    for (const to of [client.address, server.address, near.address]) {
      await eventually(`${to} is reached from another host`, () => reaches(far, to), Boolean);
    }
  }, 300_000);
});

test.each(["nft", "legacy"])(
  "where it has never run, a rule about our bridge is somebody else's (%s)",
  async (variant) => {
    const rule = "-A FORWARD -i weave -j ACCEPT";
    await host.must([`iptables-${variant}`, ...rule.split(" ")]);
    await host.weave("launch", "--ipalloc-init=consensus=1");
    await addPod(hosts, host, "pod");
    expect(await host.weave("migrate")).toBe("nothing of the original found on this host\n");
    expect(await host.must([`iptables-${variant}`, "-S", "FORWARD"])).toContain(rule);
  },
  300_000,
);

test("without its state, addresses in use are found in the kernel", async () => {
  await prepare("nft");
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await eventually("nothing is left", leftovers, (left) => left === "");
  expect(await host.weave("status")).toContain(`Name: ${NAME}`);
  const near = await addPod(hosts, host, "near");
  expect(["10.32.0.1", client.address, server.address]).not.toContain(near.address);
}, 300_000);

test("a state file that cannot be read is left where it is, and said to be", async () => {
  await prepare("nft");
  writeFileSync(state("weave-netdata.db"), "no file of bolt at all");
  const plan = await host.weave("migrate", "--dry-run");
  expect(plan).toContain("which cannot be read (not a bolt file)");
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await eventually("nothing is left in the kernel", leftovers, (left) => left === "");
  expect(existsSync(state("weave-netdata.db"))).toBe(true);
}, 300_000);

test("a file that was named as the state has to be one", async () => {
  const file = join(hosts.folder, "named.db");
  const said = async () => {
    const command = [join(DIST, "weave"), "migrate", "--dry-run", "--state", file];
    const { code, stdout, stderr } = await host.exec(command, { env: host.env });
    return [code, stdout, stderr];
  };
  expect(await said()).toEqual([
    ...[2, "", `weave migrate: --state ${file}: no such file (see 'weave migrate --help')\n`],
  ]);
  writeFileSync(file, "no file of bolt at all");
  expect(await said()).toEqual([
    ...[
      1,
      "",
      expect.stringContaining(`--state ${file}: not the original's state: not a bolt file; name its `),
    ],
  ]);
  // It was taken over, and the rest of the migration was not.
  renameSync(file, `${file}.migrated`);
  expect((await said())[0]).toBe(0);
});

describe("weave migrate", () => {
  /** Something that looks like the original's router, with its options and its state in a folder of its own. */
  async function fakeRouter(): Promise<Bun.Subprocess> {
    const folder = join(hosts.folder, "weavedb");
    mkdirSync(folder);
    copyFileSync(join(VECTORS, "data.db"), join(folder, "weavedata.db"));
    const options = ["--port=6783", "--nickname=node1", "--ipalloc-range", "10.32.0.0/12", "--conn-limit=77"];
    const own = ["--datapath=datapath", `--db-prefix=${folder}/weave`, "--host-root=/host", "--no-dns"];
    return lookalike(hosts.folder, "weaver", [...options, ...own, other.ip], host.command());
  }

  test("prints what it is going to do, and does it", async () => {
    await prepare("nft");
    for (const file of ["weave-net", "weave-ipam", "weave-plugin-2.8.1"])
      writeFileSync(join(host.binDir, file), "old");
    const folders = ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
    const running = await fakeRouter();
    const refused = await host.exec([join(DIST, "weave"), "launch"]);
    expect(refused.stderr).toContain(
      `the original's router runs here (pid ${running.pid}): 'weave migrate' takes over`,
    );
    const before = await leftovers();
    const plan = await host.weave("migrate", "--dry-run", ...folders, "--conn-limit=50");
    const kept = String.raw`/proc/\d+/fd/\d+/weavedata.db`;
    expect(plan.trim().split("\n")).toEqual([
      `stop the original's router (pid ${running.pid})`,
      `launch weave --port=6783 --nickname=node1 --ipalloc-range=10.32.0.0/12 --conn-limit=50 --dns=false ${other.ip}`,
      expect.stringMatching(
        new RegExp(`^take over its state ${kept}: peer ${NAME}, 1 ranges, 3 addresses in use$`),
      ),
      "remove its links vethwe-pcap, vethwe-bridge, as our fast datapath needs their place",
      "once our router carries traffic, remove 9 rules and 11 chains from iptables-nft",
      "once our router carries traffic, remove 20 ipsets",
      expect.stringMatching(
        new RegExp(`^once our router carries traffic, rename ${kept} to ${kept}.migrated$`),
      ),
      `put our CNI plugin in ${host.binDir} and remove weave-ipam, weave-plugin-2.8.1`,
    ]);
    expect(await leftovers()).toBe(before);
    await other.weave("launch", "--ipalloc-init=observer", host.ip);
    const done = await host.weave("migrate", ...folders, "--conn-limit=50");
    expect(done).toContain("migrated: nothing of the original is left on this host");
    expect(await running.exited).not.toBe(0);
    expect(await leftovers()).toBe("");
    expect(await host.must(["ls", host.binDir])).toBe("weave-net\n");
    expect(await host.weave("status")).toContain(`Name: ${NAME}(node1)`);
    expect(existsSync(join(hosts.folder, "weavedb/weavedata.db.migrated"))).toBe(true);
    expect(await host.weave("ps")).toContain("id-of-clien");
    expect(await host.weave("migrate")).toBe("nothing of the original found on this host\n");
  }, 300_000);
});
