// weaveDNS in a router: where it listens as addresses come, go and are taken, whom it asks, and what ends with it.
import { describe, expect, spyOn, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cidr, parseCidr } from "../../lib/address/ipv4.ts";
import { CHANNEL } from "../../lib/dns/wire.ts";
import { MUTE } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import { startDns, startNames } from "../../lib/router/dns.ts";
import { eventually } from "../support/hosts.ts";
import { indexOf, isRoot } from "../support/newnetns.ts";
import { FakeMonitor, RouterBench } from "../support/routercontext.ts";

const [OWN, OTHER] = [nameFromNumber(1n), nameFromNumber(2n)];
const [A, B] = [parseCidr("10.32.0.1/24"), parseCidr("10.32.0.2/24")];
const [AT_A, AT_B] = ["10.32.0.1:53", "10.32.0.2:53"];

/** A mesh of which the names see the peers and the channel. */
function meshOf(known = new Set([OWN, OTHER])) {
  const listeners: { peersGone?(peers: { name: typeof OWN }[]): void }[] = [];
  const channels: string[] = [];
  const mesh = {
    ourself: { name: OWN },
    peers: { get: (name: typeof OWN) => (known.has(name) ? {} : undefined) },
    listen: (listener: (typeof listeners)[number]) => void listeners.push(listener),
    channel(name: string) {
      channels.push(name);
      return MUTE;
    },
  };
  return { mesh: mesh as never, listeners, channels, known };
}

/** Let what has begun go on. */
const turns = async () => {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
};
const same = (wanted: readonly string[]) => (now: readonly (string | undefined)[]) =>
  now.join() === wanted.join();

/** Take an address's port for queries, as another server would. */
const take = (hostname: string) => Bun.udpSocket({ hostname, port: 53 });

