// The flow cache with the executables, on two hosts: what takes the fast path, what is counted, and that all of it ends where it is
// switched off. What passes it is in flowmodel.test.ts.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { TrafficSample } from "../../lib/api/traffic.ts";
import { fastTraffic } from "../support/flowpods.ts";
import { FLOW_PORT } from "../support/flowprobe.ts";
import { FlowWorld } from "../support/flowworld.ts";
import { eventually, type Host, must } from "../support/hosts.ts";

const BRIDGED = "net.bridge.bridge-nf-call-iptables";
const STREAM_PORT = 7_100;
const CONNTRACK = ["be_liberal", "ignore_invalid_rst"].map(
  (name) => `net.netfilter.nf_conntrack_tcp_${name}`,
);

let world: FlowWorld;
let hosts: readonly [Host, Host];

beforeAll(async () => {
  world = await FlowWorld.create("flow");
  hosts = [world.a, world.b];
  await world.allTalk();
}, 300_000);
afterAll(() => world?.disposeSync());

/** Packets by the fast path while all talk. */
async function fastNow(host: Host): Promise<bigint> {
  const before = fastTraffic(host);
  await world.allTalk();
  await Bun.sleep(100);
  const after = fastTraffic(host);
  return after.sentPackets - before.sentPackets + after.receivedPackets - before.receivedPackets;
}

/** Let the packet filter see bridged packets, or not: those of all bridges, or of ours alone. */
async function filterBridged(all: boolean, own: boolean): Promise<void> {
  const filtered = async (host: Host) =>
    JSON.parse(await host.report("{{json .}}")).Router.OverlayDiagnostics.fastdp.flowCache.Filtered;
  for (const host of hosts) {
    await host.must(["sysctl", "-qw", `${BRIDGED}=${Number(all)}`]);
    await host.must([
      "ip",
      "link",
      "set",
      "weave",
      "type",
      "bridge",
      "nf_call_iptables",
      String(Number(own)),
    ]);
  }
  for (const host of hosts)
    await eventually(
      "the packet filter is seen",
      () => filtered(host),
      (seen) => seen === (all || own),
    );
}

const conntrack = async (host: Host) =>
  (await host.must(["sysctl", "-n", ...CONNTRACK])).trim().split("\n").map(Number);

test.each([
  ["without a packet filter", false, false],
  ["through a packet filter that sees the packets of this bridge", false, true],
  ["through a packet filter that sees the packets of all bridges", true, false],
])(
  "flows between hosts, and between containers of a host, take the fast path: %s",
  async (_what, all, own) => {
    await filterBridged(all, own);
    await world.allTalk();
    for (const host of hosts) expect(await fastNow(host)).toBeGreaterThan(10n);
    expect(await world.a.status("connections")).toContain("path=direct");
    for (const host of hosts) expect(await conntrack(host)).toEqual([1, 1]);
  },
);

const RECEIVER = `
  const server = require("node:net").createServer((socket) => socket.resume().on("end", () => process.exit(0)));
  server.listen(${STREAM_PORT}, () => console.log("ready"));`;
/** Sends as fast as it can until its input ends. */
const SENDER = `
  const socket = require("node:net").connect(${STREAM_PORT}, process.argv.at(-1));
  const chunk = Buffer.alloc(65_536);
  let more = true;
  const send = () => more ? socket.write(chunk, send) : socket.end();
  socket.on("connect", send);
  process.stdin.resume().on("end", () => { more = false; });`;

/**
 * Send from one container of a host to another until the returned function is called. It returns how many packets the host's packet
 * filter dropped as invalid, as rules of kube-proxy and policies for isolated pods do.
 */
async function streaming(host: Host): Promise<() => Promise<string>> {
  const [to, from] = world.ends.filter((end) => end.host === host);
  if (!from || !to) throw new Error("two pods of one host are needed");
  const rule = "ct state invalid counter drop";
  const table = `table inet t { chain c { type filter hook postrouting priority 90; ${rule}; }; }\n`;
  await host.must(["nft", "-f", "-"], { stdin: table });
  const inside = (netns: string, ...command: string[]) => ["ip", "netns", "exec", netns, ...command];
  const receiver = Bun.spawn(inside(to.netns, process.execPath, "-e", RECEIVER), { stdout: "pipe" });
  for await (const _ of receiver.stdout) break;
  const sender = Bun.spawn(inside(from.netns, process.execPath, "-e", SENDER, to.address), { stdin: "pipe" });
  return async () => {
    const told = await host.must(["nft", "list", "table", "inet", "t"]);
    await host.must(["nft", "delete", "table", "inet", "t"]);
    sender.stdin.end();
    expect([await sender.exited, await receiver.exited]).toEqual([0, 0]);
    return /counter packets (\d+)/.exec(told)?.[1] ?? told;
  };
}

test("a connection stays valid when the packet filter begins to see bridged packets as it opens", async () => {
  const { a } = world;
  await filterBridged(false, false);
  await a.must(["sysctl", "-qw", `${BRIDGED}=1`]);
  const end = await streaming(a);
  await Bun.sleep(1_000);
  expect(await end()).toBe("0");
});

