// Requests for addresses from the first attempt to the answer: what is tried again and when, what is refused and why,
// and what happens when another event comes meanwhile.
import { describe, expect, test } from "bun:test";
import { formatIPv4, parseCidr, parseIPv4, rangeSize } from "../../lib/address/ipv4.ts";
import { announce, judge } from "../../lib/ipam/announcement.ts";
import { CancelledError } from "../../lib/ipam/errors.ts";
import { DONE, type OperationKind, PendingRequests } from "../../lib/ipam/pending.ts";
import { ipamProblems } from "../../lib/ipam/report.ts";
import { RefusedError } from "../../lib/mesh/errors.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { StoreError } from "../../lib/store/error.ts";
import { MemoryDisk } from "../support/allocators.ts";
import { ONE, onePeer, RANGE, SUBNET, THREE, TWO, watched } from "../support/onepeer.ts";

const at = (text: string) => parseCidr(`${text}/26`);

describe("pending requests", () => {
  /** Requests that succeed when `ready` names them. */
  function requests() {
    const pending = new PendingRequests();
    const ready = new Set<string>();
    const tried: string[] = [];
    const add = (
      kind: OperationKind,
      id: string,
      details: Parameters<PendingRequests["run"]>[5] = {},
      signal?: AbortSignal,
    ) =>
      watched(
        pending.run(
          kind,
          id,
          `${kind} ${id}`,
          signal,
          () => {
            tried.push(id);
            if (ready.has(`${id}!`)) throw new Error(`${id} is refused`);
            return ready.has(id) ? { value: id } : undefined;
          },
          details,
        ),
      );
    return { pending, ready, tried, add, turn: () => new Promise<void>(queueMicrotask) };
  }

  test("are tried at once, and again in the order prime, claim, allocate; each ends once", async () => {
    const { pending, ready, tried, add } = requests();
    ready.add("now");
    const outcomes = [
      add("allocate", "a"),
      add("claim", "b"),
      add("prime", "c"),
      add("claim", "d"),
      add("claim", "now"),
    ];
    expect(tried.splice(0)).toEqual(["a", "b", "c", "d", "now"]);
    expect(pending.size).toBe(4);
    ready.add("b").add("d!").add("a");
    pending.retry();
    expect(tried.splice(0)).toEqual(["c", "b", "d", "a"]);
    await Bun.sleep(0);
    expect(outcomes.map((outcome) => outcome())).toEqual(["a", "b", "waiting", "d is refused", "now"]);
    pending.retry();
    expect(tried.splice(0)).toEqual(["c"]);
    expect(pending.list("prime")).toEqual([expect.objectContaining({ id: "c", text: "prime c" })]);
    expect(pending.list("claim")).toEqual([]);
  });

  test("are called off by their signal, before or while they wait, and only then", async () => {
    const { pending, ready, tried, add } = requests();
    const aborted = add("claim", "a", {}, AbortSignal.abort());
    const controller = new AbortController();
    const [waits, other] = [add("claim", "b", {}, controller.signal), add("claim", "c")];
    const early = new AbortController();
    ready.add("d");
    const done = add("claim", "d", {}, early.signal);
    controller.abort();
    early.abort();
    await Bun.sleep(0);
    expect([aborted(), waits(), other(), done()]).toEqual([
      "claim request for a cancelled",
      "claim request for b cancelled",
      "waiting",
      "d",
    ]);
    expect(tried).toEqual(["b", "c", "d"]);
    expect(pending.waiting().map(({ id }) => id)).toEqual(["c"]);
  });

  test("are cancelled by holder and attachment; one for the ring is nobody's", async () => {
    const { pending, add } = requests();
    const [eth0, net1, none, prime, other] = [
      add("allocate", "x", { attachment: "w/eth0" }),
      add("claim", "x", { attachment: "w/net1" }),
      add("claim", "x"),
      add("prime", "x"),
      add("allocate", "y", { attachment: "w/eth0" }),
    ];
    expect(pending.cancel("z")).toBe(false);
    expect(pending.cancel("x", "w/eth0")).toBe(true);
    await Bun.sleep(0);
    expect([eth0(), none()]).toEqual(["allocate request for x cancelled", "claim request for x cancelled"]);
    expect([net1(), prime(), other()]).toEqual(["waiting", "waiting", "waiting"]);
    expect(pending.cancel("x")).toBe(true);
    expect(pending.cancel("x")).toBe(false);
    expect(pending.waiting().map(({ kind, id }) => `${kind} ${id}`)).toEqual(["prime x", "allocate y"]);
    pending.cancelAll();
    expect(pending.size).toBe(0);
  });

  test("for certain addresses are denied one by one; the denial of a range, of which any would do, is none of them", async () => {
    const { pending, add } = requests();
    const claim = (text: string) => add("claim", text, { cidr: at(text) });
    const [below, asked, above] = ["10.0.0.3", "10.0.0.4", "10.0.0.5"].map(claim);
    const any = add("allocate", "any", { cidr: at("10.0.0.4") });
    const start = parseIPv4("10.0.0.4");
    const deny = (end: number) =>
      pending.denied({ start, end }, (cidr) => new Error(`no ${formatIPv4(cidr.address)}`));
    deny(start + 4);
    await Bun.sleep(0);
    expect(asked?.()).toBe("waiting");
    deny(start + 1);
    await Bun.sleep(0);
    expect([below, asked, above, any].map((outcome) => outcome?.())).toEqual([
      "waiting",
      "no 10.0.0.4",
      "waiting",
      "waiting",
    ]);
  });

  test("may be cancelled by what another of them does; it is not tried, and nobody else is dropped", async () => {
    const pending = new PendingRequests();
    let round = 0;
    const first = watched(
      pending.run("claim", "a", "", undefined, () => {
        if (++round < 2) return undefined;
        pending.cancel("b");
        return DONE;
      }),
    );
    const second = watched(pending.run("claim", "b", "", undefined, () => undefined));
    const third = watched(pending.run("claim", "c", "", undefined, () => undefined));
    pending.retry();
    await Bun.sleep(0);
    expect([first(), second(), third()]).toEqual([undefined, "claim request for b cancelled", "waiting"]);
    expect(pending.waiting("c")).toHaveLength(1);
    expect(pending.size).toBe(1);
  });
});