describe.if(isRoot)("DNS of a router", () => {
  async function dnsOf(bench: RouterBench, raw: Record<string, unknown> = {}, resolvers = "") {
    const resolvConf = join(bench.folder, "resolv.conf");
    writeFileSync(resolvConf, resolvers);
    const opened = bench.open({ "resolv-conf": resolvConf, "docker-bridge": "", ...raw });
    const { route } = opened.context;
    for (const cidr of [A, B]) addressAdd(route, "lo", indexOf(route, "lo"), cidr);
    const monitor = new FakeMonitor();
    const names = startNames(opened.context, meshOf().mesh) ?? expect.unreachable();
    const dns = await startDns(opened.context, { monitor } as never, names);
    const warnings = () => opened.lines.filter((line) => line.startsWith("warning")).length;
    return { ...opened, monitor, dns, warnings, at: () => [...dns.server.addresses].sort() };
  }

  test("tries an address that another server has every 5 s until it is free, and says so once a minute", async () => {
    await using bench = new RouterBench();
    const { dns, clock, at, warnings, lines } = await dnsOf(bench);
    const other = await take("10.32.0.1");
    await dns.bridgeHas([A, B]);
    expect([at(), dns.address(), warnings()]).toEqual([[AT_B], AT_B, 1]);
    expect(lines.find((line) => line.startsWith("warning"))).toContain(
      `cannot answer DNS queries on ${AT_A}: `,
    );
    expect(dns.problems()).toEqual([
      {
        Check: "dns",
        Found: expect.stringContaining(`cannot answer DNS queries on ${AT_A}: UDP port 53 is in use by `),
        Advice: "stop that, or choose another with --dns-listen-address",
      },
    ]);
    const pass = async (ms: number) => {
      clock.advance(ms);
      await dns.bridgeHas([A, B]);
    };
    for (let i = 0; i < 11; i++) await pass(5_000);
    expect([at(), warnings()]).toEqual([[AT_B], 1]);
    await pass(5_000);
    expect(warnings()).toBe(2);
    other.close();
    await pass(4_999);
    expect(at()).toEqual([AT_B]);
    await pass(1);
    expect([at(), dns.address(), warnings()]).toEqual([[AT_A, AT_B], AT_A, 2]);
    expect(dns.problems()).toEqual([]);
    // Nothing is left to try.
    await pass(60_000);
    expect([at(), warnings()]).toEqual([[AT_A, AT_B], 2]);
    // What was open all the while has not been opened again.
    const opened = lines.filter((line) => line === "info: answering DNS queries").length;
    expect(opened).toBe(2);
  });

  test("tries only what is wanted last: 5 s after that, and not once all is open", async () => {
    await using bench = new RouterBench();
    const { dns, clock } = await dnsOf(bench);
    const other = await take("10.32.0.1");
    const listen = spyOn(dns.server, "listen");
    const tried = async (wanted: Cidr[]) => {
      await dns.bridgeHas(wanted);
      return listen.mock.calls.splice(0).map(([address]) => address);
    };
    expect(await tried([A])).toEqual([AT_A]);
    clock.advance(2_000);
    expect(await tried([A, B])).toEqual([AT_A, AT_B]);
    clock.advance(4_999);
    expect(await tried([A, B])).toEqual([]);
    clock.advance(1);
    expect(await tried([A, B])).toEqual([AT_A, AT_B]);
    other.close();
    clock.advance(5_000);
    expect(await tried([A, B])).toEqual([AT_A, AT_B]);
    clock.advance(60_000);
    expect(await tried([A, B])).toEqual([]);
  });

  test("is not tried again once the router stops, or wants the address no more", async () => {
    await using bench = new RouterBench();
    const { dns, clock, at, warnings, scope } = await dnsOf(bench);
    const other = await take("10.32.0.1");
    await dns.bridgeHas([A]);
    await dns.bridgeHas([B]);
    clock.advance(300_000);
    await dns.bridgeHas([B]);
    expect([at(), warnings()]).toEqual([[AT_B], 1]);
    await dns.bridgeHas([A]);
    expect(at()).toEqual([]);
    await scope.end();
    other.close();
    clock.advance(60_000);
    await dns.bridgeHas([]);
    await dns.bridgeHas([A]);
    expect(at()).toEqual([]);
  });

  test("follows the addresses of Docker's bridge, as the kernel reports them, and loses none", async () => {
    await using bench = new RouterBench();
    const { dns, context, monitor, at, scope } = await dnsOf(bench, { "docker-bridge": "dock" });
    const { route } = context;
    await dns.bridgeHas([A]);
    expect(at()).toEqual([AT_A]);
    linkAdd(route, { kind: "bridge", name: "dock", up: true });
    addressAdd(route, "dock", indexOf(route, "dock"), parseCidr("172.17.0.1/16"));
    for (const kind of ["links", "routes", "netconf", "trafficcontrol"] as const) monitor.changed({ kind });
    await turns();
    expect(at()).toEqual([AT_A]);
    monitor.changed({ kind: "addresses" });
    await eventually("it listens there", at, same([AT_A, "172.17.0.1:53"]));
    // Containers of Docker know its bridge: it is the first to be told.
    expect(dns.address()).toBe("172.17.0.1:53");
    addressAdd(route, "dock", indexOf(route, "dock"), parseCidr("172.18.0.1/16"));
    monitor.lost();
    await eventually("it listens there, too", at, same([AT_A, "172.17.0.1:53", "172.18.0.1:53"]));
    await dns.bridgeHas([]);
    expect(at()).toEqual(["172.17.0.1:53", "172.18.0.1:53"]);
    await scope.end();
    // Its own listener; that of all addresses was never opened.
    expect([monitor.listeners.size, at()]).toEqual([0, []]);
    (await take("172.17.0.1")).close();
  });

  test("listens where --dns-listen-address says and nowhere else; an address that is taken is an error", async () => {
    await using bench = new RouterBench();
    const { dns, at, monitor, context } = await dnsOf(bench, { "dns-listen-address": "10.32.0.2:5353" });
    expect(dns.address()).toBe("10.32.0.2:5353");
    await dns.bridgeHas([A]);
    monitor.changed({ kind: "addresses" });
    expect([at(), dns.address()]).toEqual([["10.32.0.2:5353"], "10.32.0.2:5353"]);
    const names = startNames(context, meshOf().mesh) ?? expect.unreachable();
    await expect(startDns(context, { monitor } as never, names)).rejects.toThrow(
      "cannot answer DNS queries on 10.32.0.2:5353: ",
    );
  });

  const RESOLVERS = "nameserver 10.32.0.1\nnameserver 10.99.0.9\nnameserver 10.32.0.2\n";
  test.each<[string, Record<string, unknown>, string[]]>([
    ["a router asks no address of its own", {}, ["10.99.0.9", "10.32.0.2"]],
    ["nor one of all, where it listens on all", { "dns-listen-address": ":53" }, ["10.99.0.9"]],
    [
      "but a server at another port of this host",
      { "dns-listen-address": ":5353" },
      ["10.32.0.1", "10.99.0.9", "10.32.0.2"],
    ],
    [
      "or at an address that it does not listen on",
      { "dns-listen-address": "10.32.0.2:53" },
      ["10.32.0.1", "10.99.0.9"],
    ],
  ])("%s", async (_, raw, asked) => {
    await using bench = new RouterBench();
    const { dns } = await dnsOf(bench, raw, RESOLVERS);
    await dns.bridgeHas([A]);
    expect(dns.upstream()).toEqual(asked);
    await dns.bridgeHas([A, B]);
    if (Object.keys(raw).length === 0) expect(dns.upstream()).toEqual(["10.99.0.9"]);
  });

  test("on all addresses, listens on those that come, once the kernel reports them", async () => {
    await using bench = new RouterBench();
    const { monitor, context } = await dnsOf(bench, { "dns-listen-address": ":53" });
    const opened = spyOn(Bun, "udpSocket");
    const at = () => opened.mock.calls.map(([{ hostname }]) => hostname);
    try {
      const { route } = context;
      addressAdd(route, "lo", indexOf(route, "lo"), parseCidr("10.33.0.1/24"));
      monitor.changed({ kind: "links" });
      await turns();
      expect(at()).toEqual([]);
      monitor.changed({ kind: "addresses" });
      await eventually("it listens there", at, same(["10.33.0.1"]));
      addressAdd(route, "lo", indexOf(route, "lo"), parseCidr("10.34.0.1/24"));
      monitor.lost();
      await eventually("it listens there, too", at, same(["10.33.0.1", "10.34.0.1"]));
    } finally {
      opened.mockRestore();
    }
  });

  test("tells the limits and notes of its parts", async () => {
    await using bench = new RouterBench();
    const { dns } = await dnsOf(bench);
    await dns.bridgeHas([A]);
    expect(dns.limits().map(({ name }) => name)).toEqual([
      ...dns.nameserver.limits().map(({ name }) => name),
      "forwarded-queries",
      "forwarded-queries-of-one-client",
      "dns-queries-waiting",
      "dns-queries-waiting-of-one-address",
      "dns-connections",
      "dns-connections-of-one-address",
    ]);
    expect(dns.notes()).toEqual(dns.nameserver.notes());
  });
});

