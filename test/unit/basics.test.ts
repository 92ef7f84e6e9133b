// The floor that all rooms stand on, at its bounds: time, counts, addresses, gob's budget and the state file.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { internetChecksum } from "../../lib/address/checksum.ts";
import {
  BITS,
  ipFromNumber,
  ipFromOctets,
  ipNumber,
  ipOctets,
  octets,
  parseIp,
  parseIpSubnet,
} from "../../lib/address/ip.ts";
import { parsed } from "../../lib/address/schema.ts";
import { firstIndex } from "../../lib/address/sorted.ts";
import { parseAllocationSubnet, parseContainerCidr } from "../../lib/address/subnet.ts";
import { ActiveTime } from "../../lib/clock/activetime.ts";
import { dateOf, every, sleep, timeText } from "../../lib/clock/clock.ts";
import { Histogram } from "../../lib/clock/histogram.ts";
import { LatestMap } from "../../lib/clock/latestmap.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { Restarts } from "../../lib/clock/restarts.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { finish, Slices, type Work } from "../../lib/clock/slices.ts";
import { Tally } from "../../lib/clock/tally.ts";
import { TokenBucket } from "../../lib/clock/tokenbucket.ts";
import { Budget, FIELD_COST, UNKNOWN_COST, VALUE_COST } from "../../lib/gob/budget.ts";
import { Store } from "../../lib/store/store.ts";
import { randomOf, SEED } from "../support/seed.ts";

describe("time", () => {
  test("of activity leaves out gaps of more than 5 s", () => {
    let elapsed = 100;
    const active = new ActiveTime(() => elapsed);
    expect(active.now()).toBe(100);
    for (const [gap, counts] of [
      [5_000, 5_000],
      [5_001, 0],
      [1, 1],
      [60_000, 0],
      [4_999, 4_999],
    ] as const) {
      const before = active.now();
      elapsed += gap;
      expect([gap, active.now() - before]).toEqual([gap, counts]);
    }
  });

  test("dates are those of the wall clock now; a sleep and an interval are exact, and end", async () => {
    const clock = new SimulatedClock(1_000);
    clock.wallOffset = 1_700_000_000_000;
    expect(dateOf(clock, 400).getTime()).toBe(1_700_000_000_400);
    expect(timeText(clock, 400)).toBe("2023-11-14T22:13:20Z");
    const ticks: number[] = [];
    const timer = every(clock, 250, () => ticks.push(clock.now() - 1_000));
    let slept = false;
    void sleep(clock, 500).then(() => {
      slept = true;
    });
    clock.advance(499);
    await Promise.resolve();
    expect([ticks, slept]).toEqual([[250], false]);
    clock.advance(1);
    await Promise.resolve();
    expect([ticks, slept]).toEqual([[250, 500], true]);
    timer.cancel();
    clock.advance(5_000);
    expect(ticks).toHaveLength(2);
    // One that cancels itself.
    const self = every(clock, 10, () => self.cancel());
    clock.advance(100);
  });

  test("a simulated clock fires by time, then by order, as a sorted list does; never what was cancelled", () => {
    const random = randomOf("simulated clock");
    for (let run = 0; run < 60; run++) {
      const clock = new SimulatedClock();
      const fired: string[] = [];
      const model: { at: number; order: number; id: string }[] = [];
      let order = 0;
      for (let step = 0; step < 20; step++) {
        const ms = random.below(30) - 3;
        const id = `t${order}`;
        const timer = clock.after(ms, () => fired.push(id));
        model.push({ at: clock.now() + Math.max(0, ms), order: order++, id });
        if (random.below(4) === 0) {
          timer.cancel();
          model.pop();
        }
        if (random.below(3) > 0) continue;
        const end = clock.now() + random.below(20);
        clock.advance(end - clock.now());
        const due = model.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at || a.order - b.order);
        expect(fired.splice(0)).toEqual(due.map((each) => each.id));
        for (const each of due) model.splice(model.indexOf(each), 1);
        expect(clock.now()).toBe(end);
      }
    }
  });

  test("a histogram counts at and below each bound", () => {
    const histogram = new Histogram();
    for (const seconds of [0.001, 0.0011, 0.5, 10, 10.1]) histogram.add(seconds);
    const { buckets, count, sum } = histogram.counts;
    expect(buckets).toEqual([
      [0.001, 1],
      ...[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2].map((bound) => [bound, 2] as const),
      ...[0.5, 1, 2, 5].map((bound) => [bound, 3] as const),
      [10, 4],
    ]);
    expect([count, Math.round(sum * 10_000)]).toEqual([5, 206_021]);
    expect(new Histogram().counts.buckets.every(([, none]) => none === 0)).toBe(true);
  });

  test("a part that fails restarts three times at once, then once in 20 s; the last failure counts", () => {
    const clock = new SimulatedClock();
    const restarts = new Restarts("the engine", clock);
    expect(restarts.notes()).toEqual([]);
    const started: number[] = [];
    const fail = () => restarts.after("it broke", () => started.push(clock.now()));
    const pauses: number[] = [];
    for (let i = 0; i < 4; i++) {
      pauses.push(fail());
      clock.advance(0);
    }
    expect(pauses).toEqual([0, 0, 0, 20_000]);
    clock.advance(19_999);
    expect(started).toHaveLength(3);
    clock.advance(1);
    expect(started).toHaveLength(4);
    expect(restarts.notes()).toEqual(["the engine has failed 4 times, the last: it broke"]);
    // Another failure takes the place of one that waits; the end of all does not start any.
    fail();
    fail();
    restarts.cancel();
    clock.advance(120_000);
    expect(started).toHaveLength(4);
  });

  test("a part that fails again as soon as it has been restarted restarts every 20 s, not sooner", () => {
    const clock = new SimulatedClock();
    const restarts = new Restarts("the engine", clock);
    const started: number[] = [];
    const start = () => {
      started.push(clock.now() / 1_000);
      restarts.after("it broke", start);
    };
    start();
    clock.advance(100_000);
    expect(started).toEqual([0, 0, 0, 0, 20, 40, 60, 80, 100]);
  });

  test("a bucket gives its burst, then by the second; a clock that goes back takes nothing", () => {
    const bucket = new TokenBucket(3, 2, 1_000);
    expect([bucket.take(1_000), bucket.take(1_000), bucket.take(1_000), bucket.take(1_000)]).toEqual([
      true,
      true,
      true,
      false,
    ]);
    expect([bucket.wait(1_000), bucket.take(1_499), bucket.take(1_500), bucket.wait(1_500)]).toEqual([
      500,
      false,
      true,
      500,
    ]);
    expect([bucket.take(0), bucket.wait(500), bucket.take(500)]).toEqual([false, 0, true]);
    // More than there is, in advance.
    expect([
      bucket.take(100_000, 5),
      bucket.wait(100_000),
      bucket.take(101_400),
      bucket.take(101_501),
    ]).toEqual([true, 1_500, false, true]);
    expect([bucket.take(200_000, 0), bucket.take(200_000, 3), bucket.take(200_000, 0)]).toEqual([
      true,
      true,
      false,
    ]);
  });
});

