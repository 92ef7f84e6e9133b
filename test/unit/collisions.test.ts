import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Collisions } from "../../lib/mesh/collisions.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

const NAME = nameFromNumber(7n);

test("a host that was restarted is no second one; a host at another address is, after several attempts", () => {
  const clock = new SimulatedClock();
  const collisions = new Collisions(clock);
  for (let i = 0; i < 9; i++, clock.advance(1_000)) collisions.note(NAME, "10.0.0.1", "10.0.0.1");
  expect(collisions.isAmbiguous(NAME)).toBe(false);
  collisions.note(NAME, "10.0.0.1", "10.0.0.2");
  collisions.note(NAME, "10.0.0.1", "10.0.0.2");
  collisions.note(NAME, "10.0.0.1", "10.0.0.2");
  expect(collisions.judge(NAME, "10.0.0.2")).toBeUndefined();
  clock.advance(6_000);
  collisions.note(NAME, "10.0.0.1", "10.0.0.2");
  expect(collisions.judge(NAME, "10.0.0.2")?.reason).toContain(
    "is that of two hosts, at 10.0.0.1 and at 10.0.0.2",
  );
  expect(collisions.judge(NAME, "10.0.0.1")).toBeUndefined();
  expect(collisions.isAmbiguous(NAME)).toBe(true);
  clock.advance(21 * 60_000);
  expect(collisions.isAmbiguous(NAME)).toBe(false);
});

test("the second host learns it in the handshake, where the name is its own", () => {
  const clock = new SimulatedClock();
  const [there, here] = [new Collisions(clock), new Collisions(clock)];
  for (let i = 0; i < 4; i++, clock.advance(2_000)) there.note(NAME, "10.0.0.1", "10.0.0.2");
  expect(there.features("10.0.0.1")).toEqual({});
  const features = new Map(Object.entries(there.features("10.0.0.2")));
  expect(here.told(nameFromNumber(8n), features)).toBeUndefined();
  expect(here.nameIsTaken).toBe(false);
  expect(here.told(NAME, features)?.reason).toContain("is also that of the host at 10.0.0.1");
  expect(here.nameIsTaken).toBe(true);
  for (const lie of ["", "x", `${NAME} `, `${NAME} ${"9".repeat(80)}`])
    expect(here.told(NAME, new Map([["NameTaken", lie]]))).toBeUndefined();
});

test("what is remembered is bounded", () => {
  const collisions = new Collisions(new SimulatedClock());
  for (let i = 0; i < 1_000; i++) {
    collisions.note(nameFromNumber(BigInt(i)), "10.0.0.1", "10.0.0.2");
    collisions.noteOwn(`10.0.${i >> 8}.${i & 255}`);
  }
  expect(collisions.problems(NAME).length).toBeLessThanOrEqual(128);
});
