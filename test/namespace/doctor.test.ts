// The doctor on a host that is made ill, one thing after the other.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { cniQuestions } from "../../cmd/cnifolders.ts";
import { apiClient } from "../../lib/api/client.ts";
import { originalConflist } from "../../lib/cni/conflist.ts";
import { diagnose } from "../../lib/doctor/doctor.ts";
import type { Finding } from "../../lib/doctor/finding.ts";
import { asHost } from "../support/ashost.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { fakeKubeProxy } from "../support/processes.ts";

let hosts: Hosts;
let host: Host;

async function doctor(): Promise<{ code: number; findings: Finding[] }> {
  const folders = ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
  const { code, stdout, stderr } = await host.exec([join(DIST, "weave"), "doctor", "--json", ...folders]);
  if (stdout === "") throw new Error(stderr);
  return { code, findings: JSON.parse(stdout) };
}

/** The same findings, without a program for each time. */
const findings = (env: Record<string, string> = {}) =>
  asHost(host, env, () => {
    const questions = cniQuestions({ "cni-bin-dir": host.binDir, "cni-conf-dir": host.confDir });
    return diagnose(apiClient(), { ...questions, executable: join(DIST, "weave-net") });
  });

/** What is said of one thing, where it is not in order. */
const said = (all: readonly Finding[], check: string) =>
  all
    .filter((finding) => finding.check === check && finding.level !== "ok")
    .map(({ level, found }) => `${level}: ${found}`);
const about = async (check: string, env?: Record<string, string>) => said(await findings(env), check);
/** By the program: this process keeps its connection to a router for the next question. */
const aboutRouter = async () => said((await doctor()).findings, "router");

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
  const before = await doctor();
  expect(before.findings.filter(({ level }) => level === "problem")).toEqual([]);
  expect(before.code).toBe(0);
  expect(before.findings.find(({ check }) => check === "kernel")?.found).toBe(
    "the kernel has bridge, veth, VXLAN, TAP, eBPF, flow cache, nftables",
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
  const without = await doctor();
  expect(without.findings.filter(({ check }) => check === "router")).toEqual([
    expect.objectContaining({ level: "problem", found: "not running" }),
  ]);
  expect(without.code).toBe(1);
}, 300_000);

test("MTU", async () => {
  await host.must(["ip", "link", "set", "eth0", "mtu", "1400"]);
  expect(await about("mtu")).toEqual([
    "problem: frames of 1376 bytes and 50 bytes of encapsulation (fastdp) exceed the MTU of eth0, 1400",
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
      /^problem: TCP port 6783, for connections between peers, is in use by \S+ \(pid \d+\)$/,
    ),
    expect.stringMatching(/^problem: UDP port 6784, for the fast datapath, is in use by \S+ \(pid \d+\)$/),
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
    "problem: iptables-nft drops forwarded packets by policy, and no rule accepts those of weave",
  ]);
  await host.weave("launch");
  await host.weave("expose");
  expect(await about("forward")).toEqual([]);
  expect(await about("firewall")).toEqual([]);
  await host.weave("stop");
  await host.must(["nft", "flush", "chain", "ip", "weave", "postrouting"]);
  expect(await about("firewall")).toEqual([
    expect.stringContaining("no masquerading for the exposed address 10."),
  ]);
  await host.must(["nft", "flush", "chain", "ip", "weave", "forward"]);
  expect(await about("firewall")).toEqual([expect.stringContaining("chain forward lacks rules of weave")]);
  await host.must(["nft", "delete", "table", "ip", "weave"]);
  expect(await about("firewall")).toEqual([expect.stringContaining("table ip weave is missing")]);
  await sysctl("ipv4/ip_forward", "0");
  expect(await about("ip_forward")).toHaveLength(1);
  await sysctl("bridge/bridge-nf-call-iptables", "0");
  expect(await about("br_netfilter")).toEqual([expect.stringContaining("bridged packets are not filtered")]);
}, 300_000);

