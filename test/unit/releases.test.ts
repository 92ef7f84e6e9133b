// Release of addresses: by attachment, never while a link has them, later where the disk is full.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { releaseMissed } from "../../lib/container/missed.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import { Gateways } from "../../lib/ipam/gateways.ts";
import { forgetRelease, rememberRelease, settleReleases } from "../../lib/ipam/releases.ts";
import type { Holder } from "../../lib/ipam/saved.ts";
import { silentLog } from "../../lib/log/log.ts";
import { MUTE } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { StoreError } from "../../lib/store/error.ts";
import { MemoryDisk, seen } from "../support/allocators.ts";

const SUBNET = parseCidr("10.32.0.0/28");
const GRACE_MS = 35_000;
const CONTAINER = { isContainer: true };
const [ETH0, NET1] = ["weave/eth0", "weave/net1"];

/** One allocator, alone; `links` are the addresses that the kernel would show. */
function alone(
  holders: Record<string, Holder> = {},
  uses: (id: string, address: IPv4) => boolean = () => false,
) {
  const clock = new SimulatedClock();
  const links = new Set<IPv4>();
  const released: string[] = [];
  const searches = { begun: 0 };
  const memory = new MemoryDisk().mount();
  const disk = { full: false, store: memory };
  const name = nameFromNumber(1n);
  const config = { ourName: name, ourUid: 1n, ourNickName: "one", universe: SUBNET, seed: [name] };
  for (const [id, owned] of Object.entries(holders)) memory.saveHolder(id, owned);
  const { start, end } = { start: SUBNET.address, end: SUBNET.address + 16 };
  const entries = [{ token: start, peer: name, version: 1, free: 16 }];
  if (Object.keys(holders).length > 0) memory.saveRing({ peer: name, start, end, entries, seeds: [name] });
  const allocator = new Allocator(
    { ...config, observer: false, quorum: () => 1, isKnownPeer: () => false, reachablePeers: () => [] },
    {
      clock,
      random: seededRandom(1n),
      log: silentLog,
      store: {
        ...memory,
        saveHolder(id, owned) {
          if (disk.full) throw new StoreError("disk", "the disk is full");
          memory.saveHolder(id, owned);
        },
      },
      async attached() {
        searches.begun++;
        return seen(Array.from(links, (address) => ({ address, prefix: 28 })));
      },
      uses,
      released: (id) => released.push(id),
    },
  );
  allocator.start(MUTE);
  const add = async (id: string, attachment?: string) => {
    const address = await allocator.allocate(id, SUBNET, { isContainer: true, attachment });
    links.add(address);
    return address;
  };
  const held = (id: string) => allocator.leases(id).map(({ address }) => address);
  return { allocator, clock, links, disk, released, searches, add, held, lifecycle: allocator.lifecycle };
}

test("links are searched once for all that is released until the search begins", async () => {
  const { allocator, links, searches, add, held, lifecycle } = alone();
  const ids = Array.from({ length: 9 }, (_, i) => `c${i}`);
  for (const id of ids) await add(id, ETH0);
  // The links of all are there: what was found on one is due again at once.
  await lifecycle.collect("weave", new Set());
  expect(searches.begun).toBe(1);
  links.clear();
  const first = allocator.delete("c0", { attachment: ETH0 });
  await Promise.resolve();
  await Promise.all([first, ...ids.slice(1).map((id) => allocator.delete(id, { attachment: ETH0 }))]);
  expect(searches.begun).toBe(3);
  expect(ids.flatMap(held)).toEqual([]);
});