describe("counts", () => {
  test("come and go by key, never below zero", () => {
    const tally = new Tally<string>();
    expect([tally.add("a", 2), tally.add("b", 1), tally.add("a", -1), tally.add("c", -5)]).toEqual([
      2, 1, 1, 0,
    ]);
    expect([tally.total, tally.of("a"), tally.of("x"), [...tally.keys()]]).toEqual([2, 1, 0, ["a", "b"]]);
    expect([tally.add("a", -3), tally.total, [...tally.keys()]]).toEqual([0, 1, ["b"]]);
  });

  test("the latest entries are kept: setting makes one the latest, reading does not", () => {
    const map = new LatestMap<string, number>(2);
    map.set("a", 1).set("b", 2);
    map.get("a");
    map.set("c", 3);
    expect([...map]).toEqual([
      ["b", 2],
      ["c", 3],
    ]);
    map.set("b", 4).set("d", 5);
    expect([...map]).toEqual([
      ["b", 4],
      ["d", 5],
    ]);
  });

  test("the least index is found as a walk finds it", () => {
    for (let count = 0; count < 12; count++)
      for (let from = 0; from <= count; from++) expect(firstIndex(count, (at) => at >= from)).toBe(from);
  });

  test("random numbers of a seed are splitmix64's, below their bound", () => {
    const random = seededRandom(1234567n);
    expect([random.u64(), random.u64(), random.u64()]).toEqual([
      6457827717110365317n,
      3203168211198807973n,
      9817491932198370423n,
    ]);
    for (const seed of [0n, 1n << 63n, -1n, BigInt(SEED) << 21n]) {
      const [whole, part] = [seededRandom(seed), seededRandom(seed)];
      for (let i = 0; i < 1_000; i++) expect(part.float()).toBe(Number(whole.u64() >> 11n) / 2 ** 53);
    }
    expect([0, 0.999, 0.5].map((float) => below({ float: () => float, u64: () => 0n }, 10))).toEqual([
      0, 9, 5,
    ]);
  });
});

