// The network under the mesh changes, or a router is away for a while: pods talk again within seconds, and no address is
// lost.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { eventually, type Host, Hosts, ipLines } from "../support/hosts.ts";
import { addPod, inPod, type Pod } from "../support/pods.ts";

let hosts: Hosts;

const talk = (from: Pod, to: Pod) =>
  eventually(
    `${from.address} reaches ${to.address}`,
    () => inPod(from, "ping", "-n", "-c", "1", "-W", "1", to.address),
    ({ code }) => code === 0,
  );

const connected = (host: Host, count: number, what = "established") =>
  eventually(
    `${host.name} is connected`,
    () => host.status("connections"),
    (text) => text.split("\n").filter((line) => line.includes(` ${what} `)).length === count,
  );

/** Hosts of which the first was named to all others, connected, with a pod each. */
async function mesh(name: string, count: number, ...options: string[]): Promise<Pod[]> {
  hosts = await Hosts.create(name, count);
  const [a] = hosts.hosts;
  for (const host of hosts.hosts) {
    const peers = host === a ? [] : [hosts.host(1).ip];
    await host.weave("launch", `--ipalloc-init=consensus=${count}`, ...options, ...peers);
  }
  for (const host of hosts.hosts) await connected(host, count - 1);
  const pods: Pod[] = [];
  for (const host of hosts.hosts) pods.push(await addPod(hosts, host, `pod-${host.name}`));
  await allTalk(pods);
  return pods;
}

const allTalk = (pods: readonly Pod[]) =>
  Promise.all(pods.flatMap((from) => pods.flatMap((to) => (from === to ? [] : talk(from, to)))));

/** All pods talk, and all hosts are connected by `overlay`. */
async function recovered(pods: readonly Pod[], overlay: string): Promise<void> {
  await allTalk(pods);
  await Promise.all(hosts.hosts.map((host) => connected(host, pods.length - 1, overlay)));
}

/** How many connections of a host have ended. */
const terminations = async (host: Host) => Number(await host.report("{{.Router.TerminationCount}}"));

/** The same, of several, once each has one connection and none ended within a second: of two at once one does. */
async function settledTerminations(...of: readonly Host[]): Promise<number[]> {
  const look = () => Promise.all(of.map(terminations));
  let last = await look();
  await eventually(
    "no connection ends any more",
    async () => {
      await Bun.sleep(1_000);
      const [before, lists] = [last, await Promise.all(of.map((host) => host.connections()))];
      last = await look();
      return lists.every(({ length }) => length === 1) && last.join() === before.join();
    },
    Boolean,
  );
  return last;
}

describe.each([
  ["by the fast datapath", "fastdp", []],
  ["with a password", "sleeve", ["--password=s3cr3t"]],
  ["by sleeve", "sleeve", ["--no-fastdp"]],
] as const)("a host that all others were told of gets another address, %s", (_how, overlay, options) => {
  afterEach(() => hosts.disposeSync());

  test("and is back under its name; no connection is left to the old one", async () => {
    const pods = await mesh(`ad${overlay[0]}${options.length}`, 3, ...options);
    const [a, b] = [hosts.host(1), hosts.host(2)];
    await a.must(["ip", "addr", "del", `${a.ip}/24`, "dev", "eth0"]);
    await a.must(["ip", "addr", "add", "10.99.0.101/24", "dev", "eth0"]);
    await recovered(pods, overlay);
    await a.logged("connection shutting down due to error: this host has no address 10.99.0.1 any more");
    // Until b has noticed, its old connection counts as established.
    await eventually(
      "b is connected to the new address",
      () => b.status("connections"),
      (text) => /10\.99\.0\.101:\d+ +established /.test(text),
    );
    for (const host of hosts.hosts) {
      const status = await host.status();
      expect(status).not.toContain("is refused since");
      expect(status).not.toContain("is that of two hosts");
    }
  }, 300_000);
});

