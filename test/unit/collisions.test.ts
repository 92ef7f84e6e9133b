import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Collisions } from "../../lib/mesh/collisions.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

const NAME = nameFromNumber(7n);

const [ONE, OTHER] = ["10.0.0.1", "10.0.0.2"];

test("a host that was restarted is no second one, whatever its address; one beside a living one is", () => {
  const clock = new SimulatedClock();
  const collisions = new Collisions(clock);
  const started = clock.now();
  for (let i = 0; i < 9; i++, clock.advance(1_000)) {
    collisions.note(NAME, { ip: ONE, lastHeard: clock.now() }, ONE);
    // Its last connection hangs on, and says nothing any more.
    collisions.note(NAME, { ip: ONE, lastHeard: started }, OTHER);
  }
  expect(collisions.isAmbiguous(NAME)).toBe(false);
  expect(collisions.judge(NAME, OTHER, undefined)).toBeUndefined();
  collisions.note(NAME, { ip: ONE, lastHeard: clock.now() }, OTHER);
  expect(collisions.judge(NAME, OTHER, undefined)?.trouble.reason).toContain(
    "is that of two hosts, at 10.0.0.1 and at 10.0.0.2",
  );
  expect(collisions.judge(NAME, ONE, undefined)).toBeUndefined();
  expect(collisions.isAmbiguous(NAME)).toBe(true);
});

test("the second host is let in some time after the first has gone, however often it tries; it inherits nothing for a day", () => {
  const clock = new SimulatedClock();
  const collisions = new Collisions(clock);
  const keeper = () => ({ ip: ONE, lastHeard: clock.now() });
  for (let i = 0; i < 9; i++, clock.advance(1_000)) collisions.note(NAME, keeper(), OTHER);
  for (let i = 0; i < 60; i++, clock.advance(60_000))
    expect(collisions.judge(NAME, OTHER, keeper())).toBeDefined();
  for (let i = 0; i < 18; i++, clock.advance(60_000))
    expect(collisions.judge(NAME, OTHER, undefined)).toBeDefined();
  clock.advance(3 * 60_000);
  expect(collisions.judge(NAME, OTHER, undefined)).toBeUndefined();
  expect(collisions.features(OTHER)).toEqual({});
  expect(collisions.problems(NAME)).toEqual([]);
  expect(collisions.isAmbiguous(NAME)).toBe(true);
  clock.advance(24 * 3_600_000);
  expect(collisions.isAmbiguous(NAME)).toBe(false);
});

test("the second host learns it in the handshake, where the name is its own", () => {
  const clock = new SimulatedClock();
  const [there, here] = [new Collisions(clock), new Collisions(clock)];
  for (let i = 0; i < 4; i++, clock.advance(2_000))
    there.note(NAME, { ip: ONE, lastHeard: clock.now() }, OTHER);
  expect(there.features("10.0.0.1")).toEqual({});
  const features = new Map(Object.entries(there.features("10.0.0.2")));
  expect(here.reported(nameFromNumber(8n), features)).toBeUndefined();
  expect(here.nameIsTaken).toBe(false);
  expect(here.reported(NAME, features)?.trouble.reason).toContain("is also that of the host at 10.0.0.1");
  expect(here.nameIsTaken).toBe(true);
  for (const lie of ["", "x", `${NAME} `, `${NAME} ${"9".repeat(80)}`])
    expect(here.reported(NAME, new Map([["NameTaken", lie]]))).toBeUndefined();
});

test("a host that is connected by another name is no problem any more, until it has the name again", () => {
  const clock = new SimulatedClock(1);
  const collisions = new Collisions(clock);
  const ours = nameFromNumber(9n);
  const clash = () => {
    collisions.noteOwn(OTHER);
    for (let i = 0; i < 4; i++, clock.advance(2_000))
      collisions.note(NAME, { ip: ONE, lastHeard: clock.now() }, OTHER);
  };
  clash();
  expect(collisions.problems(ours)).toHaveLength(2);
  collisions.named(ONE, NAME);
  collisions.named(OTHER, NAME);
  expect(collisions.problems(ours)).toHaveLength(1);
  collisions.named(OTHER, nameFromNumber(8n));
  expect(collisions.problems(ours)).toEqual([]);
  // Its addresses have no certain owner for a day.
  expect([collisions.nameIsTaken, collisions.isAmbiguous(NAME)]).toEqual([true, true]);
  clock.advance(1);
  clash();
  expect(collisions.problems(ours)).toHaveLength(2);
});

test("what is remembered is bounded", () => {
  const collisions = new Collisions(new SimulatedClock());
  for (let i = 0; i < 1_000; i++) {
    collisions.note(nameFromNumber(BigInt(i)), { ip: ONE, lastHeard: 0 }, OTHER);
    collisions.noteOwn(`10.0.${i >> 8}.${i & 255}`);
  }
  expect(collisions.problems(NAME).length).toBeLessThanOrEqual(128);
});