const CONNECTIONS = 400;
/** Opens connections, 50 at a time, and closes them. */
const OPENER = `
  const [address, port] = process.argv.slice(-2);
  const one = () => new Promise((done) => {
    const socket = require("node:net").connect(Number(port), address, () => socket.end());
    socket.resume().on("error", () => {}).on("close", done);
  });
  for (let i = 0; i < ${CONNECTIONS / 50}; i++) await Promise.all(Array.from({ length: 50 }, one));`;

test("most first and last packets of connections bypass the underlay's packet filter", async () => {
  const { a, b } = world;
  await filterBridged(true, false);
  await world.allTalk();
  const [from] = world.pods.filter(({ host }) => host === a);
  const [to] = world.pods.filter(({ host }) => host === b);
  if (!from || !to) throw new Error("a pod on each host is needed");
  const chain = (hook: string) =>
    `chain ${hook} { type filter hook ${hook} priority 0; udp dport 6784 counter; }`;
  const table = `table ip t { ${chain("input")}; ${chain("output")}; }\n`;
  const wire = async () => Number(await a.must(["cat", "/sys/class/net/eth0/statistics/tx_packets"]));
  for (const host of hosts) await host.must(["nft", "-f", "-"], { stdin: table });
  const before = await wire();
  const opener = ["ip", "netns", "exec", from.netns, process.execPath, "-e", OPENER, to.address];
  await must([...opener, String(FLOW_PORT)]);
  const sent = (await wire()) - before;
  const told = await Promise.all(
    hosts.map(async (host) => {
      const text = await host.must(["nft", "list", "table", "ip", "t"]);
      await host.must(["nft", "delete", "table", "ip", "t"]);
      return [...text.matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));
    }),
  );
  // SYN and FIN of each at least, and what the containers exchange all the time; the packet filter sees one in 80 ms of each neighbour.
  expect(sent).toBeGreaterThan(2 * CONNECTIONS);
  for (const packets of told.flat()) expect(packets).toBeLessThan(sent / 8);
  // Not none either: what it decides is asked again and again.
  for (const packets of told.flat()) expect(packets).toBeGreaterThan(0);
});

const DATAGRAM_PORT = 7_200;
const ROUNDS = 50;
/** Answers each datagram with its number of bytes. */
const ANSWERER = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", ${DATAGRAM_PORT}))
print("ready", flush=True)
while True:
    data, sender = s.recvfrom(65536)
    s.sendto(str(len(data)).encode(), sender)`;
/** Sends 10 datagrams of 1,000 bytes by one call (UDP_SEGMENT, 103) and waits for the answers; prints how many came. */
const SEGMENTER = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], ${DATAGRAM_PORT}))
s.setsockopt(socket.IPPROTO_UDP, 103, 1000)
s.settimeout(2)
answers = 0
try:
    for _ in range(${ROUNDS}):
        s.send(bytes(10000))
        for _ in range(10):
            assert s.recv(100) == b"1000"
            answers += 1
except TimeoutError:
    pass
print(answers)`;

test("datagrams that one call sends (UDP_SEGMENT) arrive, on the same host and on another", async () => {
  const [from, near] = world.pods.filter(({ host }) => host === world.a);
  const [far] = world.pods.filter(({ host }) => host === world.b);
  if (!from || !near || !far) throw new Error("two pods on one host and one on the other are needed");
  const python = (netns: string, script: string) => ["ip", "netns", "exec", netns, "python3", "-c", script];
  for (const to of [near, far]) {
    const answerer = Bun.spawn(python(to.netns, ANSWERER), { stdout: "pipe" });
    await answerer.stdout.getReader().read();
    const answered = await must([...python(from.netns, SEGMENTER), to.address]);
    answerer.kill();
    expect(Number(answered)).toBe(10 * ROUNDS);
  }
});

test("counters of containers include what takes the fast path", async () => {
  const { b } = world;
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

test("a program at a container's port that others remove is put back", async () => {
  const { a } = world;
  const [port = ""] = /vethwe\w+/.exec(await a.must(["ip", "-br", "link"])) ?? [];
  const programs = () => a.must(["tc", "filter", "show", "dev", port, "egress"]);
  expect(await programs()).toContain("weave_confirm");
  await a.must(["tc", "filter", "del", "dev", port, "egress"]);
  await eventually("the program is back", programs, (text) => text.includes("weave_confirm"));
});

describe("--no-flow-cache", () => {
  test("ends it, with all its programs on links of the underlay, and puts conntrack's settings back", async () => {
    const { a } = world;
    await filterBridged(true, false);
    expect(await conntrack(a)).toEqual([1, 1]);
    const end = await streaming(a);
    await Bun.sleep(500);
    await a.weave("stop");
    await a.weave("launch", "--ipalloc-init=consensus=2", "--no-flow-cache");
    await world.allTalk();
    // Of a connection that was cached conntrack has missed packets.
    expect(await end()).toBe("0");
    expect(await fastNow(a)).toBe(0n);
    expect(await a.status("connections")).not.toContain("path=");
    expect(await a.must(["bpftool", "net"]).catch(() => "")).not.toContain("weave_arrive");
    expect(await conntrack(a)).toEqual([0, 0]);
  });
});

test("reset puts conntrack's settings back", async () => {
  const { b } = world;
  expect(await conntrack(b)).toEqual([1, 1]);
  await b.weave("reset", "--force");
  expect(await conntrack(b)).toEqual([0, 0]);
});
