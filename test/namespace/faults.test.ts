// Sleeve over bad networks: what is lost, repeated, out of order, cut off or moved on its way.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
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

/** Two hosts whose routers know of each other; the network is bad between them from the beginning. */
async function launched(name: string, options: readonly string[], first: Treatment) {
  hosts = await Hosts.create(name, 2);
  const [a, b] = [hosts.host(1), hosts.host(2)];
  const treat = await hosts.impair(a);
  treat(first);
  await a.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options);
  await b.weave("launch", "--ipalloc-init=consensus=2", "--no-fastdp", ...options, a.ip);
  return { a, b, treat };
}

/** Their pods, once they are connected. */
async function withPods(net: Omit<Network, "one" | "two">): Promise<Network> {
  for (const host of [net.a, net.b]) await established(host);
  const one = await addPod(hosts, net.a, "one");
  const two = await addPod(hosts, net.b, "two");
  return { ...net, one, two };
}

const network = async (name: string, options: readonly string[], first: Treatment = {}) =>
  withPods(await launched(name, options, first));

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
      expect(await net.b.status("connections")).toContain(" established ");
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

    test("a peer whose address and port change on the way, as behind NAT, is followed", async () => {
      net.treat({});
      await established(net.b);
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

  describe("over a network that is bad from the beginning", () => {
    let net: Omit<Network, "one" | "two">;
    beforeAll(async () => {
      net = await launched(id("one"), options, { oneWay: true });
    });
    afterAll(() => hosts.disposeSync());

    test("a path that works in one direction only carries nothing, and is no connection", async () => {
      const { a, b } = net;
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
        const routes = JSON.parse(await host.report("{{json .Router.UnicastRoutes}}"));
        expect(routes.length).toBe(1);
      }
      net.treat({});
      for (const host of [a, b]) await established(host);
    });

    test("a path with an MTU of 1280 that sends ICMP errors: packets fit it within seconds", async () => {
      net.treat({});
      const pods = await withPods(net);
      await eventually(
        "the whole MTU",
        () => mtu(net.b),
        (value) => value === full,
      );
      net.treat({ mtu: 1280, tell: true });
      // Nothing tells but what is too big.
      const want = full - 220;
      await Promise.all([
        carries(pods, 1 << 20),
        eventually(
          "a smaller MTU",
          () => mtu(net.a),
          (value) => value === want,
          60_000,
        ),
      ]);
      await carries({ ...pods, one: pods.two, two: pods.one }, 1 << 20);
    });
  });

  describe("over a network of its own", () => {
    afterAll(() => hosts.disposeSync());

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
  });
});