describe("a claim", () => {
  test("of another peer's address asks it at each attempt, and fails when it denies", async () => {
    const { allocator, said, deny, tell } = onePeer({ reachable: [TWO] });
    tell(TWO, { nicknames: new Map([[TWO, "two"]]) });
    said();
    const [theirs] = allocator.ring.ownedRanges(TWO);
    if (!theirs) throw new Error("no range");
    const outcome = watched(allocator.claim("c", { address: theirs.start + 2, prefix: 26 }));
    expect(said()).toEqual([`request ${TWO}`]);
    expect(allocator.waits("c")).toEqual([`asking ${TWO}(two) for 10.32.0.34, which it owns`]);
    deny(TWO, { start: theirs.start, end: theirs.start + 2 });
    deny(TWO, { start: theirs.start + 2, end: theirs.start + 3 });
    await Bun.sleep(0);
    expect(outcome()).toBe(`address 10.32.0.34/26 is owned by other peer ${TWO} (two)`);
  });

  test("succeeds when the owner grants it", async () => {
    const { allocator, say, ringOf } = onePeer({ reachable: [TWO] });
    const [theirs] = allocator.ring.ownedRanges(TWO);
    if (!theirs) throw new Error("no range");
    const outcome = watched(allocator.claim("c", { address: theirs.start, prefix: 26 }));
    say(
      TWO,
      ringOf(TWO, (entry) => (entry.token === theirs.start ? { ...entry, peer: ONE, version: 5 } : entry)),
    );
    await Bun.sleep(0);
    expect(outcome()).toBeUndefined();
    expect(allocator.leases("c")).toEqual([{ address: theirs.start, prefix: 26, attachment: undefined }]);
  });

  test("of an address whose owner cannot be reached is tried for 25 s, unless it may be unknown", async () => {
    const reachable: PeerName[] = [];
    const { allocator, clock, pass } = onePeer({ reachable });
    const [theirs] = allocator.ring.ownedRanges(TWO);
    if (!theirs) throw new Error("no range");
    const cidr = { address: theirs.start, prefix: 26 };
    const began = clock.now();
    let failedAt: number | undefined;
    void allocator.claim("c", cidr).catch(() => {
      failedAt = clock.now() - began;
    });
    await pass(100);
    expect(allocator.waits("c")).toEqual([`10.32.0.32 belongs to ${TWO}, which cannot be reached`]);
    const change = async () => {
      // Whatever changes, each is an attempt.
      await allocator.allocate("x", SUBNET);
      await allocator.delete("x");
      await pass(50);
    };
    for (let i = 0; i < 200; i++) await change();
    // It is there for a moment.
    reachable.push(TWO);
    await change();
    reachable.pop();
    while (failedAt === undefined && clock.now() - began < 60_000) await change();
    expect(failedAt).toBeWithin(35_000, 35_500);
    const lenient = watched(allocator.claim("d", cidr, { noErrorOnUnknown: true }));
    await pass(100);
    expect(lenient()).toBeUndefined();
    // It goes on by itself.
    expect(allocator.waits("d")).toHaveLength(1);
    allocator.stop();
  });

  test("outside the range is granted at once, to one holder", async () => {
    const { allocator } = onePeer({ config: { seed: [], quorum: () => 2 } });
    const cidr = parseCidr("192.168.1.1/24");
    await allocator.claim("c", cidr, { attachment: "w/eth0" });
    await allocator.claim("c", cidr);
    await allocator.claim("_", cidr);
    await expect(allocator.claim("d", cidr)).rejects.toThrow("address 192.168.1.1/24 already in use by c");
    expect(allocator.leases("c")).toEqual([{ ...cidr, attachment: "w/eth0" }]);
    await allocator.claim("_", parseCidr("192.168.1.2/24"));
    expect(allocator.leases("192.168.1.2")).toHaveLength(1);
  });

  test("of ours is granted once: not what another or nobody in particular has", async () => {
    const { allocator } = onePeer();
    const cidr = { address: RANGE.start + 3, prefix: 26 };
    await allocator.claim("c", cidr, { isContainer: true });
    await allocator.claim("c", cidr);
    await allocator.claim("_", cidr);
    await expect(allocator.claim("d", cidr)).rejects.toThrow("address 10.32.0.3/26 is already owned by c");
    const other = { address: RANGE.start + 4, prefix: 26 };
    await allocator.claim("_", other);
    await expect(allocator.claim("d", other)).rejects.toThrow("address 10.32.0.4/26 already in use");
    expect([...allocator.holders()].map(([id, { isContainer }]) => [id, isContainer])).toEqual([
      ["c", true],
      ["10.32.0.4", false],
    ]);
    expect(allocator.report(SUBNET).ActiveIPs).toBe(2);
  });

  test("keeps an address from its release", async () => {
    const { allocator, pass } = onePeer({ withLinks: true });
    const cidr = { address: RANGE.start + 3, prefix: 26 };
    await allocator.claim("c", cidr, { isContainer: true });
    allocator.lifecycle.died("c");
    await allocator.claim("c", cidr);
    await pass(60_000, 1_000);
    expect(allocator.leases("c")).toHaveLength(1);
    allocator.stop();
  });
});

