// What the path of a fast-datapath connection carries, tested between two ends that see only the last test that came.
import { describe, expect, test } from "bun:test";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { FastdpPath } from "../../lib/overlay/fastdp/path.ts";
import {
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
  FIRST_TEST,
  TESTS,
} from "../../lib/overlay/fastdp/protocol.ts";
import { fc } from "../support/fastcheck.ts";

/** A path with a link of 1500 bytes here, and `real` on the way; frames take 10 ms, control messages `control`. */
function path(more: Partial<typeof DEFAULTS> = {}) {
  const clock = new SimulatedClock(1_000);
  const world = { ...DEFAULTS, ...more };
  const seen = {
    tests: 0,
    questions: 0,
    changes: [] as (number | undefined)[],
    outgrown: 0,
    marks: new Set<number>(),
  };
  let last = { mark: 0, mtu: 0 };
  const subject: FastdpPath = new FastdpPath({
    clock,
    limit: () => Math.min(world.link, world.told),
    test(mark, mtu) {
      seen.tests++;
      seen.marks.add(mark);
      const passes = mtu <= world.link && mtu <= world.real && world.up;
      if (passes && !world.loses()) clock.after(10, () => (last = { mark, mtu }));
    },
    ask(asked) {
      seen.questions++;
      if (!world.control) return;
      clock.after(world.control, () => {
        const answer = { asked, ...last };
        clock.after(10, () => subject.answered(answer));
      });
    },
    outgrown() {
      seen.outgrown++;
      world.told = world.link;
    },
    changed: () => seen.changes.push(subject.mtu),
  });
  every(clock, 1_000, () => subject.tick());
  /** A heartbeat comes instead of a test, as the last thing that the peer has seen. */
  const heartbeat = () => {
    last = { mark: 0, mtu: 0 };
    subject.covered();
  };
  const until = (done: () => boolean, ms = 120_000) => {
    const started = clock.now();
    while (!done() && clock.now() - started < ms) clock.advance(10);
    return clock.now() - started;
  };
  return { clock, world, seen, subject, until, heartbeat };
}

const DEFAULTS = { link: 1450, told: 65_000, real: 1450, up: true, control: 12, loses: () => false };

