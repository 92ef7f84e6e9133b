// Errors of connections and listeners name their cause: each is made in the kernel, and told apart. A command that fails
// leaves all as it was.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;
let other: Host;

beforeAll(async () => {
  hosts = await Hosts.create("err", 2);
  [host, other] = [hosts.host(1), hosts.host(2)];
  await other.must(["nft", "add", "table", "ip", "f"]);
  const chain = "{ type filter hook input priority 0; }";
  await other.must(["nft", "add", "chain", "ip", "f", "in", chain]);
  // As firewalld does.
  await reject(7002, "reject with icmp type host-prohibited");
  await reject(7003, "drop");
  await host.must(["ip", "route", "add", "prohibit", "10.98.0.0/24"]);
  await host.must(["ip", "route", "add", "blackhole", "10.98.1.0/24"]);
}, 300_000);

afterAll(() => hosts.disposeSync());

/** A firewall on the other host that answers SYNs for a port with an ICMP message. */
const reject = (port: number, how: string) =>
  other.must(["nft", "add", "rule", "ip", "f", "in", "tcp", "dport", String(port), ...how.split(" ")]);

describe("dials that fail", () => {
  const causes: readonly [string, string][] = [
    ["10.99.0.2:7001", "connect: connection refused"],
    ["10.99.0.2:7002", "connect: no route to host"],
    ["10.99.0.2:7003", "connect: connection timed out"],
    ["10.99.0.77:7004", "connect: no route to host"],
    ["192.0.2.1:7005", "connect: network is unreachable"],
    ["10.98.0.1:7006", "connect: permission denied"],
    ["10.98.1.1:7007", "connect: invalid argument"],
  ];

  beforeAll(async () => {
    await host.weave("launch", "--ipalloc-init=consensus=1", ...causes.map(([peer]) => peer));
  }, 300_000);

  test("each has its own cause in status", async () => {
    const told = (text: string) => causes.filter(([peer, why]) => text.includes(`dial tcp ${peer}: ${why}`));
    const text = await eventually(
      "all causes are told",
      () => host.status("connections"),
      (status) => told(status).length === causes.length,
      30_000,
    );
    expect(told(text)).toEqual([...causes]);
    await host.weave("stop");
  }, 300_000);
});

/** Holds a port in the host until it is killed; `script` prints a line once it does. */
async function occupied(script: string, act: (pid: number) => Promise<void>): Promise<void> {
  const child = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe", stderr: "ignore" });
  try {
    const { value } = await child.stdout.getReader().read();
    if (!value) throw new Error("the port was not free");
    await act(Number(new TextDecoder().decode(value)));
  } finally {
    child.kill();
    await child.exited;
  }
}

const tcp = (port: number, address: string) =>
  `require("node:net").createServer().listen(${port}, "${address}", () => console.log(process.pid))`;
const udp = (port: number, address: string) =>
  `require("node:dgram").createSocket("udp4").bind(${port}, "${address}", () => console.log(process.pid))`;