test("forward chains of others that drop by policy", async () => {
  const load = (family: string, rules: string) =>
    host.must(["nft", "-f", "-"], {
      stdin: `table ${family} fw {}
delete table ${family} fw
table ${family} fw {
  chain allowed { ${rules}; }
  chain passing { type filter hook forward priority 0; policy drop; jump allowed; }
  chain in { type filter hook input priority 0; policy accept; }
}`,
    });
  expect(await about("forward")).toEqual([]);
  for (const family of ["inet", "bridge"]) {
    const found = [
      `warning: chain passing of nftables table ${family} fw drops forwarded packets by policy, and no rule there names a link of weave`,
    ];
    await load(family, 'iifname "weave2" accept');
    expect(await about("forward")).toEqual(found);
    const [command] = /nft insert rule [^']* accept/.exec(
      (await findings()).find(({ check, advice }) => check === "forward" && advice)?.advice ?? "",
    ) ?? [""];
    await host.must(["sh", "-c", command]);
    expect(await about("forward")).toEqual([]);
    await load(family, 'iifname "weave*" accept');
    expect(await about("forward")).toEqual([]);
    await host.must(["nft", "delete", "table", family, "fw"]);
  }
}, 300_000);

test("a full conntrack table, with a router and without", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  // It is in use once a rule needs it.
  await host.weave("expose");
  const connections = (what: string) =>
    host.must([process.execPath, join(import.meta.dir, "../support/conntrackfill.ts"), what]);
  const full = [expect.stringMatching(/^problem: the conntrack table is full, with \d+ of \d+ connections/)];
  // The machine's limit may be too large.
  const made = Number(await connections("fill"));
  expect(await about("conntrack")).toEqual(made > 0 ? full : []);
  if (made > 0) expect(await host.status()).toContain("Problem: the conntrack table is full");
  await host.weave("stop");
  expect(await about("conntrack")).toEqual(made > 0 ? full : []);
  await connections("flush");
  expect(await about("conntrack")).toEqual([]);
}, 300_000);

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
    host.command(),
  );
  try {
    expect(await about("kube-proxy")).toEqual([
      expect.stringContaining("problem: kube-proxy masquerades everything"),
      expect.stringContaining("problem: kube-proxy expects pods in 10.244.0.0/16"),
    ]);
  } finally {
    proxy.kill();
    await proxy.exited;
  }
}, 300_000);

/** Asks for an address of the host's range, for a container that only the router knows of. */
const allocate = (id: string, wait: boolean) =>
  host.exec([
    "curl",
    ...["-s", "-f", "-X", "POST", "--unix-socket", join(host.folder, "run/weave.sock")],
    `http://localhost/ip/${id}?wait=${wait}`,
  ]);