describe("attachments of one container", () => {
  test("each has its own address, the same one again, and gives back its own alone", async () => {
    const { allocator, links, add, held } = alone();
    const [eth0, net1] = [await add("c", ETH0), await add("c", NET1)];
    expect(eth0).not.toBe(net1);
    expect([await add("c", ETH0), await add("c", NET1)]).toEqual([eth0, net1]);
    links.delete(net1);
    await allocator.delete("c", { attachment: NET1, detached: true });
    expect(held("c")).toEqual([eth0]);
    expect(await add("d", ETH0)).not.toBe(eth0);
  });

  test("of a network that was renamed since: the address goes with its link, that of another interface stays", async () => {
    const { allocator, links, add, held } = alone();
    const [eth0, net1] = [await add("c", "before/eth0"), await add("c", "before/net1")];
    expect(() => allocator.delete("c", { attachment: "after/eth0" })).toThrow("no addresses for c");
    expect(held("c")).toEqual([eth0, net1]);
    links.delete(eth0);
    await allocator.delete("c", { attachment: "after/eth0", detached: true });
    expect(held("c")).toEqual([net1]);
    const here = await add("c", "after/eth0");
    await allocator.delete("c", { attachment: "after/net1", detached: true });
    expect(held("c")).toEqual([here]);
    const there = await add("c", "before/eth0");
    expect(there).not.toBe(here);
    await allocator.delete("c", { attachment: "after/eth0", detached: true });
    expect(held("c")).toEqual([there]);
  });

  test("a request that waits is cancelled with its own attachment alone", async () => {
    const { allocator, add } = alone();
    for (let i = 0; i < 14; i++) await add(`c${i}`, ETH0);
    const waiting = allocator.allocate("late", SUBNET, { attachment: NET1 });
    expect(() => allocator.delete("late", { attachment: ETH0 })).toThrow("no addresses for late");
    expect(allocator.waits().length).toBe(1);
    await allocator.delete("late", { attachment: NET1 });
    expect(waiting).rejects.toThrow("cancelled");
  });

  test("of older versions and of the original: adopted while idle, left alone while a link has them", async () => {
    const lease = (address: string) => parseCidr(`${address}/28`);
    const container = (...addresses: string[]) => ({ isContainer: true, cidrs: addresses.map(lease) });
    const { allocator, links, held } = alone({
      idle: container("10.32.0.5"),
      up: container("10.32.0.6"),
      shared: container("10.32.0.7"),
    });
    const address = (text: string) => lease(text).address;
    links.add(address("10.32.0.6")).add(address("10.32.0.7"));
    const get = (id: string) =>
      allocator.allocate(id, SUBNET, { isContainer: true, attachment: NET1 }).then(formatIPv4);
    expect(await get("idle")).toBe("10.32.0.5");
    expect(await get("up")).toBe("10.32.0.1");
    await allocator.delete("idle", { attachment: NET1 });
    expect(held("idle")).toEqual([]);
    // It may be another interface that has it.
    await allocator.delete("shared", { attachment: NET1, detached: true });
    expect(held("shared").map(formatIPv4)).toEqual(["10.32.0.7"]);
    expect(allocator.notes()).toEqual([]);
    links.delete(address("10.32.0.7"));
    await allocator.delete("shared", { attachment: ETH0, detached: true });
    expect(held("shared")).toEqual([]);
  });

  test("GC releases what is not listed, of its own network alone", async () => {
    const { allocator, lifecycle, links, add, held } = alone();
    const [kept, gone, other, byHand] = [
      await add("kept", ETH0),
      await add("kept", NET1),
      await add("other", "b/eth0"),
      await add("hand"),
    ];
    const lives = await add("lives", ETH0);
    links.delete(gone);
    links.delete(other);
    links.delete(byHand);
    await lifecycle.collect("weave", new Set(["kept/eth0"]));
    expect(held("kept")).toEqual([kept]);
    expect([held("other"), held("hand"), held("lives")]).toEqual([[other], [byHand], [lives]]);
    expect(allocator.notes()).toEqual([expect.stringContaining("of lives was released, but a link")]);
  });
});

describe("an address is in use", () => {
  test("as long as a link has it, whoever says that its container is gone; the status says why", async () => {
    for (const isReported of [true, false]) {
      const { allocator, lifecycle, clock, links, released, add, held } = alone();
      const address = await add("c");
      if (isReported) lifecycle.destroyed("c");
      else await allocator.delete("c");
      for (let i = 0; i < 10; i++) {
        clock.advance(GRACE_MS);
        await lifecycle.checkGone();
      }
      expect(held("c")).toEqual([address]);
      expect(allocator.notes()).toEqual([
        "10.32.0.1 of c was released, but a link on the bridge still has it; it is free once that link is gone",
      ]);
      links.clear();
      await lifecycle.checkGone();
      expect([held("c"), released, allocator.notes()]).toEqual([[], ["c"], []]);
    }
  });

  test("before it has a link, although no runtime knows its holder: dockerd creates the link later", async () => {
    const { allocator, lifecycle, clock, links, add, held } = alone();
    const outside = parseCidr("192.168.7.7/24");
    const ids = ["docker:02:42:0a:00:00:01", "endpoint", "c"] as const;
    const [mac, endpoint, seenOnce] = ids;
    const early = await allocator.allocate(mac, SUBNET, CONTAINER);
    await allocator.claim(endpoint, outside, CONTAINER);
    await add(seenOnce);
    await lifecycle.checkGone();
    links.clear();
    const nobodyKnowsThem = async () => {
      await lifecycle.checkGone();
      for (const id of ids) lifecycle.unknown(id);
      await lifecycle.checkGone();
    };
    await nobodyKnowsThem();
    expect(ids.map(held)).toEqual([[early], [outside.address], []]);
    expect(allocator.claim("other", outside, CONTAINER)).rejects.toThrow("already in use by endpoint");
    // One gets its link; dockerd has removed the endpoint of the other.
    links.add(outside.address);
    clock.advance(GRACE_MS);
    await nobodyKnowsThem();
    expect(ids.map(held)).toEqual([[], [outside.address], []]);
  });

  test("until a full disk has room; DEL succeeds meanwhile, and ADD takes it back", async () => {
    const { allocator, clock, links, disk, add, held, lifecycle } = alone();
    const [first, second] = [await add("a", ETH0), await add("b", ETH0)];
    links.clear();
    disk.full = true;
    for (const id of ["a", "b"]) await allocator.delete(id, { attachment: ETH0, detached: true });
    expect([held("a"), held("b")]).toEqual([[first], [second]]);
    expect(allocator.notes().join()).toContain("make room");
    expect(await add("b", ETH0)).toBe(second);
    disk.full = false;
    clock.advance(10_000);
    await lifecycle.checkGone();
    expect([held("a"), held("b"), allocator.notes()]).toEqual([[], [second], []]);
  });

  test("outside the range a dead container's goes to whoever claims it, but not while a link has it", async () => {
    const { allocator, links, lifecycle, held } = alone();
    const cidr = parseCidr("192.168.7.7/24");
    await allocator.claim("a", cidr, CONTAINER);
    expect(allocator.claim("b", cidr, CONTAINER)).rejects.toThrow("already in use by a");
    links.add(cidr.address);
    lifecycle.died("a");
    expect(allocator.claim("b", cidr, CONTAINER)).rejects.toThrow("already in use by a");
    links.clear();
    await allocator.claim("b", cidr, CONTAINER);
    expect([held("a"), held("b")]).toEqual([[], [cidr.address]]);
  });
});