describe("a path", () => {
  test("that carries what the link does is known after one test", () => {
    const { clock, seen, subject } = path();
    subject.start();
    clock.advance(30);
    expect({ mtu: subject.mtu, tests: seen.tests }).toMatchObject({ mtu: 1450 });
    expect(seen.tests).toBeLessThanOrEqual(2);
  });

  test("of any MTU is found, and quickly", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 553, max: 9_000 }),
        fc.integer({ min: 600, max: 9_000 }),
        fc.integer({ min: 1, max: 250 }),
        (real, link, control) => {
          const { subject, until } = path({ real, link, control });
          subject.start();
          const took = until(() => subject.mtu !== undefined && !subject.searching);
          expect(subject.mtu).toBe(Math.min(real, link));
          expect(took).toBeLessThan(5_000);
        },
      ),
    );
  });

  test("where tests are lost is never found to carry too much", () => {
    const [rounds, found] = [100, { exact: 0 }];
    for (let i = 0; i < rounds; i++) {
      let draw = i;
      const loses = () => {
        draw = (draw * 48_271 + 11) % 2_147_483_647;
        return draw % 10 < 3;
      };
      const { subject, until } = path({ real: 1300, loses });
      subject.start();
      until(() => subject.mtu !== undefined && !subject.searching);
      expect(subject.mtu).toBeLessThanOrEqual(1300);
      if (subject.mtu === 1300) found.exact++;
    }
    expect(found.exact).toBeGreaterThan(rounds / 2);
  });

  test("of a busy peer carries what it did, also where heartbeats hide the tests that the peer would tell of", () => {
    for (const control of [100, 200, 400, 700, 900]) {
      const { clock, subject, seen, heartbeat } = path({ control });
      subject.start();
      clock.advance(5_000);
      for (let i = 0; i < 20; i++) {
        subject.suspect();
        clock.advance(control - 20);
        heartbeat();
        clock.advance(10_000);
      }
      expect([control, subject.mtu, seen.changes]).toEqual([control, 1450, [1450]]);
    }
  });

  test("to a busy peer gets one question until the peer answers, however late", () => {
    for (const control of [100, 200, 700, 3_000, 9_000]) {
      const { clock, subject, seen } = path({ control });
      subject.start();
      clock.advance(control + 5);
      expect([control, seen.questions, subject.mtu]).toEqual([control, 1, undefined]);
      clock.advance(30_000);
      expect([control, seen.questions, subject.mtu]).toEqual([control, 1, 1450]);
    }
  });

  test("that nothing passes has no MTU, and is tested again", () => {
    const { clock, world, seen, subject, until } = path({ up: false });
    subject.start();
    clock.advance(20_000);
    expect([subject.mtu, seen.changes]).toEqual([undefined, []]);
    world.up = true;
    expect(until(() => subject.mtu === 1450)).toBeLessThan(6_000);
  });

  test("whose peer answers nothing has none either", () => {
    const { clock, subject } = path({ control: 0 });
    subject.start();
    clock.advance(60_000);
    expect(subject.mtu).toBeUndefined();
  });

  test("that shrinks unheard is measured within a second of the doubt, and grows back", () => {
    const { clock, world, subject, seen, until } = path();
    subject.start();
    clock.advance(1_000);
    world.real = 1_350;
    subject.suspect();
    expect(until(() => subject.mtu === 1_350)).toBeLessThan(1_000);
    const { tests } = seen;
    clock.advance(44_000);
    expect(seen.tests).toBe(tests);
    world.real = 1_450;
    expect(until(() => subject.mtu === 1_450)).toBeLessThan(50_000);
    expect(seen.changes).toEqual([1_450, 1_350, 1_450]);
  });

  test("of which the kernel knows less takes that at once; with what the kernel has cached, more is tried", () => {
    const { clock, world, subject, seen, until } = path();
    subject.start();
    clock.advance(1_000);
    world.told = 1_300;
    world.real = 1_300;
    subject.refused();
    expect(subject.mtu).toBe(1_300);
    subject.refused();
    clock.advance(5_000);
    expect(seen.changes).toEqual([1_450, 1_300]);
    world.real = 1_450;
    expect(until(() => subject.mtu === 1_450)).toBeLessThan(60_000);
    expect(seen.outgrown).toBe(1);
  });

  test("whose link shrinks or grows is noticed on an idle path, too", () => {
    const { clock, world, subject, until } = path();
    subject.start();
    clock.advance(1_000);
    world.link = 1_350;
    expect(until(() => subject.mtu === 1_350)).toBeLessThan(12_000);
    world.link = 8_950;
    world.real = 8_950;
    expect(until(() => subject.mtu === 8_950)).toBeLessThan(13_000);
  });

  test("is not tested before it starts, nor after it has stopped", () => {
    const { clock, seen, subject } = path();
    subject.suspect();
    subject.refused();
    clock.advance(10_000);
    expect(seen.tests).toBe(0);
    subject.start();
    subject.stop();
    const { tests } = seen;
    clock.advance(100_000);
    expect([seen.tests, subject.mtu]).toEqual([tests, undefined]);
    expect(tests).toBe(1);
  });

  test("marks its tests so that they cannot be taken for heartbeats, nor those of one search for another's", () => {
    const { clock, seen, subject, world } = path({ real: 1_000 });
    subject.start();
    for (let i = 0; i < 30; i++) {
      world.real = 1_000 + i;
      clock.advance(60_000);
    }
    expect(Math.min(...seen.marks)).toBeGreaterThanOrEqual(FIRST_TEST);
    expect(Math.max(...seen.marks)).toBeLessThan(FIRST_TEST + TESTS);
    // An answer to a question of before, and one for a size that was never sent.
    world.up = false;
    while (subject.searching) clock.advance(10);
    subject.suspect();
    subject.answered({ asked: FIRST_TEST, mark: FIRST_TEST - 1, mtu: 1_400 });
    subject.answered({ asked: FIRST_TEST, mark: 0, mtu: 60_000 });
    clock.advance(3_000);
    expect(subject.mtu).toBeUndefined();
  });
});

test("questions and answers come back as they were sent; others are none", () => {
  expect(decodeQuestion(encodeQuestion(0xfe07))).toBe(0xfe07);
  const answer = { asked: 0xfe07, mark: 0xfe08, mtu: 1450 };
  expect(decodeAnswer(encodeAnswer(answer))).toEqual(answer);
  expect(encodeAnswer(answer).toHex()).toBe("fe07fe0805aa");
  for (const length of [0, 1, 3, 4, 5, 7]) {
    expect(decodeQuestion(new Uint8Array(length))).toBeUndefined();
    expect(decodeAnswer(new Uint8Array(length))).toBeUndefined();
  }
});