describe("work in slices", () => {
  function* steps(count: number, each: () => void): Work<number> {
    for (let i = 0; i < count; i++) {
      each();
      yield;
    }
    return count;
  }
  function* unit(work: Work<unknown>): Work {
    yield* work;
  }

  test("ends at once where it fits, else after turns of the loop, one job after the other; what it throws is told once", () => {
    const clock = new SimulatedClock();
    const slices = new Slices(clock);
    const events: string[] = [];
    slices.run(unit(steps(3, () => {})), () => events.push("short"));
    expect([events.splice(0), slices.waiting]).toEqual([["short"], 0]);
    // Each step takes 3 ms of a clock that the work itself moves.
    const slow = (name: string, count: number) =>
      slices.run(
        unit(
          steps(count, () => {
            clock["advance"](0);
            tick.now += 3;
          }),
        ),
        () => events.push(name),
      );
    const tick = { now: 0 };
    const real = clock.now.bind(clock);
    clock.now = () => real() + tick.now;
    slow("a", 5);
    slow("b", 2);
    expect([events, slices.waiting]).toEqual([[], 2]);
    for (let i = 0; i < 10 && slices.waiting > 0; i++) clock.advance(0);
    expect(events.splice(0).sort()).toEqual(["a", "b"]);
    slices.run(
      (function* (): Work {
        yield;
        throw new Error("broken");
      })(),
      (error) => events.push(error?.message ?? "none"),
    );
    clock.advance(0);
    expect(events).toEqual(["broken"]);
  });

  test("that is given up is not finished, and its end is told to nobody", () => {
    const clock = new SimulatedClock();
    const tick = { now: 0 };
    clock.now = () => tick.now;
    const slices = new Slices(clock);
    const events: string[] = [];
    const long = () =>
      slices.run(
        (function* (): Work {
          try {
            for (;;) {
              tick.now += 5;
              yield;
            }
          } finally {
            events.push("returned");
          }
        })(),
        () => events.push("done"),
      );
    const giveUp = long();
    expect(slices.waiting).toBe(1);
    giveUp();
    expect([events.splice(0), slices.waiting]).toEqual([["returned"], 0]);
    long();
    long();
    expect(slices.waiting).toBe(2);
    slices.stop();
    clock.advance(1_000);
    // They had not begun.
    expect([events, slices.waiting]).toEqual([[], 0]);
  });

  test("a result is finished as it is, and work as a part of the caller's", () => {
    const result = <T>(of: T | Work<T>) => {
      const work = finish(of);
      for (;;) {
        const step = work.next();
        if (step.done) return step.value;
      }
    };
    expect([
      result(5),
      result(undefined),
      result(null),
      result([1]),
      result(steps(2, () => {})),
    ] as unknown[]).toEqual([5, undefined, null, [1], 2]);
  });
});