const launch = (...args: string[]) =>
  host.exec([join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1", ...args], { timeoutMs: 20_000 });

describe("a port in use", () => {
  const cases: readonly [string, string, string, string][] = [
    ["mesh", tcp(6783, "0.0.0.0"), "cannot listen for peers on :6783: TCP port 6783", "--port"],
    ["sleeve", udp(6783, "0.0.0.0"), "cannot open sleeve's port 6783: UDP port 6783", "--port"],
    [
      "control API",
      tcp(6784, "127.0.0.1"),
      "cannot serve the control API on 127.0.0.1:6784: TCP port 6784",
      "--http-addr",
    ],
    [
      "DNS",
      udp(53, "127.0.0.1"),
      "cannot answer DNS queries on 127.0.0.1:53: UDP port 53",
      "--dns-listen-address",
    ],
  ];
  test.each(cases)("of %s: the launch names the program that has it", async (_what, script, text, option) => {
    await occupied(script, async (pid) => {
      const { code, stderr } = await launch("--dns-listen-address=127.0.0.1:53");
      expect(stderr).toStartWith(`weave launch: ${text} is in use by bun`);
      expect(stderr).toContain(`(pid ${pid}); stop that, or choose another with ${option}\n`);
      expect(code).toBe(1);
    });
  });

  test("of VXLAN: the router falls back to sleeve, and says who has the port", async () => {
    // The link of an earlier launch has the port.
    await host.weave("reset", "--force");
    await occupied(udp(6784, "0.0.0.0"), async (pid) => {
      const { code, stderr } = await launch();
      expect(code).toBe(0);
      // The sentence alone: fields are for searching the log.
      expect(stderr).toMatch(/^warning: no fast datapath: .*; stop that, or choose another with --port$/m);
      const text = await host.weave("status");
      expect(text).toContain("no VXLAN link on UDP port 6784: UDP port 6784 is in use by bun");
      expect(text).toContain(`(pid ${pid}); stop that, or choose another with --port`);
      expect(await host.weave("report", "-f", "{{.Router.Interface}}")).toBe("sleeve-6783 (sleeve)\n");
    });
    // As soon as the port is free the router uses it.
    await eventually(
      "the fast datapath",
      () => host.weave("report", "-f", "{{.Router.Interface}}"),
      (text) => text.startsWith("vxlan-6784 (fast datapath"),
    );
    expect(await host.must(["ip", "-d", "link", "show", "vxlan-6784"])).toContain("master weave");
    await host.weave("stop");
  });

  test("a link of another kind in the place of weave's TAP link is named", async () => {
    await host.weave("reset", "--force");
    await host.must(["ip", "tuntap", "add", "sleeve-6783", "mode", "tun"]);
    const { code, stderr } = await launch();
    await host.must(["ip", "link", "del", "sleeve-6783"]);
    expect(stderr).toBe("weave launch: link sleeve-6783 is in the way: not weave's TAP link; remove it\n");
    expect(code).toBe(1);
  });
});

test("a port of VXLAN that another link has: that is named", async () => {
  await host.weave("reset", "--force");
  await host.must(["ip", "link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "6784", "dev", "eth0"]);
  await host.must(["ip", "link", "set", "vx9", "up"]);
  expect((await launch()).code).toBe(0);
  expect(await host.weave("status")).toContain(
    "no VXLAN link on UDP port 6784: link vx9 has it; remove that, or choose another with --port",
  );
  await host.weave("stop");
  await host.must(["ip", "link", "del", "vx9"]);
});

test("--host that is none of this host's addresses is refused with those it has", async () => {
  const { code, stderr } = await launch("--host=10.99.0.9");
  expect(stderr).toBe(
    "weave launch: --host 10.99.0.9: not an address of this host; choose one with --host: 127.0.0.1 (lo), 10.99.0.1 (eth0)\n",
  );
  expect(code).toBe(2);
  expect((await launch("--http-addr=10.99.0.9:6784")).stderr).toContain(
    "cannot serve the control API on 10.99.0.9:6784: not an address of this host; choose one with --http-addr: ",
  );
});

test.each([
  ["10.99.0.2:7001", "connection refused; nothing listens on that port there"],
  ["10.99.0.2:7002", "no route to host; that host is down"],
  ["192.0.2.1:7005", "network is unreachable; this host has no route there"],
  ["10.98.0.1:7006", "permission denied; a prohibit route on this host leads there"],
])("an API server of Kubernetes at %s: %s", async (server, text) => {
  const file = join(host.folder, "kubeconfig");
  writeFileSync(
    file,
    `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://${server}"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t}}]
current-context: x
`,
  );
  const explain = [
    "explain",
    "--kubeconfig",
    file,
    "--from",
    "10.32.0.1",
    "--to",
    "10.32.0.2",
    "--port",
    "80",
  ];
  const { code, stderr } = await host.exec([join(DIST, "weave-npc"), ...explain]);
  expect(stderr).toStartWith(`weave-npc explain: https://${server}: ${text}`);
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(code).toBe(1);
});

test("a container runtime whose socket is a leftover is said to be that", async () => {
  const socket = join(host.folder, "docker.sock");
  writeFileSync(socket, "");
  const env = { DOCKER_HOST: `unix://${socket}` };
  const { stderr } = await host.exec([join(DIST, "weave"), "attach", "web"], { env });
  expect(stderr).toBe(
    `weave attach: the container runtime at ${socket} does not answer: connection refused; start it, or name its socket with DOCKER_HOST or --docker-api\n`,
  );
});

test("who is not root is told so, whether the router runs or not", async () => {
  const asNobody = (...args: string[]) =>
    host.exec(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", join(DIST, "weave"), ...args]);
  const remedy = "run it as root, with sudo";
  expect((await asNobody("attach", "web")).stderr).toBe("weave attach: must be run as root; use sudo\n");
  expect((await launch()).code).toBe(0);
  const { code, stderr } = await asNobody("status");
  expect(stderr).toBe(
    `weave status: cannot ask the router at ${join(host.folder, "run/weave.sock")}: permission denied; ${remedy}\n`,
  );
  expect(code).toBe(1);
  const json = JSON.parse((await asNobody("status", "--json")).stderr);
  expect(json.error).toMatchObject({ code: "not-root", hint: remedy });
  await host.weave("stop");
  expect((await host.exec([join(DIST, "weave"), "status"])).stderr).toStartWith(
    "weave status: weave is not running",
  );
});

describe("a command that fails half way", () => {
  const weave = (...args: string[]) => host.exec([join(DIST, "weave"), ...args]);
  const addresses = () =>
    host.must(["curl", "-s", "--unix-socket", join(host.folder, "run/weave.sock"), "x/ip"]);

  beforeAll(() => host.weave("launch", "--ipalloc-init=consensus=1"), 60_000);
  afterAll(() => host.weave("stop"));

  test("attach gives the address back", async () => {
    await host.weave("expose");
    const before = await addresses();
    const { code, stderr } = await weave("attach", "--netns", "/proc/self/ns/net");
    expect([code, stderr]).toEqual([1, expect.stringContaining("/proc/self/ns/net")]);
    expect(await addresses()).toBe(before);
  });

  test("expose leaves what was exposed before", async () => {
    await host.weave("expose", "10.32.0.99/12");
    const before = await addresses();
    const { code, stderr } = await weave("expose", "10.32.0.98/12", "10.32.0.99/12", "-h", "a..b");
    expect([code, stderr]).toEqual([2, expect.stringContaining("is not a domain name")]);
    expect(await addresses()).toBe(before);
    expect(await host.must(["ip", "addr", "show", "weave"])).toContain("10.32.0.99/12");
  });
});
