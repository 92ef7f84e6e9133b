// The path of a sleeve connection: its MTU, and what else it carries.
import { describe, expect, test } from "bun:test";
import type { Timer } from "../../lib/clock/clock.ts";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { MINIMUM_MTU, PathMtu } from "../../lib/overlay/pathmtu.ts";
import { MODE } from "../../lib/overlay/sleeve/batch.ts";
import { overhead } from "../../lib/overlay/sleeve/format.ts";
import { Path } from "../../lib/overlay/sleeve/path.ts";
import { fc } from "../support/fastcheck.ts";
import { ipv4Frame } from "../support/frames.ts";
import { chance, pair, random } from "../support/sleevepair.ts";

test("a probe alone is sent whatever the kernel remembers of the path, not what comes after it", async () => {
  const [a] = await pair(undefined);
  const link = a.engine.link(0);
  if (!link) throw new Error("no link");
  for (const probe of [true, false, true]) a.engine.sendSpecial(link, true, 600, undefined, probe);
  a.capture(1, 2, ipv4Frame(random(100), { df: true }));
  a.engine.sendSpecial(link, false, 600, undefined, false);
  const { probe, df, fragment } = MODE;
  expect(a.sent.map(({ mode }) => mode)).toEqual([probe, df, probe, df, fragment]);
});

describe("the search for the path's MTU", () => {
  /** Against a peer that answers after `delay` ms, and where `asks` is set, tells what it has received. */
  function search(
    real: number,
    limit: number,
    {
      loses = () => false,
      delay = 5,
      asks = false,
    }: { loses?: () => boolean; delay?: number; asks?: boolean } = {},
  ) {
    const clock = new SimulatedClock();
    const found: number[] = [];
    const sent = { tests: 0, questions: 0 };
    const path: PathMtu = new PathMtu({
      clock,
      test(mtu) {
        sent.tests++;
        if (mtu <= real && !loses()) clock.after(delay, () => path.verified(mtu));
      },
      ...(asks && {
        ask(round) {
          sent.questions++;
          if (!loses()) clock.after(delay, () => path.answered(round));
        },
      }),
      found: (mtu) => found.push(mtu),
    });
    path.search(limit);
    const started = clock.now();
    while (found.length === 0 && clock.now() - started < 120_000) clock.advance(10);
    return { found, ...sent, took: clock.now() - started };
  }

  test("finds what the path carries where the one test is lost that was sent before the peer fell silent for a while", () => {
    for (const silentMs of [700, 1_500, 4_000, 9_000]) {
      const clock = new SimulatedClock();
      const found: number[] = [];
      const hears = () => clock.now() >= silentMs;
      const path: PathMtu = new PathMtu({
        clock,
        test: (mtu) => hears() && mtu <= 1438 && clock.after(5, () => path.verified(mtu)),
        ask: (round) => hears() && clock.after(5, () => path.answered(round)),
        found: (mtu) => found.push(mtu),
      });
      path.search(1438);
      clock.advance(60_000);
      expect([silentMs, found]).toEqual([silentMs, [1438]]);
    }
  });

  test("finds what the path carries where questions overtake tests, which then come late", () => {
    for (const [late, limit] of [
      [70, 1438],
      [250, 1438],
      [250, 9000],
    ] as const) {
      const clock = new SimulatedClock();
      const found: number[] = [];
      let busy = true;
      const path: PathMtu = new PathMtu({
        clock,
        test: (mtu) => mtu <= limit && clock.after(busy ? late : 1, () => path.verified(mtu)),
        ask: (round) => clock.after(1, () => path.answered(round)),
        found: (mtu) => found.push(mtu),
      });
      path.search(limit);
      clock.advance(late);
      busy = false;
      clock.advance(10_000);
      expect([late, found]).toEqual([late, [limit]]);
    }
  });

  test("finds any MTU, and quickly where the first guess is right", () => {
    expect(search(1438, 1438)).toMatchObject({ found: [1438], tests: 1 });
    fc.assert(
      fc.property(
        fc.integer({ min: MINIMUM_MTU, max: 9000 }),
        fc.integer({ min: MINIMUM_MTU, max: 9000 }),
        (real, limit) => {
          const { found, took } = search(real, limit);
          expect(found).toEqual([Math.min(real, limit)]);
          expect(took).toBeLessThan(5_000);
        },
      ),
    );
  });

  test.each([false, true])(
    "never finds too much where tests are lost, and rarely too little; asking: %p",
    (asks) => {
      const loses = () => chance.float() < 0.3;
      let exact = 0;
      for (let i = 0; i < 200; i++) {
        const { found } = search(1218, 1438, { loses, asks });
        expect(found[0]).toBeLessThanOrEqual(1218);
        if (found[0] === 1218) exact++;
      }
      expect(exact).toBeGreaterThan(190);
    },
  );

  test("a peer that answers after seconds is busy, and the path is as wide as it is", () => {
    for (const delay of [700, 3_000, 10_000]) {
      const { found, tests, questions } = search(1438, 1438, { delay, asks: true });
      expect(found).toEqual([1438]);
      expect(tests).toBe(1);
      expect(questions).toBeLessThan(12);
      expect(search(1218, 1438, { delay, asks: true }).found).toEqual([1218]);
    }
    // Without a question silence cannot be told from loss.
    expect(search(1438, 1438, { delay: 10_000 }).found).not.toEqual([1438]);
  });

  test("where questions are answered and tests are not, they count as lost soon; where nothing is, after 20 s", () => {
    expect(search(1218, 1438, { asks: true }).took).toBeLessThan(search(1218, 1438).took);
    const { found, tests, took } = search(1438, 1438, { loses: () => true, asks: true });
    expect(found).toEqual([MINIMUM_MTU]);
    expect(took).toBeLessThan(40_000);
    expect(tests).toBe(1);
  });

  /** A clock whose timers fire as late as a busy event loop has them. */
  class LateClock extends SimulatedClock {
    lateMs = 0;

    override after(ms: number, fn: () => void): Timer {
      return super.after(ms + this.lateMs, fn);
    }
  }

  test("a timer that fires late leaves answers as much time again, once: they may not have been read", () => {
    const clock = new LateClock();
    const found: number[] = [];
    let tests = 0;
    const path = new PathMtu({
      clock,
      test: () => tests++,
      found: (mtu) => found.push(mtu),
    });
    clock.lateMs = 400;
    path.search(1438);
    // Due after 20 ms, it fires after 420 ms: no test is repeated before another 400 ms (and 400 ms late) are over.
    clock.advance(1_219);
    expect(tests).toBe(1);
    clock.advance(1);
    expect(tests).toBe(2);
    path.verified(1438);
    expect(found).toEqual([1438]);
  });
});

