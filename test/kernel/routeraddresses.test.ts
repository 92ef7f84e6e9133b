// Address allocation in a router: what the allocator is told of the mesh and the options, who is asked what has ended, and what
// is released when.
import { describe, expect, spyOn, test } from "bun:test";
import { readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import { releaseDirectory } from "../../lib/api/paths.ts";
import { vethAlias } from "../../lib/host/names.ts";
import { WorkThread } from "../../lib/host/workthread.ts";
import { rememberRelease } from "../../lib/ipam/releases.ts";
import { CHANNEL } from "../../lib/ipam/wire.ts";
import { type GossipChannel, MUTE } from "../../lib/mesh/gossip.ts";
import { type PeerName, parsePeerName } from "../../lib/mesh/name.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import { startAddresses } from "../../lib/router/addresses.ts";
import type { RouterContext } from "../../lib/router/context.ts";
import { eventually } from "../support/hosts.ts";
import { isRoot } from "../support/newnetns.ts";
import { OURS, RouterBench, type TestContext } from "../support/routercontext.ts";

const [ONE, TWO, THREE] = [OURS, "02:00:00:00:00:02", "02:00:00:00:00:03"].map(parsePeerName) as [
  PeerName,
  PeerName,
  PeerName,
];
const SEED = { "ipalloc-init": `seed=${OURS}` };
const DEFAULT = parseCidr("10.32.0.0/12");
const turns = async () => {
  for (let i = 0; i < 30; i++) await Promise.resolve();
};

/** Addresses with parts that note what they are told. */
async function addressesOf(
  { context, ...opened }: TestContext,
  named = { count: 1, unheard: [] as string[] },
) {
  const told: unknown[] = [];
  const note =
    (what: string) =>
    (...args: unknown[]) =>
      void told.push([what, ...args]);
  const known = new Set([ONE, TWO]);
  const reachable: PeerName[] = [];
  const ambiguous = new Set<PeerName>();
  const sent: [PeerName, Uint8Array][] = [];
  const channel: GossipChannel = {
    ...MUTE,
    unicast: (to, message) => sent.push([to, message]) > 0,
  };
  const listeners: { peersGone?(peers: { name: PeerName; nickName: string }[]): void }[] = [];
  const gates: unknown[] = [];
  const channels: unknown[] = [];
  const mesh = {
    ourself: { name: ONE, uid: 7n, nickName: "one" },
    peers: { get: (name: PeerName) => (known.has(name) ? {} : undefined) },
    admission: {
      collisions: { nameIsTaken: false, isAmbiguous: (name: PeerName) => ambiguous.has(name) },
      refusals: { lift: note("lift") },
      guard: (gate: unknown) => void gates.push(gate),
    },
    reachablePeers: () => reachable,
    listen: (listener: (typeof listeners)[number]) => void listeners.push(listener),
    channel(...opening: unknown[]) {
      channels.push(opening);
      return channel;
    },
  };
  const heard: PeerName[] = [];
  const names = { delete: note("unname"), entries: { all: () => [] }, config: { ourName: ONE } };
  const parts = {
    host: {
      mtu: { start: async (work: unknown) => note("mtu")(work) },
      exposure: { setLocalRanges: note("local") },
    },
    mesh,
    named: {
      count: named.count,
      unheard(hasHeard: (peer: PeerName) => boolean) {
        for (const peer of [ONE, TWO]) if (hasHeard(peer)) heard.push(peer);
        return named.unheard;
      },
    },
    nameserver: names,
    ports: { follow: note("follow") },
    hostPorts: { remove: note("ports of") },
  };
  const warned: string[] = [];
  const warn: RouterContext["warn"] = (kind, text) => {
    warned.push(kind);
    context.warn(kind, text);
  };
  const addresses = await startAddresses({ ...context, warn }, parts as never);
  const of = (what: string) => told.filter((each) => (each as unknown[])[0] === what);
  return {
    ...{
      ...opened,
      context,
      told,
      warned,
      of,
      known,
      reachable,
      ambiguous,
      sent,
      listeners,
      gates,
      channels,
      heard,
      names,
    },
    ...addresses,
  };
}

describe.if(isRoot)("addresses of a router", () => {
  test("guard the mesh, and speak on its channel; without a range neither, and others are only listened to", async () => {
    await using bench = new RouterBench();
    const { allocator, gates, channels, listeners, scope } = await addressesOf(bench.open());
    expect(gates).toEqual([allocator.gate]);
    expect(channels).toEqual([[CHANNEL, allocator.gossiper]]);
    const gone: unknown[] = [];
    allocator.peersGone = (peers) => void gone.push(...peers.map(({ name }) => name));
    for (const listener of listeners) listener.peersGone?.([{ name: TWO, nickName: "two" }]);
    expect(gone).toEqual([TWO]);
    await scope.end();
    const none = await addressesOf(bench.open({ "ipalloc-range": "" }));
    expect([none.gates, none.channels, none.listeners.length]).toEqual([[], [], 1]);
  });

  test.each<[string, Record<string, unknown>, number, object]>([
    ["one", { "ipalloc-init": "consensus=1" }, 9, { Quorum: 1 }],
    ["two", { "ipalloc-init": "consensus=2" }, 9, { Quorum: 2 }],
    ["three", { "ipalloc-init": "consensus=3" }, 9, { Quorum: 2 }],
    ["four", { "ipalloc-init": "consensus=4" }, 9, { Quorum: 3 }],
    ["as many as are named", {}, 5, { Quorum: 3 }],
    ["as many, an even number", {}, 6, { Quorum: 4 }],
  ])("need a majority of %s", async (_, raw, count, paxos) => {
    await using bench = new RouterBench();
    // Who says how many there are does not wait for those that are named.
    const unheard = raw["ipalloc-init"] === undefined ? [] : ["h2"];
    const { allocator } = await addressesOf(bench.open(raw), { count, unheard });
    const primed = allocator.prime().catch(() => {});
    const { Paxos, WaitsFor, Entries } = allocator.report(DEFAULT);
    if (raw["ipalloc-init"] === "consensus=1") expect(Entries?.map(({ Peer }) => Peer)).toEqual([ONE]);
    else expect(Paxos).toMatchObject({ Elector: true, ...paxos });
    expect(WaitsFor).toBeUndefined();
    allocator.stop();
    await primed;
  });

  test("wait for the peers that are named, until they have told of their rings", async () => {
    await using bench = new RouterBench();
    const { allocator } = await addressesOf(bench.open(), { count: 2, unheard: ["h2"] });
    const primed = allocator.prime().catch(() => {});
    expect(allocator.report(DEFAULT)).toMatchObject({ Paxos: { Quorum: 0 }, WaitsFor: ["h2"] });
    allocator.stop();
    await primed;
  });

  test("of an observer: it elects nobody", async () => {
    await using bench = new RouterBench();
    const { allocator } = await addressesOf(bench.open({ "ipalloc-init": "observer" }));
    const primed = allocator.prime().catch(() => {});
    expect(allocator.report(DEFAULT).Paxos).toMatchObject({ Elector: false });
    allocator.stop();
    await primed;
  });

  test("are those of the options and of the mesh's peers", async () => {
    await using bench = new RouterBench();
    const seed = { "ipalloc-init": `seed=${ONE},${TWO},${THREE}`, "ipalloc-range": "10.40.0.0/24" };
    const { allocator, ambiguous, clock } = await addressesOf(bench.open(seed));
    const subnet = parseCidr("10.40.0.0/25");
    const { Entries, Range, DefaultSubnet } = allocator.report(subnet);
    expect([Range, DefaultSubnet]).toEqual(["10.40.0.0/24", "10.40.0.0/25"]);
    expect(
      new Set(Entries?.map(({ Peer, IsKnownPeer, Nickname }) => [Peer, IsKnownPeer, Nickname].join())),
    ).toEqual(new Set([`${ONE},true,one`, `${TWO},true,`, `${THREE},false,`]));
    // A name that two hosts have is not taken over, and nothing is handed to it.
    ambiguous.add(THREE);
    await expect(allocator.takeOver(THREE)).rejects.toThrow("is two hosts");
    ambiguous.delete(THREE);
    const taken = allocator.takeOver(THREE);
    clock.advance(60_000);
    expect(await taken).toBe(64);
  });

  test("tell the host which ranges are ours only where traffic within them is not to be masqueraded", async () => {
    await using bench = new RouterBench();
    const without = await addressesOf(bench.open({ ...SEED, "masq-local": false }));
    expect(without.of("local").at(-1)).toEqual(["local", [{ start: 0x0a200000, end: 0x0a300000 }]]);
    await without.scope.end();
    const masqueraded = await addressesOf(bench.open(SEED));
    expect(masqueraded.of("local")).toEqual([]);
  });

  test("follow the links of containers, and tell containers the MTU by the same thread", async () => {
    await using bench = new RouterBench();
    const { allocator, context, work, told } = await addressesOf(bench.open(SEED));
    expect(told).toEqual([
      ["follow", { addresses: allocator.lifecycle, work }],
      ["mtu", { applyMtu: expect.any(Function) }],
    ]);
    const [, [, { applyMtu }]] = told as [unknown, [string, Pick<typeof work, "applyMtu">]];
    const change = { from: 1_376, link: 8_916, network: 8_916 };
    const thread = spyOn(work, "applyMtu").mockResolvedValue();
    // Without containers it is not started for that.
    await applyMtu(change);
    expect(thread).not.toHaveBeenCalled();
    linkAdd(context.route, { kind: "veth", name: "vethwepl1", peer: { name: "c" }, up: false });
    await applyMtu(change);
    expect(thread.mock.calls).toEqual([[change]]);
  });

  test("take a container's names along once it holds none; a full disk keeps a router from nothing", async () => {
    await using bench = new RouterBench();
    const { allocator, attachments, names, of, lines } = await addressesOf(bench.open(SEED));
    const [a, b] = [parseCidr("10.32.0.5/12"), parseCidr("10.32.0.6/12")];
    for (const cidr of [a, b]) await allocator.claim("h1", cidr);
    await allocator.free("h1", a.address);
    expect(of("unname")).toEqual([]);
    const died = spyOn(attachments, "died");
    await allocator.free("h1", b.address);
    // The names of an attachment are saved before they are deleted.
    expect([of("unname"), died.mock.calls]).toEqual([[["unname", { containerId: "h1" }]], [["h1"]]]);
    names.delete = () => {
      throw new Error("no room");
    };
    await allocator.claim("h1", a);
    await allocator.delete("h1");
    expect(lines.filter((line) => line.startsWith("error"))).toEqual(["error: no room"]);
    expect(allocator.leases("h1")).toEqual([]);
  });

  test.each<[Record<string, unknown>, string | undefined]>([
    [{ "ipalloc-default-subnet": "10.33.0.0/16" }, "10.33.0.0/16"],
    [{ "ipalloc-range": "", "ipalloc-init": undefined }, undefined],
  ])(
    "of the default subnet are for containers that ask for any, where there are some: %p",
    async (raw, subnet) => {
      await using bench = new RouterBench();
      const { allocator, declared } = await addressesOf(bench.open({ ...SEED, ...raw }));
      const allocate = spyOn(allocator, "allocate").mockRejectedValue(new Error("none left"));
      const attached = declared.attach({
        id: "a".repeat(12),
        pid: 1,
        addresses: "net:default",
        fqdn: undefined,
      });
      await expect(attached).rejects.toThrow(
        subnet === undefined ? "no addresses are allocated" : "none left",
      );
      expect(allocate.mock.calls.map(([, cidr]) => formatCidr(cidr))).toEqual(
        subnet === undefined ? [] : [subnet],
      );
    },
  );

  test("start the thread for container work once the router has its peers, after 10 s", async () => {
    await using bench = new RouterBench();
    using warm = spyOn(WorkThread.prototype, "warm").mockImplementation(() => {});
    const { clock, scope } = await addressesOf(bench.open(SEED));
    clock.advance(9_999);
    expect(warm).toHaveBeenCalledTimes(0);
    clock.advance(1);
    expect(warm).toHaveBeenCalledTimes(1);
    clock.advance(60_000);
    expect(warm).toHaveBeenCalledTimes(1);
    await scope.end();
    const again = await addressesOf(bench.open(SEED));
    await again.scope.end();
    again.clock.advance(60_000);
    expect(warm).toHaveBeenCalledTimes(1);
  });
});

describe.if(isRoot)("what ended while the router did not answer", () => {
  test("begins its grace period at the start, where no link has its address any more", async () => {
    await using bench = new RouterBench();
    const before = await addressesOf(bench.open(SEED));
    await before.allocator.claim("c1", parseCidr("10.32.0.5/12"), { isContainer: true });
    await before.allocator.claim("h1", parseCidr("10.32.0.6/12"));
    expect(before.allocator.lifecycle.departing()).toEqual(new Set());
    await before.scope.end();
    const { allocator } = await addressesOf(bench.open(SEED));
    expect(allocator.leases("c1").length).toBe(1);
    expect(allocator.lifecycle.departing()).toEqual(new Set(["c1"]));
  });

  /** Notes what is released, and lets it be. */
  const releases = ({ allocator }: Awaited<ReturnType<typeof addressesOf>>) => {
    const released: unknown[] = [];
    allocator.delete = async (...args) => void released.push(args);
    return released;
  };

  test("is released at the start, and every 5 s, with its host ports; the notes go", async () => {
    await using bench = new RouterBench();
    const opened = bench.open(SEED);
    rememberRelease(releaseDirectory(), "c0", "net/eth0");
    const router = await addressesOf(opened);
    const { clock, of, lines, scope } = router;
    const alias = (containerId: string, ifName: string) => vethAlias({ network: "net", containerId, ifName });
    expect(of("ports of")).toEqual([["ports of", alias("c0", "eth0")]]);
    expect(lines.filter((line) => line.includes("removed while weave did not answer")).length).toBe(1);
    const released = releases(router);
    rememberRelease(releaseDirectory(), "c1", "net/eth1");
    clock.advance(4_999);
    expect(released).toEqual([]);
    clock.advance(1);
    expect(released).toContainEqual(["c1", { attachment: "net/eth1" }]);
    expect(of("ports of").slice(1)).toEqual([["ports of", alias("c1", "eth1")]]);
    expect(readdirSync(releaseDirectory())).toEqual([]);
    await scope.end();
    rememberRelease(releaseDirectory(), "c2", "net/eth0");
    clock.advance(60_000);
    expect(readdirSync(releaseDirectory()).length).toBe(1);
  });

  test("has no host ports where an older version has noted it", async () => {
    await using bench = new RouterBench();
    const router = await addressesOf(bench.open(SEED));
    const released = releases(router);
    rememberRelease(releaseDirectory(), "c1", "net/eth0");
    const [file = ""] = readdirSync(releaseDirectory());
    renameSync(join(releaseDirectory(), file), join(releaseDirectory(), "c1"));
    router.clock.advance(5_000);
    expect([released, router.of("ports of")]).toEqual([[["c1", { attachment: undefined }]], []]);
  });

  /** A runtime that knows these containers, by their process; and may not answer. */
  function runtime(path: string, pids: Record<string, number>) {
    const state = { asked: [] as string[], fails: false };
    const server = Bun.serve({
      unix: path,
      fetch(request) {
        const id = new URL(request.url).pathname.split("/").at(-2) ?? "";
        state.asked.push(id);
        if (state.fails) return new Response("", { status: 500 });
        const pid = pids[id];
        if (pid === undefined) return new Response("", { status: 404 });
        const Config = { Hostname: "", Domainname: "", Env: [], Labels: {} };
        const State = { Running: pid > 0, Pid: pid };
        return Response.json({ Id: id, HostsPath: "", Image: "", State, Config });
      },
    });
    return { state, [Symbol.asyncDispose]: () => server.stop(true) };
  }

  test("is asked of the runtime: what it does not know is released, what has stopped loses its names", async () => {
    await using bench = new RouterBench();
    const path = join(bench.folder, "docker.sock");
    const ids = ["a", "b", "c"].map((letter) => letter.repeat(64));
    const [runs = "", stopped = "", unknown = ""] = ids;
    await using docker = runtime(path, { [runs]: 7, [stopped]: 0 });
    const { allocator, of, clock, releaseMissed, lines, scope, warned } = await addressesOf(
      bench.open({ ...SEED, "docker-api": `unix://${path}` }),
    );
    for (const [i, id] of ids.entries())
      await allocator.claim(id, parseCidr(`10.32.0.${i + 9}/12`), { isContainer: true });
    for (const id of ids) allocator.lifecycle.died(id);
    const destroyed: string[] = [];
    allocator.lifecycle.destroyed = (id) => void destroyed.push(id);
    docker.state.fails = true;
    releaseMissed();
    await eventually(
      "it is asked",
      () => lines.filter((line) => line.includes("trying again")).length,
      Boolean,
    );
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([
      expect.stringContaining("cannot ask which containers have ended: "),
    ]);
    docker.state.fails = false;
    docker.state.asked = [];
    clock.advance(4_999);
    await turns();
    expect(docker.state.asked).toEqual([]);
    clock.advance(1);
    await eventually(
      "it is asked again",
      () => destroyed.length + of("unname").length,
      (count) => count === 2,
    );
    expect([destroyed, of("unname")]).toEqual([[unknown], [["unname", { containerId: stopped }]]]);
    // Nothing is asked again once it has answered.
    const asks = spyOn(allocator.lifecycle, "departing");
    clock.advance(20_000);
    expect(asks).toHaveBeenCalledTimes(0);
    docker.state.fails = true;
    const failure = async () => {
      warned.length = 0;
      releaseMissed();
      await eventually("it has failed", () => warned.length, Boolean);
    };
    // Two failures are one next question, 5 s after the last; none after the end.
    await failure();
    clock.advance(2_000);
    await failure();
    asks.mockClear();
    clock.advance(4_999);
    expect(asks).toHaveBeenCalledTimes(0);
    await failure();
    asks.mockClear();
    const ended = spyOn(allocator, "stop");
    await scope.end();
    expect(ended).toHaveBeenCalledTimes(1);
    clock.advance(60_000);
    expect(asks).toHaveBeenCalledTimes(0);
  });
});