describe("an obstacle", () => {
  const cause = (subject: ReturnType<typeof onePeer>, subnet = SUBNET) => {
    const obstacle = subject.allocator.obstacle(subnet);
    return obstacle && [obstacle.cause, obstacle.reason];
  };

  test("is none while there are free addresses, or a peer that can be reached has some", async () => {
    const reachable: (typeof TWO)[] = [];
    const subject = onePeer({ reachable });
    const { allocator } = subject;
    expect(cause(subject)).toBeUndefined();
    const [own] = allocator.ring.ownedRanges();
    for (let i = 1; i < rangeSize(own ?? RANGE); i++) await allocator.allocate(`c${i}`, SUBNET);
    expect(cause(subject)).toEqual([
      "unreachable",
      `no free address in 10.32.0.0/26 (62 of 62 in use); peers that have some cannot be reached: ${TWO}, ${THREE}`,
    ]);
    reachable.push(THREE);
    expect(cause(subject)).toBeUndefined();
    await allocator.delete("c7");
    reachable.length = 0;
    expect(cause(subject)).toBeUndefined();
  });

  test("names what lies outside, who leaves, and how many peers are known", async () => {
    const subject = onePeer();
    expect(cause(subject, parseCidr("10.33.0.0/26"))).toEqual([
      "out of range",
      "range 10.33.0.0/26 out of bounds: 10.32.0.0/26",
    ]);
    const undivided = onePeer({
      reachable: [TWO],
      config: { seed: [], quorum: () => 3, unheard: () => ["h9"] },
    });
    expect(cause(undivided)).toEqual([
      "undivided",
      "the peers have not divided the range 10.32.0.0/26 yet: 2 of 3 peers known, waiting for h9, which may know the " +
        "ring; 'weave forget' peers that are gone",
    ]);
    const plain = onePeer({ config: { seed: [], quorum: () => 3 } });
    expect(cause(plain)?.[1]).toBe(
      "the peers have not divided the range 10.32.0.0/26 yet: 1 of 3 peers known",
    );
    expect(plain.allocator.waits()).toEqual([]);
    const waiting = watched(plain.allocator.allocate("c", SUBNET));
    expect(plain.allocator.waits()).toEqual([
      "the peers have not divided the range 10.32.0.0/26 yet: 1 of 3 peers known",
    ]);
    const observer = onePeer({ config: { seed: [], observer: true } });
    expect(cause(observer)?.[1]).toBe("no peer has sent the ring for the range 10.32.0.0/26 yet");
    const of = (others: boolean, unheard: string[] = [], names = ["h9"]) => {
      const peers = names.map((name) => ({ name, reason: "another password", remedy: "use one" }));
      const config = {
        seed: [],
        quorum: () => 3,
        unheard: () => unheard,
        refused: () => ({ peers, others }),
      };
      const { allocator } = onePeer({ config });
      const found = allocator.obstacle(SUBNET);
      allocator.stop();
      return found;
    };
    const refused = {
      cause: "refused",
      reason:
        "the peers have not divided the range 10.32.0.0/26 yet: 1 of 3 peers known; h9 refused: another password",
      remedy: "use one",
    } as const;
    expect(of(false)).toEqual(refused);
    expect(of(true, ["h9"])).toEqual(refused);
    expect(of(true)).toMatchObject({ cause: "undivided", reason: refused.reason });
    expect(of(true, ["h8"])?.reason).toMatch(
      /: 1 of 3 peers known, waiting for h8, which .* gone; h9 refused/,
    );
    expect(of(false, [], [])?.cause).toBe("undivided");
    const leaving = plain.allocator.shutdown();
    expect(cause(plain)?.[0]).toBe("leaving");
    await leaving;
    expect(waiting()).toBe("allocate request for c cancelled");
    for (const allocator of [undivided, plain, observer]) allocator.allocator.stop();
  });

  test("refuses at once where it is asked to, and only when nobody has anything", async () => {
    const { allocator, say, ringOf } = onePeer({ reachable: [TWO] });
    const [own] = allocator.ring.ownedRanges();
    for (let i = 1; i < rangeSize(own ?? RANGE); i++) await allocator.allocate(`c${i}`, SUBNET);
    const late = watched(allocator.allocate("late", SUBNET, { failWhenExhausted: true }));
    await Bun.sleep(0);
    expect(late()).toBe("waiting");
    say(
      TWO,
      ringOf(TWO, (entry) => (entry.peer === ONE ? entry : { ...entry, free: 0, version: 3 })),
    );
    await Bun.sleep(0);
    expect(late()).toBe("no free address in 10.32.0.0/26 (62 of 62 in use)");
  });
});