describe("what a path carries", () => {
  const OVERHEAD = overhead();

  /** A path with a link of 1500 bytes at our end, and `real` on the way; the kernel remembers what ICMP told. */
  function path() {
    const clock = new SimulatedClock(1000);
    const world = {
      real: 1500,
      remembered: 1500,
      tells: false,
      carrying: false,
      preferred: true,
      sent: 0,
      probes: 0,
      flushes: 0,
    };
    const refuse = () => {
      clock.after(0, () => subject.tooBig(world.remembered));
    };
    const subject: Path = new Path({
      clock,
      cipher: undefined,
      test(mtu, probe) {
        const size = mtu + OVERHEAD;
        if (probe) world.probes++;
        if (size > (probe ? 1500 : world.remembered)) return refuse();
        world.sent += size;
        if (size <= world.real) clock.after(5, () => subject.verified(mtu));
        else if (world.tells) world.remembered = world.real;
      },
      testFragments() {
        world.sent += 60_000;
        if (world.remembered <= world.real) clock.after(5, () => subject.fragmentsReceived());
      },
      askKernel: refuse,
      outgrown() {
        world.flushes++;
        world.remembered = 1500;
      },
      changed() {},
      log() {},
    });
    subject.start();
    every(clock, 2_500, () => subject.tick(world));
    clock.advance(10_000);
    /** How long it takes until this holds, in ms. */
    const until = (holds: () => boolean, limitMs = 300_000) => {
      const began = clock.now();
      while (!holds() && clock.now() - began < limitMs) clock.advance(10);
      return clock.now() - began;
    };
    return { clock, subject, world, until };
  }

  test("is found at the start", () => {
    const { subject } = path();
    expect(subject).toMatchObject({ mtu: 1500 - OVERHEAD, fragments: true });
  });

  test.each([
    ["in silence", false],
    ["with ICMP", true],
  ] as const)(
    "less than before, %s: at once when told, within seconds in use, before the next packets if not; and more again within a minute",
    (_how, tells) => {
      for (const [use, limit] of [
        [{ carrying: true }, 6_000],
        [{ carrying: false }, 25_000],
      ] as const) {
        const { subject, world, until } = path();
        Object.assign(world, use, { tells, real: 1400 });
        const shrunk = () => subject.mtu === 1400 - OVERHEAD;
        expect(until(shrunk)).toBeLessThan(limit);
        // Fragments as large as our own link takes would be lost, until the kernel knows better.
        expect(subject.fragments && world.remembered > 1400).toBe(false);
        world.real = 1500;
        const grown = () => subject.mtu === 1500 - OVERHEAD && subject.fragments;
        expect(until(grown)).toBeLessThan(60_000);
        expect(world.flushes).toBe(tells ? 1 : 0);
      }
      const { subject, world, until } = path();
      Object.assign(world, { preferred: false, real: 1400 });
      subject.suspect();
      expect(until(() => subject.mtu === 1400 - OVERHEAD)).toBeLessThan(4_000);
    },
  );

  test("says nothing while the peer does: what is known stays, and is tested again in use", () => {
    const { subject, world, until, clock } = path();
    world.real = 0;
    world.tells = false;
    subject.suspect();
    clock.advance(60_000);
    expect(subject.mtu).toBe(1500 - OVERHEAD);
    world.real = 1400;
    world.carrying = true;
    expect(until(() => subject.mtu === 1400 - OVERHEAD)).toBeLessThan(25_000);
  });

  test("that stays less costs little, and one that is not used nothing", () => {
    const { clock, subject, world } = path();
    world.sent = 0;
    world.preferred = false;
    clock.advance(240_000);
    expect(world.sent).toBe(0);
    Object.assign(world, { preferred: true, real: 1400 });
    clock.advance(30_000);
    expect(subject.mtu).toBe(1400 - OVERHEAD);
    world.sent = 0;
    clock.advance(240_000);
    // Bytes a second.
    expect(world.sent / 240).toBeLessThan(750);
  });
});
