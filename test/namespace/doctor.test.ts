// The doctor on a host that is made ill, one thing after the other.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { fakeKubeProxy } from "../support/processes.ts";

interface Finding {
  check: string;
  level: "ok" | "warning" | "problem";
  found: string;
  advice?: string;
}

let hosts: Hosts;
let host: Host;

async function doctor(env: Record<string, string> = {}): Promise<{ code: number; findings: Finding[] }> {
  const folders = ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
  const { code, stdout, stderr } = await host.exec([join(DIST, "weave"), "doctor", "--json", ...folders], {
    env,
  });
  if (stdout === "") throw new Error(stderr);
  return { code, findings: JSON.parse(stdout) };
}

/** What is said of one thing, where it is not in order. */
const about = async (check: string, env?: Record<string, string>) =>
  (await doctor(env)).findings
    .filter((finding) => finding.check === check && finding.level !== "ok")
    .map(({ level, found }) => `${level}: ${found}`);

/** A kernel setting of the host's namespace. */
const sysctl = (name: string, value: string) =>
  host.must(["sh", "-c", `echo ${value} > /proc/sys/net/${name}`]);

beforeEach(async () => {
  hosts = await Hosts.create("doc", 2);
  host = hosts.host(1);
});

afterEach(() => hosts.disposeSync());

test("a host that is well: exit code 0, before it is launched and after", async () => {
  await host.weave("setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir);
  writeFileSync(join(host.binDir, "portmap"), "", { mode: 0o755 });
  const before = await doctor();
  expect(before.findings.filter(({ level }) => level === "problem")).toEqual([]);
  expect(before.code).toBe(0);
  expect(before.findings.find(({ check }) => check === "kernel")?.found).toBe(
    "bridge, veth, VXLAN, TAP, eBPF, nftables are there",
  );
  // Looking changes nothing.
  expect(await host.must(["ip", "-o", "link"])).not.toContain("weave");
  expect(await host.must(["nft", "list", "tables"])).toBe("");
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("expose");
  const after = await doctor();
  expect(after.findings.filter(({ level }) => level === "problem")).toEqual([]);
  expect(after.code).toBe(0);
  expect(await host.weave("doctor", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir)).toContain(
    "ok       router ",
  );
  await host.weave("stop");
  expect(await about("router")).toEqual(["problem: it does not run"]);
  expect((await doctor()).code).toBe(1);
}, 60_000);

test("MTU", async () => {
  await host.must(["ip", "link", "set", "eth0", "mtu", "1400"]);
  expect(await about("mtu")).toEqual([
    "problem: frames of 1376 bytes and 50 around them do not fit eth0, which takes 1400",
  ]);
  expect(await about("mtu", { WEAVE_MTU: "1350" })).toEqual([]);
  expect(await about("mtu", { WEAVE_MTU: "1350", WEAVE_PASSWORD: "x" })).toHaveLength(1);
});

test("ports that others have", async () => {
  const script =
    'Bun.listen({ hostname: "0.0.0.0", port: 6783, socket: { data() {} } }); await Bun.udpSocket({ port: 6784 });';
  const child = Bun.spawn(host.command(process.execPath, "-e", script), {
    stdio: ["ignore", "ignore", "ignore"],
  });
  const found = await eventually(
    "they are seen",
    () => about("ports"),
    (list) => list.length === 2,
  );
  expect(found).toEqual([
    expect.stringMatching(
      /^problem: TCP port 6783, for connections between peers, is taken by \S+ \(pid \d+\)$/,
    ),
    expect.stringMatching(/^problem: UDP port 6784, for the fast datapath, is taken by \S+ \(pid \d+\)$/),
  ]);
  child.kill();
  await child.exited;
});

test("forwarding: a policy of iptables, and what is turned off", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  // A router that runs would put it right.
  await host.weave("stop");
  await host.must(["iptables-nft", "-P", "FORWARD", "DROP"]);
  expect(await about("forward")).toEqual([
    "problem: iptables-nft drops forwarded packets by policy, and nothing accepts ours",
  ]);
  await host.weave("launch");
  await host.weave("expose");
  expect(await about("forward")).toEqual([]);
  expect(await about("firewall")).toEqual([]);
  await host.weave("stop");
  await host.must(["nft", "flush", "chain", "ip", "weave", "postrouting"]);
  expect(await about("firewall")).toEqual([
    expect.stringContaining("nothing is masqueraded for the exposed 10."),
  ]);
  await host.must(["nft", "flush", "chain", "ip", "weave", "forward"]);
  expect(await about("firewall")).toEqual([expect.stringContaining("chain forward lacks rules of ours")]);
  await host.must(["nft", "delete", "table", "ip", "weave"]);
  expect(await about("firewall")).toEqual([expect.stringContaining("table ip weave is missing")]);
  await sysctl("ipv4/ip_forward", "0");
  expect(await about("ip_forward")).toHaveLength(1);
  await sysctl("bridge/bridge-nf-call-iptables", "0");
  expect(await about("br_netfilter")).toEqual([expect.stringContaining("bridged packets are not filtered")]);
}, 30_000);

