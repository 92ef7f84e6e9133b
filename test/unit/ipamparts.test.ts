// Parts of the allocator and of what is kept, each at its turns: what requests wait for, donations, grace periods, restarts of
// parts, the journal and repairs.
import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { Restarts } from "../../lib/clock/restarts.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Repairs } from "../../lib/host/reconcile/repairs.ts";
import { DisplacedAddresses } from "../../lib/ipam/displaced.ts";
import { Donor } from "../../lib/ipam/donor.ts";
import { CancelledError } from "../../lib/ipam/errors.ts";
import { PendingRequests } from "../../lib/ipam/pending.ts";
import { ReleaseGrace } from "../../lib/ipam/releasegrace.ts";
import { waitReason } from "../../lib/ipam/waits.ts";
import { logTo } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { openJournal } from "../../lib/store/journal.ts";

const [ONE, TWO] = [nameFromNumber(1n), nameFromNumber(2n)];
const A = parseIPv4("10.32.0.5");

describe("a request that waits", () => {
  const parts = (owner: typeof ONE | undefined, { known = true, empty = false } = {}) =>
    ({
      config: {
        ourName: ONE,
        universe: parseCidr("10.32.0.0/24"),
        isKnownPeer: () => known,
        observer: false,
        unheard: () => [],
        reachablePeers: () => [],
      },
      replicator: {
        ring: { empty, owner: () => owner, peer: ONE, entries: [], ranges: () => [], start: 0, end: 0 },
        nicknames: { annotate: () => "two" },
        bootstrap: { awaited: true, unheard: [], progress: { elector: true, known: 1, quorum: 2 } },
      },
    }) as never;
  const claim = (address: string) => ({ kind: "claim", id: "c", cidr: parseCidr(address) }) as const;

  test.each<[string, unknown, string]>([
    ["10.32.0.5/24", parts(TWO), "asking two for 10.32.0.5, which it owns"],
    ["10.32.0.5/24", parts(TWO, { known: false }), "10.32.0.5 belongs to two, which cannot be reached"],
    ["10.32.0.5/24", parts(ONE), "checking whether a container still uses 10.32.0.5"],
    ["10.32.0.5/24", parts(undefined), "checking whether a container still uses 10.32.0.5"],
    // Outside the range nobody has to be asked, ring or not.
    ["10.99.0.5/24", parts(TWO), "checking whether a container still uses 10.99.0.5"],
    ["10.99.0.5/24", parts(TWO, { empty: true }), "checking whether a container still uses 10.99.0.5"],
  ])("for %s says what for", (address, given, reason) => {
    expect(waitReason(given as never, claim(address))).toBe(reason);
  });
});