describe("addresses", () => {
  test("the internet checksum is RFC 1071's, over parts and with carries", () => {
    expect(internetChecksum([0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])).toBe(0x220d);
    expect(internetChecksum([0, 1, 0xf2, 3], [0xf4, 0xf5, 0xf6, 0xf7])).toBe(0x220d);
    expect([
      internetChecksum([]),
      internetChecksum([0xff, 0xff]),
      internetChecksum([1]),
      internetChecksum([0xff, 0xff, 0, 1]),
      // A carry out of the carry.
      internetChecksum([0xff, 0xff, 0xff, 0xff, 0, 1]),
    ]).toEqual([0xffff, 0, 0xfeff, 0xfffe, 0xfffe]);
  });

  test("of both families are the same as text, number and octets", () => {
    for (const ip of [
      "0.0.0.0",
      "10.32.0.1",
      "255.255.255.255",
      "::",
      "::1",
      "fd00::1",
      "2001:db8:0:1::ff",
    ]) {
      const family = ip.includes(":") ? 6 : 4;
      expect(parseIp(ip)).toBe(ip);
      expect(ipFromNumber(family, ipNumber(ip))).toBe(ip);
      expect(ipFromOctets(ipOctets(ip))).toBe(ip);
      expect(octets(family, ipNumber(ip))).toEqual(ipOctets(ip));
      expect(ipOctets(ip).length * 8).toBe(BITS[family]);
    }
    expect(parseIp("FD00:0:0::1")).toBe("fd00::1");
    for (const length of [0, 3, 5, 15, 17])
      expect(() => ipFromOctets(new Uint8Array(length))).toThrow(`4 or 16 octets, not ${length}`);
    for (const bad of ["fe80::1%eth0", "fd00::1/64", "1.2.3", ":::"]) expect(() => parseIp(bad)).toThrow();
    const range = ({ family, first, last }: ReturnType<typeof parseIpSubnet>) => [
      family,
      ipFromNumber(family, first),
      ipFromNumber(family, last),
    ];
    expect([
      range(parseIpSubnet("10.32.9.9/12")),
      range(parseIpSubnet("fd00::9/120")),
      range(parseIpSubnet("1.2.3.4/32")),
    ]).toEqual([
      [4, "10.32.0.0", "10.47.255.255"],
      [6, "fd00::", "fd00::ff"],
      [4, "1.2.3.4", "1.2.3.4"],
    ]);
    expect(() => parseIpSubnet("fd00::")).toThrow("has no prefix length");
  });

  test("of containers lie outside what is reserved; subnets have four addresses at least", () => {
    for (const good of ["10.0.0.0/30", "126.0.0.0/8", "128.0.0.0/8", "223.255.255.0/24", "1.0.0.0/8"])
      expect(parseAllocationSubnet(good)).toBeDefined();
    for (const [bad, why] of [
      ["10.0.0.0/31", "smaller than minimum size 4"],
      ["0.0.0.0/0", "0.0.0.0/8 (this host)"],
      ["127.0.0.0/24", "loopback"],
      ["224.0.0.0/24", "multicast"],
      ["240.0.0.0/4", "broadcast"],
      ["10.0.0.1/24", "bits after network prefix"],
    ] as const)
      expect(() => parseAllocationSubnet(bad)).toThrow(why);
    for (const good of [
      "0.255.255.255",
      "128.0.0.0",
      "126.255.255.255",
      "223.255.255.255",
      "255.255.255.254",
    ].slice(1))
      expect(parseContainerCidr(`${good}/8`).prefix).toBe(8);
    for (const bad of [
      "0.255.255.255",
      "127.0.0.0",
      "127.255.255.255",
      "224.0.0.0",
      "239.255.255.255",
      "255.255.255.255",
    ])
      expect(() => parseContainerCidr(`${bad}/8`)).toThrow("which no container can use");
  });

  test("a parser as a schema makes issues of its own errors alone", () => {
    class Complaint extends Error {}
    const schema = parsed((text) => {
      if (text === "bad") throw new Complaint("it is bad");
      if (text === "worse") throw new Error("broken");
      return text.length;
    }, Complaint);
    expect(v.safeParse(schema, "good").output as unknown).toBe(4);
    expect(v.safeParse(schema, "bad").issues?.[0].message).toBe("it is bad");
    expect(() => v.safeParse(schema, "worse")).toThrow("broken");
    expect(v.safeParse(schema, 5).success).toBe(false);
  });
});

test("gob's budget: 256 Ki units and 8 a byte; 100 types of 16 KiB in all", () => {
  const spend = (bytes: number | undefined, units: number) => () => new Budget(bytes).spend(units);
  expect(spend(undefined, 256 * 1024)).not.toThrow();
  expect(spend(undefined, 256 * 1024 + 1)).toThrow("more values than its length allows");
  expect(spend(10, 256 * 1024 + 80)).not.toThrow();
  expect(spend(10, 256 * 1024 + 81)).toThrow();
  expect([VALUE_COST, FIELD_COST, UNKNOWN_COST]).toEqual([16, 8, 256]);
  const many = new Budget();
  for (let i = 0; i < 100; i++) many.describe(1);
  expect(() => many.describe(1)).toThrow("describes too many types");
  const long = new Budget();
  long.describe(16 * 1024);
  expect(() => long.describe(1)).toThrow("describes too many types");
});