describe("two hosts, one after the other", () => {
  let pods: Pod[];
  let a: Host;
  let b: Host;
  const ip = (...args: string[]) => a.must(["ip", ...args]);

  beforeAll(async () => {
    pods = await mesh("two", 2);
    [a, b] = [hosts.host(1), hosts.host(2)];
  });

  afterAll(() => hosts.disposeSync());

  test("a host with two addresses loses the one in use, gets it back, and loses the other one", async () => {
    /** It uses this address, and has given the other one up since it is gone, not when nothing came from it any more. */
    const uses = async (address: string, gone: string) => {
      await eventually(
        `a connection from ${address}`,
        () => b.status("connections"),
        (text) =>
          new RegExp(`${address}:\\d+ +established fastdp `).test(text) &&
          !new RegExp(`${gone}:\\d+ +established `).test(text),
      );
      await eventually(
        "the other one was given up",
        () => a.log,
        // Or at once for that of b, which may come first.
        (log) => new RegExp(`no address ${gone} any more|Multiple connections to`).test(log),
      );
    };
    await ip("addr", "add", "10.99.0.101/24", "dev", "eth0");
    await eventually(
      "the address is seen",
      () => a.log,
      (log) => log.includes("got 10.99.0.101"),
    );
    // What works goes on.
    expect(await terminations(a)).toBe(0);
    await a.must(["sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1"]);
    await ip("addr", "del", "10.99.0.1/24", "dev", "eth0");
    await uses("10.99.0.101", "10.99.0.1");
    await recovered(pods, "fastdp");
    // At once: b goes on dialling the address that it was told of, and its connection may take the place of this one.
    await ipLines(a.netns, "addr add 10.99.0.1/24 dev eth0", "addr del 10.99.0.101/24 dev eth0");
    await uses("10.99.0.1", "10.99.0.101");
    await recovered(pods, "fastdp");
  }, 300_000);

  test("a router that was stopped for longer than others wait for it is back, and so are routers that were all stopped", async () => {
    process.kill(a.pid, "SIGSTOP");
    // As after a long sleep: the others do not know its connections any more.
    await b.weave("stop");
    await Bun.sleep(6_000);
    await b.weave("launch", "--ipalloc-init=consensus=2", a.ip);
    process.kill(a.pid, "SIGCONT");
    await recovered(pods, "fastdp");
    await a.logged(/this router did not run for \d+ s; checking connections/);
    const before = await settledTerminations(a, b);
    for (const host of [a, b]) process.kill(host.pid, "SIGSTOP");
    await Bun.sleep(6_000);
    for (const host of [a, b]) process.kill(host.pid, "SIGCONT");
    await eventually(
      "it is noticed",
      () => b.log,
      (log) => log.includes("did not run for"),
    );
    await recovered(pods, "fastdp");
    // Nothing was wrong, and nothing was made anew.
    expect(await Promise.all([a, b].map(terminations))).toEqual(before);
  }, 300_000);

  test("while the VXLAN link cannot be put back, sleeve carries the frames, and nothing is shown as fastdp", async () => {
    await recovered(pods, "fastdp");
    const { pid } = a;
    // Another one has its name before the router, which would put its own back at once, looks again.
    process.kill(pid, "SIGSTOP");
    await ipLines(a.netns, "link del vxlan-6784", "link add vxlan-6784 type bridge");
    process.kill(pid, "SIGCONT");
    const line =
      / established sleeve .*\(fastdp: link vxlan-6784 is in the way: not an external VXLAN link on UDP port 6784/;
    await eventually(
      "fastdp is left",
      () => a.status("connections"),
      (text) => line.test(text),
    );
    await recovered(pods, "sleeve");
    await eventually(
      "the other end says why",
      () => b.status("connections"),
      (text) => text.includes("(fastdp: heartbeats do not arrive any more"),
    );
    await ip("link", "del", "vxlan-6784");
    await recovered(pods, "fastdp");
    expect(a.pid).toBe(pid);
    expect(a.log).not.toContain("unexpected error");
  }, 300_000);

  test("the path of a host moves to another link, the link to it goes down, and is removed and made again", async () => {
    const { length } = a.log;
    await ip("link", "set", "eth0", "down");
    await eventually(
      "the connection ends",
      () => a.log.slice(length),
      // Whichever is noticed first: that nothing is acknowledged, or that no overlay can send.
      (log) =>
        /shutting down due to error: .*(acknowledges nothing|no working forwarders .*ENETUNREACH)/.test(log),
    );
    await ip("link", "set", "eth0", "up");
    await recovered(pods, "fastdp");
    // A second link takes over, with the old one still up and its address still there.
    await hosts.addLink(a, "eth1", "10.99.0.51/24");
    await ip("route", "add", b.ip, "dev", "eth1", "src", "10.99.0.51");
    await ip("link", "del", "eth0");
    await recovered(pods, "fastdp");
    expect(await b.weave("status", "connections")).toContain("10.99.0.51:");
  }, 300_000);
});
