// Sleeve over bad networks: what is lost, repeated, out of order, cut off or moved on its way.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, type Pod, ping, podCommand, transfer } from "../support/pods.ts";
import type { Treatment } from "../support/relay.ts";

let hosts: Hosts;

interface Network {
  readonly a: Host;
  readonly b: Host;
  readonly one: Pod;
  readonly two: Pod;
  treat(treatment: Treatment): void;
}

const mtu = async (host: Host) =>
  Number((await host.status("connections")).match(/ sleeve .*mtu=(\d+)/)?.[1]);

const established = (host: Host) =>
  eventually(
    "a connection by sleeve",
    () => host.status("connections"),
    (text) => / established .*sleeve /.test(text),
    60_000,
  );

async function network(name: string, options: readonly string[], first: Treatment = {}): Promise<Network> {
  hosts = await Hosts.create(name, 2);
  const [a, b] = [hosts.host(1), hosts.host(2)];
  const treat = await hosts.impair(a);
  treat(first);
  await a.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options);
  await b.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options, a.ip);
  for (const host of [a, b]) await established(host);
  const one = await addPod(hosts, a, "one");
  const two = await addPod(hosts, b, "two");
  return { a, b, one, two, treat };
}

/** How many of `count` pings are answered. */
async function answered(from: Pod, to: Pod, count: number): Promise<number> {
  const { stdout } = await exec(
    podCommand(from, "ping", "-n", "-c", String(count), "-i", "0.02", "-W", "2", to.address),
  );
  return Number(stdout.match(/(\d+) received/)?.[1]);
}

async function carries({ one, two }: Network, bytes: number): Promise<void> {
  const { sent, received } = await transfer(one, two, bytes);
  expect(sent).not.toBe("");
  expect(received).toBe(sent);
}

describe.each([
  ["plain", [], 1438],
  ["encrypted", ["--password=s3cr3t"], 1398],
] as const)("%s", (kind, options, full) => {
  const id = (what: string) => `${what}${kind[0]}`;

  /** Questions of ARP that are lost hold up many packets each; what is asked here is what becomes of packets. */
  const introduce = async ({ one, two }: Network): Promise<void> => {
    for (const [pod, other] of [
      [one, two],
      [two, one],
    ] as const) {
      const neighbour = [other.address, "lladdr", other.mac, "nud", "permanent", "dev", "eth0"];
      await must(["ip", "-n", pod.netns, "neigh", "replace", ...neighbour]);
    }
  };

  describe("over one network", () => {
    let net: Network;
    beforeAll(async () => {
      net = await network(id("los"), options, { loss: 0.05 });
      await introduce(net);
    });
    afterAll(() => hosts.disposeSync());

    test("5 % of all packets lost: pods notice no more than on the bare network", async () => {
      const got = await answered(net.one, net.two, 200);
      // Each ping crosses the network twice: 180 of 200 on average.
      expect(got).toBeGreaterThan(150);
      await carries(net, 1 << 20);
    });

    test("30 % lost: connections come up, stay, and carry", async () => {
      net.treat({ loss: 0.3 });
      const got = await answered(net.one, net.two, 200);
      expect(got).toBeGreaterThan(60);
      expect(await net.b.weave("status", "connections")).toContain(" established ");
      net.treat({});
      await carries(net, 1 << 20);
    });

    test("out of order and repeated: all arrives, once", async () => {
      net.treat({ reorder: 0.1, duplicate: 0.1 });
      const { stdout } = await exec(
        podCommand(net.one, "ping", "-n", "-c", "200", "-i", "0.02", "-W", "2", net.two.address),
      );
      expect(Number(stdout.match(/(\d+) received/)?.[1])).toBeGreaterThan(190);
      // What the network repeats is told from what was sent again only by its sequence number.
      if (kind === "encrypted") expect(stdout).not.toContain("duplicates");
      await carries(net, 4 << 20);
    });

    test("a peer that starts again is reached again", async () => {
      net.treat({});
      await net.b.weave("stop");
      await net.b.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options, net.a.ip);
      await established(net.b);
      await eventually(
        "pods talk",
        () => ping(net.one, net.two.address),
        ({ code }) => code === 0,
      );
      await carries(net, 1 << 20);
    });
  });

  describe("each over a network of its own", () => {
    afterEach(() => hosts.disposeSync());

    test("a path with an MTU of 1280 that sends ICMP errors: packets fit it within seconds", async () => {
      const net = await network(id("mtu"), options);
      await eventually(
        "the whole MTU",
        () => mtu(net.b),
        (value) => value === full,
      );
      net.treat({ mtu: 1280, tell: true });
      // Nothing tells but what is too big.
      const want = full - 220;
      await Promise.all([
        carries(net, 1 << 20),
        eventually(
          "a smaller MTU",
          () => mtu(net.a),
          (value) => value === want,
          60_000,
        ),
      ]);
      await carries({ ...net, one: net.two, two: net.one }, 1 << 20);
    });

    test("a path that drops large packets without an ICMP error: the MTU is found by tests", async () => {
      const net = await network(id("blk"), options);
      await eventually(
        "the whole MTU",
        () => mtu(net.b),
        (value) => value === full,
      );
      net.treat({ mtu: 1280 });
      // A path is looked at again while it is in use.
      const flow = Bun.spawn(podCommand(net.one, "ping", "-n", "-i", "0.5", net.two.address), {
        stdout: "ignore",
      });
      try {
        for (const host of [net.a, net.b]) {
          await eventually(
            "a smaller MTU",
            () => mtu(host),
            (value) => value === full - 220,
            60_000,
          );
        }
        await carries(net, 1 << 20);
      } finally {
        flow.kill();
        await flow.exited;
      }
    });

    test("a path that works in one direction only carries nothing, and is no connection", async () => {
      hosts = await Hosts.create(id("one"), 2);
      const [a, b] = [hosts.host(1), hosts.host(2)];
      const treat = await hosts.impair(a);
      treat({ oneWay: true });
      await a.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options);
      await b.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options, a.ip);
      await eventually(
        "a connection",
        () => a.status("connections"),
        (text) => text.includes(" sleeve "),
      );
      await eventually(
        "several datagrams have been sent in vain",
        async () => /^Udp: \d+ \d+ \d+ (\d+)/m.exec(await b.must(["grep", "^Udp:", "/proc/net/snmp"]))?.[1],
        (sent) => Number(sent) >= 4,
      );
      for (const host of [a, b]) {
        const routes = JSON.parse(await host.weave("report", "-f", "{{json .Router.UnicastRoutes}}"));
        expect(routes.length).toBe(1);
      }
      treat({});
      for (const host of [a, b]) await established(host);
    });

    test("a peer whose address and port change on the way, as behind NAT, is followed", async () => {
      const net = await network(id("nat"), options);
      await net.a.must(["ip", "addr", "add", "10.99.0.11/24", "dev", "eth0"]);
      net.treat({ translate: { from: "10.99.0.1", to: "10.99.0.11", port: 40_000 } });
      await eventually(
        "the new address",
        () => net.b.log,
        (text) => /the UDP address of the peer has changed to 10\.99\.0\.11:40000/.test(text),
        60_000,
      );
      await eventually(
        "pods talk",
        () => ping(net.one, net.two.address),
        ({ code }) => code === 0,
      );
      await carries(net, 1 << 20);
      await carries({ ...net, one: net.two, two: net.one }, 1 << 20);
    });
  });
});