describe("the announcement of a ring", () => {
  const ours = { range: RANGE, seeds: [ONE, TWO, THREE, nameFromNumber(4n), nameFromNumber(5n)] };
  const features = (text: string | undefined) =>
    new Map(text === undefined ? [] : Object.entries({ IPAM: text })) as unknown as Parameters<
      typeof judge
    >[1];
  const verdict = (text: string | undefined, by = ours) =>
    judge(by, features(text), (peer) => `<${peer.slice(-1)}>`, "/state.db");

  test("names the range, a digest and four seeds; the same one fits", () => {
    const text = announce(ours)["IPAM"] ?? "";
    expect(text).toBe(`10.32.0.0/26 ${text.split(" ")[1]} ${[1n, 2n, 3n, 4n].map(nameFromNumber).join()}`);
    expect(text.split(" ")[1]).toMatch(/^[0-9a-f]{16}$/);
    expect(verdict(text)).toBe("fits");
    expect(announce({ range: { start: 1, end: 4 }, seeds: [] })).toEqual({ IPAM: "0.0.0.1-0.0.0.3" });
  });

  test("judges nothing where one of the two has no ring, or none is announced that can be read", () => {
    const text = announce(ours)["IPAM"] ?? "";
    expect(verdict("10.32.0.0/26")).toBeUndefined();
    expect(verdict(text, { ...ours, seeds: [] })).toBeUndefined();
    for (const unread of [
      undefined,
      "",
      "x",
      "10.32.0.0/26 ",
      `10.32.0.0/26 ${"g".repeat(16)} ${ONE}`,
      `${text} `,
    ])
      expect([unread, verdict(unread)]).toEqual([unread, undefined]);
  });

  test("refuses another range, and other seeds even where the first four are the same", () => {
    const range = verdict("10.32.0.0/27");
    expect(range).toBeInstanceOf(RefusedError);
    expect(String(range)).toContain("(received: 10.32.0.0/27, ours: 10.32.0.0/26)");
    const seeds = verdict(announce({ range: RANGE, seeds: ours.seeds.slice(0, 4) })["IPAM"]);
    expect(seeds).toBeInstanceOf(RefusedError);
    expect(String(seeds)).toContain("(received: [<1> <2> <3> <4>], ours: [<1> <2> <3> <4> <5>])");
    expect((seeds as RefusedError).trouble.remedy).toContain("/state.db");
  });
});