test("a router that was stopped is told from one that does not run, and from a link that is missing", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  expect(await about("links")).toEqual([]);
  const { pid } = host;
  process.kill(pid, "SIGSTOP");
  try {
    expect(await aboutRouter()).toEqual([
      `problem: it runs (pid ${pid}) and does not answer: stopped by a signal`,
    ]);
    await host.must(["ip", "link", "set", "weave", "down"]);
    await host.must(["ip", "link", "set", "vxlan-6784", "nomaster"]);
    expect(await about("links")).toEqual([
      "problem: bridge weave is down: containers cannot reach each other",
      "problem: link vxlan-6784 is off bridge weave: containers cannot reach containers on other hosts",
    ]);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await eventually(
    "the router puts the links back",
    () => about("links"),
    (list) => list.length === 0,
  );
  // One that runs on makes its socket again within 5 s.
  process.kill(pid, "SIGSTOP");
  try {
    await host.must(["rm", join(host.folder, "run/weave.sock")]);
    expect(await aboutRouter()).toEqual([
      expect.stringMatching(/^problem: it runs \(pid \d+\) but does not listen at /),
    ]);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await host.killRouter();
  await host.must(["ip", "link", "del", "vxlan-6784"]);
  expect(await aboutRouter()).toEqual(["problem: not running"]);
  expect(await about("links")).toEqual([
    "problem: link vxlan-6784 is missing: containers cannot reach containers on other hosts",
  ]);
}, 300_000);

test("a peer that is silent, and one with another password", async () => {
  const other = hosts.host(2);
  await host.weave("launch", "--ipalloc-init=consensus=2", other.ip);
  await other.weave("launch", "--nickname", "two", "--ipalloc-init=consensus=2", host.ip);
  await eventually(
    "they are connected",
    () => host.status("connections"),
    (text) => text.includes("established"),
  );
  const { pid } = other;
  process.kill(pid, "SIGSTOP");
  try {
    const found = await eventually(
      "it is told",
      () => about("peers"),
      (list) => list.length > 0,
    );
    expect(found).toEqual([
      expect.stringMatching(/^problem: peer .*\(two\) at 10\.99\.0\.2:\d+ is silent for \d+ s/),
    ]);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await other.weave("stop");
  await other.weave("launch", "--password", "a long enough secret", host.ip);
  const refused = await eventually(
    "it is refused",
    () => about("peers"),
    (list) => list.some((found) => found.includes("refused")),
  );
  expect(refused).toEqual([
    expect.stringMatching(/^problem: the host at 10\.99\.0\.2.* is refused since .*password/),
  ]);
}, 300_000);

test("a route of the host within the network's range", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1", "--ipalloc-range=10.32.0.0/12");
  expect(await about("range")).toEqual([]);
  await host.must(["ip", "route", "add", "10.33.0.0/16", "via", "10.99.0.2"]);
  expect(await about("range")).toEqual([
    "problem: the network's range 10.32.0.0/12 overlaps with route 10.33.0.0/16 of this host",
  ]);
}, 300_000);

test("portmap is missing, which the original's list names; setup writes one that names no other plugin", async () => {
  const setup = ["setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
  await host.weave(...setup);
  writeFileSync(join(host.confDir, "10-weave.conflist"), originalConflist(true));
  expect(await about("cni")).toEqual([
    `problem: ${host.binDir} has no portmap, which ${host.confDir}/10-weave.conflist names: no pod starts`,
  ]);
  await host.weave(...setup);
  expect(await about("cni")).toEqual([]);
});

test("no quorum", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=3");
  expect(await about("addresses")).toEqual([]);
  const waiting = allocate("one", true);
  expect(
    await eventually(
      "a quorum is missed",
      () => about("addresses"),
      (list) => list.length > 0,
    ),
  ).toEqual(["problem: no quorum: 1 of at least 2 peers for the division of range 10.32.0.0/12 are known"]);
  await host.weave("stop");
  await waiting;
}, 300_000);

test("the range is exhausted", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1", "--ipalloc-range=10.40.0.0/29");
  await host.weave("prime");
  expect(await about("addresses")).toEqual([]);
  for (let i = 0; (await allocate(`c${i}`, false)).code === 0; i++) expect(i).toBeLessThan(8);
  expect(await about("addresses")).toEqual([expect.stringMatching(/^problem: .*10\.40\.0\.0\/29/)]);
}, 300_000);

test("hosts that were divided apart, and one with another range", async () => {
  const other = hosts.host(2);
  const name = (i: number) => `02:00:00:00:00:0${i}`;
  // Each divides the range with a peer that is not there.
  const launch = (on: Host, i: number, ...more: string[]) =>
    on.weave("launch", "--name", name(i), `--ipalloc-init=seed=${name(i)},${name(i + 4)}`, ...more);
  await launch(host, 1);
  await launch(other, 2);
  await host.weave("connect", other.ip);
  const peers = () =>
    eventually(
      "the peer is refused",
      () => about("peers"),
      (list) => list.length > 0,
    );
  expect(await peers()).toEqual([
    expect.stringMatching(/^problem: peer .*\(.*\) at 10\.99\.0\.2.* is refused since /),
  ]);
  // The cause is told once.
  expect(await about("connections")).toEqual([]);
  await other.weave("stop");
  await other.weave("reset", "--force");
  await launch(other, 3, "--ipalloc-range=10.50.0.0/16");
  await other.weave("connect", host.ip);
  await eventually(
    "the other range is told",
    () => about("peers"),
    (list) => list.some((found) => found.includes("10.50.0.0/16")),
  );
}, 300_000);

test("peers that are not reached", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1", "10.99.0.2");
  const found = await eventually(
    "it is seen",
    () => about("connections"),
    (list) => list.length > 0,
  );
  expect(found[0]).toContain("problem: named peer 10.99.0.2 at 10.99.0.2:6783 cannot be reached: ");
}, 300_000);

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
}, 300_000);

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
      /^warning: changed by others in the last hour, and repaired: .*\bweave\b.*\bdown\b/,
    ),
  ]);
}, 300_000);
