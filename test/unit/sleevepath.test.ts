// The path of a sleeve connection: its MTU, and what else it carries.
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { MINIMUM_MTU, PathMtu } from "../../lib/overlay/pathmtu.ts";
import { MODE } from "../../lib/overlay/sleeve/batch.ts";
import { overhead } from "../../lib/overlay/sleeve/format.ts";
import { Path } from "../../lib/overlay/sleeve/path.ts";
import { ipv4Frame } from "../support/frames.ts";
import { chance, pair, random } from "../support/sleevepair.ts";

test("a probe alone is sent whatever the kernel remembers of the path, not what comes after it", async () => {
  const [a] = await pair(false);
  const link = a.engine.link(0);
  if (!link) throw new Error("no link");
  for (const probe of [true, false, true]) a.engine.sendSpecial(link, true, 600, undefined, probe);
  a.capture(1, 2, ipv4Frame(random(100), { df: true }));
  a.engine.sendSpecial(link, false, 600, undefined, false);
  const { probe, df, fragment } = MODE;
  expect(a.sent.map(({ mode }) => mode)).toEqual([probe, df, probe, df, fragment]);
});

describe("the search for the path's MTU", () => {
  function search(real: number, limit: number, loses: () => boolean = () => false) {
    const clock = new SimulatedClock();
    const found: number[] = [];
    let tests = 0;
    const path: PathMtu = new PathMtu({
      clock,
      test(mtu) {
        tests++;
        if (mtu <= real && !loses()) clock.after(5, () => path.verified(mtu));
      },
      found: (mtu) => found.push(mtu),
    });
    path.search(limit);
    const started = clock.now();
    while (found.length === 0 && clock.now() - started < 60_000) clock.advance(10);
    return { found, tests, took: clock.now() - started, path };
  }

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

  test("never finds too much where tests are lost, and rarely too little", () => {
    let exact = 0;
    for (let i = 0; i < 200; i++) {
      const { found } = search(1218, 1438, () => chance.float() < 0.3);
      expect(found[0]).toBeLessThanOrEqual(1218);
      if (found[0] === 1218) exact++;
    }
    expect(exact).toBeGreaterThan(150);
  });
});

describe("what a path carries", () => {
  const OVERHEAD = overhead(false);

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
      encrypted: false,
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