describe("the state file", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-basics-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const path = (name: string) => join(folder, name, "weave.db");
  const formatOf = (file: string) => {
    const database = new Database(file, { readonly: true });
    const value = (pragma: string) => Object.values(database.query(`PRAGMA ${pragma}`).get() ?? {})[0];
    const found = [value("user_version"), value("application_id")];
    database.close();
    return found;
  };
  const set = (file: string, sql: string) => {
    const database = new Database(file, { create: true });
    database.run(sql);
    database.close();
  };

  test("has our application id and format 3; an older one becomes that, and keeps its rows", () => {
    const file = path("format");
    const store = Store.open(file);
    store.rows("r", v.number()).set("k", 7);
    store.close();
    expect(formatOf(file)).toEqual([3, 0x57454156]);
    expect(statSync(join(folder, "format")).mode & 0o777).toBe(0o700);
    for (const older of [1, 2]) {
      set(file, `PRAGMA user_version = ${older}`);
      const again = Store.open(file);
      expect(again.rows("r", v.number()).get("k")).toBe(7);
      again.close();
      expect(formatOf(file)).toEqual([3, 0x57454156]);
    }
  });

  test("of format 4 is refused, and left as it is", () => {
    const file = path("newer");
    Store.open(file).close();
    for (const format of [4, 99]) {
      set(file, `PRAGMA user_version = ${format}`);
      expect(() => Store.open(file)).toThrow(
        expect.objectContaining({
          code: "newer",
          message: expect.stringContaining(
            `it has format ${format}, this version knows 3; run that version of weave, or move the file away`,
          ),
        }) as never,
      );
      expect(formatOf(file)).toEqual([format, 0x57454156]);
      expect(readdirSync(join(folder, "newer")).some((each) => each.includes("damaged"))).toBe(false);
    }
  });

  test("of another program, or damaged, is moved aside with its log; the next one begins anew", () => {
    for (const [name, make] of [
      ["foreign", (file: string) => set(file, "CREATE TABLE t (a)")],
      ["noise", (file: string) => writeFileSync(file, "x".repeat(8_192))],
    ] as const) {
      const file = path(name);
      mkdirSync(join(folder, name));
      make(file);
      expect(() => Store.open(file)).toThrow(expect.objectContaining({ code: "damaged" }) as never);
      expect(existsSync(file)).toBe(false);
      expect(readdirSync(join(folder, name)).some((each) => each.startsWith("weave.db.damaged"))).toBe(true);
      Store.open(file).close();
    }
  });

  test("that cannot be a file is said so, and left", () => {
    const file = path("obstacles");
    mkdirSync(file, { recursive: true });
    expect(() => Store.open(file)).toThrow("is a folder; move it away");
    writeFileSync(join(folder, "plain"), "");
    expect(() => Store.open(join(folder, "plain", "weave.db"))).toThrow("is not a folder; move it away");
    const log = path("log");
    mkdirSync(`${log}-wal`, { recursive: true });
    expect(() => Store.open(log)).toThrow(`${log}-wal is a folder`);
    mkdirSync(join(folder, "target"));
    symlinkSync(join(folder, "target"), join(folder, "linked"));
    Store.open(path("linked")).close();
    expect(existsSync(path("target"))).toBe(true);
  });

  test("rows are of their room, checked both ways; lenient rooms skip what is damaged, and what is too many", () => {
    const file = path("rows");
    const store = Store.open(file);
    const [a, b] = [store.rows("a", v.number()), store.rows("b", v.string())];
    a.set("k", 1);
    b.set("k", "x");
    a.set("k", 2);
    expect([[...a.all()], [...b.all()], a.get("none")]).toEqual([[["k", 2]], [["k", "x"]], undefined]);
    expect(() => a.set("k", "no" as never)).toThrow(
      expect.objectContaining({ code: "invalid", message: expect.stringContaining('"k" of "a"') }) as never,
    );
    b.delete("k");
    b.delete("k");
    a.set("l", 3);
    const said: string[] = [];
    const lenient = { damaged: (what: string) => said.push(what), limit: 1 };
    store.rows("a", v.unknown()).set("bad", "text");
    expect(store.rows("a", v.number(), lenient).get("bad")).toBeUndefined();
    expect(said).toEqual([
      expect.stringContaining(`skipping a damaged entry of ${file}: "bad" of "a" is invalid`),
    ]);
    said.length = 0;
    expect(store.rows("a", v.number(), { ...lenient, limit: 2 }).all().size).toBeLessThanOrEqual(2);
    expect(said.at(0)).toBe(`${file} has more than 2 rows of "a": skipping the rest`);
    said.length = 0;
    expect(store.rows("a", v.number(), { ...lenient, limit: 3 }).all()).toEqual(
      new Map([
        ["k", 2],
        ["l", 3],
      ]),
    );
    expect(said).toHaveLength(1);
    a.clear();
    expect([a.all().size, store.problems()]).toEqual([0, []]);
    a.set("x", 1);
    b.set("y", "z");
    a.clear();
    expect([...b.all()]).toEqual([["y", "z"]]);
    // An invalid row condemns the file where it is not lenient.
    store.rows("a", v.unknown()).set("bad", "text");
    expect(() => a.get("bad")).toThrow(expect.objectContaining({ code: "damaged" }) as never);
  });
});