test("no free address: said at once, with figures, where nobody has any", async () => {
  const { allocator, add } = alone();
  for (let i = 0; i < 14; i++) await add(`c${i}`, ETH0);
  expect(allocator.allocate("late", SUBNET, { failWhenExhausted: true })).rejects.toThrow(
    "no free address in 10.32.0.0/28 (14 of 14 in use)",
  );
  const obstacle = allocator.obstacle(SUBNET);
  expect(obstacle).toMatchObject({ cause: "exhausted", reason: expect.stringContaining("14 of 14 in use") });
});

test("a gateway is no container's address, also after a restart and for other networks", async () => {
  const { allocator, add, disk } = alone();
  const gateway = parseCidr("10.32.0.1/28").address;
  const first = await allocator.allocate("c", SUBNET, { gateway, attachment: ETH0 });
  expect(formatIPv4(first)).toBe("10.32.0.2");
  for (let i = 0; i < 12; i++) expect(await add(`c${i}`)).not.toBe(gateway);
  expect(allocator.allocate("late", SUBNET, { failWhenExhausted: true })).rejects.toThrow(
    "(13 of 14 in use, 1 reserved for gateways)",
  );
  const again = new Gateways(disk.store);
  again.load();
  expect(again.ranges).toEqual([{ start: gateway, end: gateway + 1 }]);
  // The host may have it.
  await allocator.claim("weave:expose", { address: gateway, prefix: 28 });
});

describe("on disk", () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-releases-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  test("what went while no router ran is released once, by its attachment where that is noted", () => {
    const directory = join(folder, "releases");
    rememberRelease(directory, "c1", "weave/eth0");
    rememberRelease(directory, "back", "weave/eth0");
    forgetRelease(directory, "back", "weave/eth0");
    writeFileSync(join(directory, "old"), "");
    const settled: unknown[] = [];
    settleReleases(directory, (...release) => settled.push(release), expect.unreachable);
    expect(settled.sort()).toEqual(
      [
        ["c1", "weave/eth0"],
        ["old", undefined],
      ].sort(),
    );
    expect(readdirSync(directory)).toEqual([]);
  });

  test("without a runtime nobody is taken for gone", async () => {
    const on = { destroyed: () => expect.unreachable(), unname: () => expect.unreachable() };
    await releaseMissed([join(folder, "none.sock")], new Set(["c"]), on);
  });
});

test("an address that a holder still uses is not released, one by one or with all others", async () => {
  const used = new Set<IPv4>();
  const { allocator, held } = alone({}, (id, address) => id === "host" && used.has(address));
  const [first, second] = [await allocator.allocate("host", SUBNET), parseIPv4("10.32.0.9")];
  await allocator.claim("host", { address: second, prefix: SUBNET.prefix });
  used.add(second);
  expect(() => allocator.free("host", second)).toThrow("10.32.0.9 is still in use by host");
  await allocator.delete("host");
  expect(held("host")).toEqual([second]);
  used.clear();
  await allocator.free("host", second);
  expect(held("host")).toEqual([]);
  expect(first).not.toBe(second);
});