describe("a donation", () => {
  function donor({ chunk = { start: 8, end: 16 } as object | undefined, free = 100, fails = false } = {}) {
    const did: unknown[][] = [];
    const note =
      (what: string) =>
      (...args: unknown[]) =>
        void did.push([what, ...args]);
    const clock = new SimulatedClock(1_000);
    const lines: string[] = [];
    const state = { chunk, contains: 1 };
    const space = {
      freeCount: (range?: unknown) => (range === undefined ? free : state.contains),
      donate: (...args: unknown[]) => {
        did.push(["take", ...args]);
        return state.chunk;
      },
    };
    const grant = (...args: unknown[]) => {
      did.push(["grant", ...args]);
      if (fails) throw new Error("no room");
    };
    const messenger = { broadcastSoon: note("broadcast"), send: note("send"), denySpace: note("deny") };
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    const subject = new Donor(
      { clock, log },
      { grant, updateSpace: note("update") } as never,
      space as never,
      messenger as never,
    );
    return { subject, did, clock, lines, state };
  }
  const RANGE = { start: 0, end: 256 };

  test("is granted, saved and told, and counts against the peer", () => {
    const { subject, did } = donor({ free: 4 });
    subject.donate(RANGE, TWO, []);
    expect(did).toEqual([
      ["take", RANGE, [], Number.POSITIVE_INFINITY],
      ["grant", { start: 8, end: 16 }, TWO],
      ["update"],
      ["broadcast"],
      ["send", TWO],
    ]);
    // More than we have left was granted: the rest comes slowly, one address a second.
    did.length = 0;
    subject.donate(RANGE, TWO, []);
    expect(did).toEqual([]);
    expect(subject.quota.limits(new SimulatedClock(1_000), () => "two")).toEqual([
      expect.stringContaining("peer two asks for more addresses than its share: 8 granted since "),
    ]);
  });

  test("is denied where there is nothing to give, after the ring; not for an address that is only contested", () => {
    const { subject, did, state } = donor();
    state.chunk = undefined;
    subject.donate(RANGE, TWO, []);
    expect(did.slice(1)).toEqual([
      ["send", TWO],
      ["deny", TWO, RANGE],
    ]);
    did.length = 0;
    const single = { start: 9, end: 10 };
    subject.donate(single, TWO, [{ start: 8, end: 16 }]);
    expect(did.slice(1)).toEqual([["send", TWO]]);
    for (const [range, contested, contains] of [
      [single, [{ start: 10, end: 16 }], 1],
      [single, [{ start: 8, end: 16 }], 0],
      [{ start: 9, end: 11 }, [{ start: 8, end: 16 }], 1],
    ] as const) {
      did.length = 0;
      state.contains = contains;
      subject.donate(range, TWO, contested);
      expect(did.at(-1)).toEqual(["deny", TWO, range]);
    }
  });

  test("that cannot be saved is not made, is an error, and is denied", () => {
    const { subject, did, lines } = donor({ fails: true });
    subject.donate(RANGE, TWO, []);
    expect(did.map(([what]) => what)).toEqual(["take", "grant", "update", "send", "deny"]);
    expect(lines).toEqual(["error: cannot donate a range: no room"]);
    expect(subject.quota.allowance(TWO, 0, 1_000)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("the grace period of an address", () => {
  test("is 30 s for a container that may return, and none for others; one that runs is not prolonged", () => {
    const grace = new ReleaseGrace();
    expect([
      grace.died("c1", A, 1_000),
      grace.died("c1", A, 2_000),
      grace.died("c2", A + 1, 1_000, false),
    ]).toEqual([true, false, true] as never);
    const due = (now: number) => grace.due(now).map(({ id }) => id);
    expect([due(999), due(1_000), due(30_999), due(31_000)]).toEqual([[], ["c2"], ["c2"], ["c1", "c2"]]);
    expect(grace.holders()).toEqual(new Set(["c1", "c2"]));
    grace.blocked("c1", A, 5_000, "on-link");
    expect([grace.get(A)?.obstacle, due(5_000)]).toEqual(["on-link", ["c1", "c2"]]);
    grace.forgetHolder("c2");
    grace.forget(A);
    expect([grace.holders().size, grace.get(A)]).toEqual([0, undefined]);
  });

  test("is in the status where something stands in the way, of five addresses at most", () => {
    const grace = new ReleaseGrace();
    grace.died("c0", A, 0);
    grace.blocked("c0", A + 99, 0, "unseen");
    for (let i = 1; i <= 5; i++) grace.blocked(`c${i}`, A + i, 0, i % 2 ? "on-link" : "not-saved");
    expect([grace.notes().length, grace.notes()[0], grace.notes()[1]]).toEqual([
      5,
      "10.32.0.6 of c1 was released, but a link on the bridge still has it; it is free once that link is gone",
      "10.32.0.7 of c2 was released, but the disk cannot save that; make room (retried every 5 s)",
    ]);
    grace.blocked("c6", A + 6, 0, "on-link");
    grace.blocked("c7", A + 7, 0, "on-link");
    expect([grace.notes().length, grace.notes()[5]]).toEqual([6, "2 more addresses are held back"]);
  });
});

describe("addresses that the ring has given to another", () => {
  function displaced(owner: typeof ONE) {
    const asked: unknown[][] = [];
    const lines: string[] = [];
    const pending = new PendingRequests();
    const state = { owner, used: false, holder: "c1" as string | undefined };
    const parts = {
      pending,
      holders: {
        entries: () => [
          [
            "c1",
            {
              cidrs: [
                { address: A, prefix: 24 },
                { address: 7, prefix: 24 },
              ],
            },
          ],
        ],
        holderOf: () => state.holder,
      },
      space: { claim: (address: number) => state.used && address === A },
      replicator: {
        ring: { peer: ONE, owner: () => state.owner, contains: (address: number) => address === A },
        askForAddress: (...args: unknown[]) => asked.push(args),
      },
    };
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    return { subject: new DisplacedAddresses(parts as never, log), asked, lines, pending, state };
  }
  const FOUND = "container c1 has 10.32.0.5, which this host does not own: ";

  test("are asked for, once, until they are ours", async () => {
    const { subject, asked, pending, state } = displaced(TWO);
    subject.settle();
    subject.settle();
    expect([asked, pending.list("claim"), subject.problems()]).toEqual([
      [[TWO, A]],
      [expect.objectContaining({ id: "c1", text: "10.32.0.5" })],
      [`${FOUND}not answered yet`],
    ] as never);
    pending.retry();
    expect([asked.length, pending.size]).toEqual([2, 1]);
    state.owner = ONE;
    pending.retry();
    await Promise.resolve();
    await Promise.resolve();
    expect([asked.length, pending.size, subject.problems()]).toEqual([2, 0, []]);
  });

  test("that are ours, in use already, or outside the range are left alone", () => {
    const ours = displaced(ONE);
    ours.subject.settle();
    const used = displaced(TWO);
    used.state.used = true;
    used.subject.settle();
    expect([ours.asked, used.asked, ours.pending.size, used.pending.size]).toEqual([[], [], 0, 0]);
  });

  test("that their owner uses, too, are a problem with its reason, until the container has gone", async () => {
    const { subject, lines, pending, state } = displaced(TWO);
    subject.settle();
    pending.denied({ start: A, end: A + 1 } as never, () => new Error("in use at two"));
    for (let i = 0; i < 3; i++) await Promise.resolve();
    expect([lines, subject.problems()]).toEqual([
      ["warning: cannot claim the address of a container: in use at two"],
      [`${FOUND}in use at two`],
    ]);
    state.holder = "c2";
    expect(subject.problems()).toEqual([]);
    const cancelled = displaced(TWO);
    cancelled.subject.settle();
    cancelled.pending.cancelAll();
    for (let i = 0; i < 3; i++) await Promise.resolve();
    expect([cancelled.lines, cancelled.subject.problems()]).toEqual([[], []]);
  });
});

describe("requests that wait", () => {
  const waiting = () => undefined;
  const outcome = (request: Promise<unknown>) =>
    request.then(
      () => "done",
      (error) => `${error.constructor.name}: ${error.message}`,
    );

  test("are at most 4,096; one more is refused, but not one that can be answered", async () => {
    const pending = new PendingRequests();
    const all = Array.from({ length: 4_096 }, (_, i) =>
      outcome(pending.run("allocate", `c${i}`, "", undefined, waiting)),
    );
    expect(await outcome(pending.run("claim", "c", "", undefined, waiting))).toBe(
      "IpamError: cannot claim for c: 4096 requests wait for addresses; try again",
    );
    expect(await outcome(pending.run("claim", "c", "", undefined, () => ({ value: 1 })))).toBe("done");
    expect(pending.limit).toEqual({ name: "address-requests", value: 4_096, max: 4_096, refused: 1 });
    pending.cancelAll();
    expect([await all[0], pending.size]).toEqual(["CancelledError: allocate request for c0 cancelled", 0]);
  });

  test("are tried for the ring first, then for certain addresses, then for any; those that are done go", async () => {
    const pending = new PendingRequests();
    const order: string[] = [];
    let ready = false;
    const attempt = (what: string) => () => {
      if (ready) order.push(what);
      return ready ? { value: undefined } : undefined;
    };
    const all = (["allocate", "claim", "prime", "claim"] as const).map((kind, i) =>
      outcome(pending.run(kind, `c${i}`, "", undefined, attempt(`${kind} ${i}`))),
    );
    pending.retry();
    ready = true;
    pending.retry();
    expect([order, pending.size, await Promise.all(all)]).toEqual([
      ["prime 2", "claim 1", "claim 3", "allocate 0"],
      0,
      Array(4).fill("done"),
    ]);
  });

  test("are cancelled by their caller, their holder, or for one attachment; a vote for the ring is not", async () => {
    const pending = new PendingRequests();
    const giveUp = new AbortController();
    const mine = outcome(pending.run("claim", "c1", "", giveUp.signal, waiting));
    for (const [kind, attachment] of [
      ["allocate", "n/a"],
      ["allocate", "n/b"],
      ["claim", undefined],
      ["prime", undefined],
    ] as const)
      void outcome(pending.run(kind, "c1", "", undefined, waiting, { attachment }));
    void outcome(pending.run("claim", "c2", "", undefined, waiting));
    giveUp.abort();
    expect([await mine, pending.size, pending.waiting("c1").length, pending.waiting().length]).toEqual([
      ...["CancelledError: claim request for c1 cancelled", 5, 4, 5],
    ]);
    expect(await outcome(pending.run("claim", "c1", "", giveUp.signal, () => ({ value: 1 })))).toBe(
      "CancelledError: claim request for c1 cancelled",
    );
    expect([pending.cancel("c1", "n/a"), pending.size]).toEqual([true, 3]);
    expect([pending.cancel("c1"), pending.size, pending.cancel("c1")]).toEqual([true, 2, false]);
    expect(new CancelledError("x")).toBeInstanceOf(Error);
  });
});

test("a part that fails is started again three times at once, then once in 20 s; the last wish counts", () => {
  const clock = new SimulatedClock(1_000);
  const restarts = new Restarts("the engine", clock);
  const started: number[] = [];
  const fail = (why: string) => restarts.after(why, () => started.push(clock.now()));
  expect(restarts.notes()).toEqual([]);
  for (const why of ["a", "b", "c"]) {
    expect(fail(why)).toBe(0);
    clock.advance(0);
  }
  expect([started.length, fail("d"), restarts.notes()]).toEqual([
    3,
    20_000,
    ["the engine has failed 4 times, the last: d"],
  ]);
  clock.advance(19_999);
  expect(started.length).toBe(3);
  clock.advance(1);
  expect(started.length).toBe(4);
  fail("e");
  restarts.cancel();
  clock.advance(100_000);
  expect(started.length).toBe(4);
});

describe("the journal", () => {
  const Entry = v.object({ at: v.number(), text: v.string() });
  const entry = (at: number) => ({ at, text: `at ${at}` });

  test("has what is within its bounds, oldest first, and forgets the rest", () => {
    const database = new Database(":memory:");
    let now = 1_000;
    const journal = openJournal(
      () => database,
      Entry,
      { entries: 3, ageMs: 100 },
      () => now,
    );
    expect(journal.all()).toEqual([]);
    journal.add([entry(899), entry(900), entry(1_000)]);
    expect(journal.all().map(({ at }) => at)).toEqual([900, 1_000]);
    journal.add([entry(1_001), entry(1_002)]);
    expect(journal.all().map(({ at }) => at)).toEqual([1_000, 1_001, 1_002]);
    const count = () => database.query<{ n: number }, []>("SELECT count(*) AS n FROM journal").get()?.n;
    expect(count()).toBe(3);
    now = 1_101;
    expect(journal.all().map(({ at }) => at)).toEqual([1_001, 1_002]);
    journal.add([]);
    expect(count()).toBe(2);
    // It is there again, without what cannot be read.
    database.run("INSERT INTO journal (at, value) VALUES (1101, '{'), (1101, '{\"at\":1}')");
    expect(
      openJournal(
        () => database,
        Entry,
        { entries: 9, ageMs: 100 },
        () => now,
      ).all().length,
    ).toBe(2);
  });

  test("that an earlier version left longer than it may be is read up to its bounds, the latest first of all", () => {
    const database = new Database(":memory:");
    const open = (entries: number) =>
      openJournal(
        () => database,
        Entry,
        { entries, ageMs: 100 },
        () => 1_000,
      );
    open(9).add(Array.from({ length: 9 }, (_, i) => entry(991 + i)));
    for (const entries of [0, 1, 3, 8, 9, 10])
      expect(
        open(entries)
          .all()
          .map(({ at }) => at),
      ).toEqual(Array.from({ length: 9 }, (_, i) => 991 + i).slice(9 - Math.min(entries, 9)));
  });

  test("is written whole or not at all", () => {
    const database = new Database(":memory:");
    const journal = openJournal(
      () => database,
      Entry,
      { entries: 3, ageMs: 100 },
      () => 0,
    );
    const broken = {
      get at() {
        throw new Error("broken");
      },
      text: "",
    } as never;
    expect(() => journal.add([entry(1), broken])).toThrow("broken");
    expect(journal.all()).toEqual([]);
  });
});

test("repairs are counted by resource, remembered up to 100, and said; a fight is told of once a minute", () => {
  let now = 0;
  const lines: (readonly [string, object | undefined])[] = [];
  const repairs = new Repairs({ warning: (text, fields) => lines.push([text, fields]) }, () => now);
  const repair = (object: string, resource = "links", by?: object) =>
    ({ at: 1_700_000_000_000 + now, resource, object, wrong: "down", by }) as never;
  expect([repairs.notes(), repairs.count]).toEqual([[], 0]);
  repairs.add(repair("link weave", "links", { name: "ip", pid: 12 }), undefined);
  repairs.add(repair("table weave", "firewall"), undefined);
  expect(lines).toEqual([
    ["repaired link weave: it was down, by ip (pid 12)", { code: "repaired" }],
    ["repaired table weave: it was down", { code: "repaired" }],
  ]);
  expect([[...repairs.counts], repairs.count, repairs.notes()]).toEqual([
    ...[
      [
        ["links", 1],
        ["firewall", 1],
      ],
      2,
    ],
    ["repaired what others changed: 2 in all, the last at 2023-11-14T22:13:20Z: table weave: it was down"],
  ] as never);
  lines.length = 0;
  for (let i = 0; i < 3; i++) repairs.add(repair("link weave"), "somebody keeps changing link weave");
  repairs.failed("links", "EPERM");
  repairs.failed("links", "EPERM");
  expect(lines.map(([text]) => text)).toEqual([
    "somebody keeps changing link weave",
    "cannot repair links: EPERM; trying again",
  ]);
  now = 60_000;
  repairs.add(repair("link weave"), "somebody keeps changing link weave");
  expect(lines.length).toBe(3);
  for (let i = 0; i < 100; i++) repairs.add(repair(`o${i}`), "x");
  expect([
    repairs.latest.length,
    repairs.latest[0]?.object,
    repairs.latest.at(-1)?.object,
    repairs.count,
  ]).toEqual([100, "o0", "o99", 106]);
});