describe.if(isRoot)("names of a router", () => {
  test("are none without DNS, which opens no channel", async () => {
    await using bench = new RouterBench();
    const { mesh, channels, listeners } = meshOf();
    expect(startNames(bench.open({ dns: false }).context, mesh)).toBeUndefined();
    expect([channels, listeners]).toEqual([[], []]);
  });

  test("are ours by the mesh's name, in the domain of the options, and are there after a restart", async () => {
    await using bench = new RouterBench();
    const { context, scope } = bench.open({ "dns-domain": "example." });
    const { mesh, channels } = meshOf();
    const names = startNames(context, mesh) ?? expect.unreachable();
    expect([names.config.ourName, names.config.domain, channels]).toEqual([OWN, "example.", [CHANNEL]]);
    names.add("web.example.", "c1", A.address);
    const stopped = spyOn(names, "stop");
    await scope.end();
    expect(stopped).toHaveBeenCalledTimes(1);
    const again = startNames(bench.open({ "dns-domain": "example." }).context, meshOf().mesh);
    expect([...(again?.entries.all() ?? [])].map(({ hostname, origin }) => [hostname, origin])).toEqual([
      ["web.example.", OWN],
    ]);
  });

  test("of a peer that the mesh says is gone go, those of others stay", async () => {
    await using bench = new RouterBench();
    const { mesh, listeners } = meshOf();
    const names = startNames(bench.open().context, mesh) ?? expect.unreachable();
    const gone: unknown[] = [];
    names.peersGone = (peers) => void gone.push(...peers.map(({ name }) => name));
    for (const listener of listeners) listener.peersGone?.([{ name: OTHER }]);
    expect(gone).toEqual([OTHER]);
    expect(names.config.isKnownPeer(OTHER)).toBe(true);
    expect(names.config.isKnownPeer(nameFromNumber(3n))).toBe(false);
  });
});