test("a strict reverse path, where there are several", async () => {
  await sysctl("ipv4/conf/all/rp_filter", "1");
  expect(await about("rp_filter")).toEqual([]);
  await host.must(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1p"]);
  await host.must(["ip", "link", "set", "eth1", "up"]);
  await host.must(["ip", "link", "set", "eth1p", "up"]);
  await host.must(["ip", "addr", "add", "192.168.7.1/24", "dev", "eth1"]);
  expect(await about("rp_filter")).toHaveLength(1);
  await sysctl("ipv4/conf/eth0/rp_filter", "2");
  await sysctl("ipv4/conf/eth1/rp_filter", "2");
  expect(await about("rp_filter")).toEqual([]);
});

test("what the original has left", async () => {
  await host.must(["iptables-nft", "-N", "WEAVE-NPC"]);
  expect(await about("original")).toEqual([expect.stringContaining("1 chains from iptables-nft")]);
});

test("kube-proxy's settings", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1", "--ipalloc-range=10.32.0.0/12");
  const proxy = await fakeKubeProxy(
    hosts.folder,
    "clusterCIDR: 10.244.0.0/16\niptables:\n  masqueradeAll: true\n",
  );
  try {
    expect(await about("kube-proxy")).toEqual([
      expect.stringContaining("problem: kube-proxy masquerades everything"),
      expect.stringContaining("problem: kube-proxy takes 10.244.0.0/16 for the pods' addresses"),
    ]);
  } finally {
    proxy.kill();
    await proxy.exited;
  }
}, 30_000);

test("peers that are not reached", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1", "10.99.0.2");
  const found = await eventually(
    "it is seen",
    () => about("connections"),
    (list) => list.length > 0,
  );
  expect(found[0]).toContain("problem: 10.99.0.2:6783 is not reached: ");
}, 30_000);

test("firewalld: the zone of the bridge, by the rules that it has made", async () => {
  // As firewalld 1.3 of Debian 12 writes them, as far as they count here.
  const load = (zones: string) => {
    const stdin = `table inet firewalld {}
delete table inet firewalld
table inet firewalld {
  chain filter_FWD_public { reject with icmpx admin-prohibited; }
  chain filter_FWD_trusted { accept; }
  chain filter_FORWARD_ZONES { ${zones} }
}`;
    return host.must(["nft", "-f", "-"], { stdin });
  };
  expect(await about("firewalld")).toEqual([]);
  await load("goto filter_FWD_public;");
  expect(await about("firewalld")).toEqual([
    "problem: link weave is in zone public, which rejects what containers send to and by this host",
  ]);
  await load('iifname "weave2" goto filter_FWD_trusted; goto filter_FWD_public;');
  expect(await about("firewalld")).toHaveLength(1);
  await load('iifname "weave" goto filter_FWD_trusted; goto filter_FWD_public;');
  expect(await about("firewalld")).toEqual([]);
  await load("goto filter_FWD_trusted;");
  expect(await about("firewalld")).toEqual([]);
}, 30_000);

test("what others changed and the router put right, by name", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  expect(await about("repairs")).toEqual([]);
  await host.must(["ip", "link", "set", "weave", "down"]);
  const found = await eventually(
    "it is told of",
    () => about("repairs"),
    (list) => list.length > 0,
  );
  expect(found).toEqual([
    expect.stringMatching(
      /^warning: changed by others in the last hour, and put right: .*\bweave\b.*\bdown\b/,
    ),
  ]);
}, 30_000);