describe("an allocator", () => {
  test("says how it starts", () => {
    const first = (options: Parameters<typeof onePeer>[0]) => onePeer(options).lines[0];
    expect(first({})).toBe("info: starting with the seed of --ipalloc-init");
    expect(first({ config: { seed: [] } })).toStartWith("info: starting without a ring");
    expect(first({ config: { seed: [], observer: true } })).toStartWith("info: starting as observer");
    const disk = new MemoryDisk();
    onePeer({ store: disk.mount() }).allocator.stop();
    expect(first({ store: disk.mount() })).toBe(
      "info: starting with the saved ring; ignoring the seed of --ipalloc-init",
    );
    expect(first({ store: disk.mount(), config: { seed: [] } })).toBe("info: starting with the saved ring");
  });

  test.each([
    ["another range", { universe: parseCidr("10.32.0.0/25") }],
    ["another start", { universe: parseCidr("10.32.0.64/26") }],
    ["another name", { ourName: TWO }],
  ])("forgets what was saved by %s, holders too", async (_what, config) => {
    const disk = new MemoryDisk();
    const before = onePeer({ store: disk.mount() }).allocator;
    await before.allocate("c", SUBNET);
    before.stop();
    const { allocator, lines } = onePeer({ store: disk.mount(), config });
    expect(lines[0]).toBe("info: deleting the saved ring: it belongs to another network or peer");
    expect(allocator.leases("c")).toEqual([]);
    expect(disk.mount().loadHolders().size).toBe(0);
    allocator.stop();
  });

  test("gives a holder the address it has, of the subnet that is asked for", async () => {
    const { allocator } = onePeer();
    const [low, high] = [parseCidr("10.32.0.0/28"), parseCidr("10.32.0.16/28")];
    const first = await allocator.allocate("c", low);
    expect(await allocator.allocate("c", high)).toBe(high.address + 1);
    expect(await allocator.allocate("c", low)).toBe(first);
    expect(allocator.leases("c").map(({ prefix }) => prefix)).toEqual([28, 28]);
    const range = { start: low.address, end: low.address + 16 };
    expect(allocator.lookup("c", range)).toHaveLength(1);
    expect(allocator.lookup("c", range, "another")).toEqual([]);
    expect(() => allocator.delete("nobody")).toThrow("Delete: no addresses for nobody");
    expect(() => allocator.free("c", low.address + 9)).toThrow("Free: address 10.32.0.9 not found for c");
    await allocator.free("c", first);
    expect(allocator.leases("c")).toHaveLength(1);
  });

  test("logs what a request waits for that takes longer than a second, once", async () => {
    const { allocator, lines, pass } = onePeer({ config: { seed: [], quorum: () => 3 } });
    const warned = () => lines.filter((line) => line.startsWith("warning: a container waits")).length;
    const quick = new AbortController();
    const waiting = allocator.allocate("quick", SUBNET, { signal: quick.signal }).catch((error) => error);
    await pass(900, 100);
    quick.abort();
    expect(await waiting).toBeInstanceOf(CancelledError);
    await pass(1_000, 100);
    expect(warned()).toBe(0);
    void allocator.allocate("slow", SUBNET).catch(() => {});
    await pass(950);
    expect(warned()).toBe(0);
    await pass(100);
    expect(warned()).toBe(1);
    await pass(30_000, 1_000);
    expect(warned()).toBe(1);
    allocator.stop();
  });

  test("reports what the original does, and what waits", async () => {
    const { allocator, tell } = onePeer({ reachable: [TWO] });
    tell(TWO, { nicknames: new Map([[TWO, "two"]]) });
    await allocator.allocate("c", SUBNET);
    const [theirs] = allocator.ring.ownedRanges(TWO);
    void allocator.claim("d", { address: theirs?.start ?? 0, prefix: 26 }).catch(() => {});
    void allocator.allocate("e", parseCidr("10.32.0.32/28")).catch(() => {});
    allocator.gossiper.gossip();
    allocator.peersGone([{ name: THREE, nickName: "three" }]);
    // Lists are made when they are read.
    expect(JSON.parse(JSON.stringify(allocator.report(parseCidr("10.32.0.0/27"))))).toEqual({
      Status: "waiting for IP(s) to become available",
      Paxos: null,
      Range: "10.32.0.0/26",
      RangeNumIPs: 64,
      ActiveIPs: 1,
      DefaultSubnet: "10.32.0.0/27",
      Entries: [
        { Token: "10.32.0.0", Size: 32, Peer: ONE, Nickname: "one", IsKnownPeer: false, Version: 1 },
        { Token: "10.32.0.32", Size: 16, Peer: TWO, Nickname: "two", IsKnownPeer: true, Version: 0 },
        {
          Token: "10.32.0.48",
          Size: 16,
          Peer: THREE,
          Nickname: "three",
          IsKnownPeer: false,
          UnreachableSince: "2023-11-14T22:13:20.000Z",
          Version: 0,
        },
      ],
      PendingClaims: [{ Ident: "d", CIDR: "10.32.0.32/26" }],
      PendingAllocates: ["e 10.32.0.32/28"],
    });
    allocator.stop();
    const empty = onePeer({ config: { seed: [], quorum: () => 3, unheard: () => ["h9"] } });
    expect(empty.allocator.report(SUBNET)).toMatchObject({
      ...{ Paxos: null, Entries: null, PendingClaims: null, PendingAllocates: null },
    });
    void empty.allocator.prime().catch(() => {});
    expect(empty.allocator.report(SUBNET)).toMatchObject({
      Paxos: { Elector: true, KnownNodes: 0, Quorum: 0 },
      WaitsFor: ["h9"],
    });
    empty.allocator.stop();
    expect(ipamProblems({ ring: ["r"], addresses: ["a"] }).map(({ Check, Found }) => [Check, Found])).toEqual(
      [
        ["ring", "r"],
        ["addresses", "a"],
      ],
    );
  });

  test("tries again with each tick: a claim of an owner that cannot be reached fails after 25 s", async () => {
    const { allocator, pass } = onePeer();
    const [theirs] = allocator.ring.ownedRanges(TWO);
    const outcome = watched(allocator.claim("c", { address: theirs?.start ?? 0, prefix: 26 }));
    await pass(24_900, 100);
    expect(outcome()).toBe("waiting");
    await pass(100);
    expect(outcome()).toContain("which cannot be reached");
    allocator.stop();
  });

  test("calls off what waits when it stops, and logs neither that nor a refusal as exhaustion", async () => {
    const { allocator, lines } = onePeer();
    const [theirs] = allocator.ring.ownedRanges(TWO);
    const outcome = watched(allocator.claim("c", { address: theirs?.start ?? 0, prefix: 26 }));
    await expect(allocator.allocate("d", parseCidr("10.40.0.0/24"))).rejects.toThrow("out of bounds");
    allocator.stop();
    await Bun.sleep(0);
    expect(outcome()).toBe("claim request for c cancelled");
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([]);
  });

  test("denies a range that it cannot save as given away", () => {
    const disk = new MemoryDisk().mount();
    let full = false;
    const store = {
      ...disk,
      saveRing(ring: Parameters<typeof disk.saveRing>[0]) {
        if (full) throw new StoreError("disk", "the disk is full");
        disk.saveRing(ring);
      },
    };
    const { allocator, request, said, lines } = onePeer({ reachable: [TWO], store });
    const before = allocator.ring.ownedIn(RANGE);
    full = true;
    said();
    request(TWO);
    expect(said()).toEqual([`ring ${TWO}`, `denial ${TWO}`]);
    expect([allocator.ring.ownedIn(RANGE), allocator.report(SUBNET).Entries?.[0]?.Size]).toEqual([
      before,
      before,
    ]);
    expect(lines.at(-1)).toBe("error: cannot donate a range: the disk is full");
    full = false;
    request(TWO);
    expect(allocator.ring.ownedIn(RANGE)).toBe(before / 2);
    allocator.stop();
  });

  test("takes no more requests while it leaves, and goes on where nobody takes its space", async () => {
    const { allocator, pass, lines } = onePeer({ reachable: [TWO] });
    const left = watched(allocator.shutdown());
    expect(() => allocator.allocate("c", SUBNET)).toThrow("this peer is leaving the network");
    expect(() => allocator.claim("c", at("10.32.0.3"))).toThrow("this peer is leaving the network");
    await pass(3_500, 100);
    expect(left()).toContain(
      "cannot hand the addresses of this host to another peer: no peer has answered within 3 s",
    );
    await allocator.allocate("c", SUBNET);
    expect(lines.filter((line) => line.includes("handed"))).toEqual([]);
    allocator.stop();
  });
});
