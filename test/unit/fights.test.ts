// Repairs that others undo again and again: when that is a fight, and how its back-off grows and falls.
import { expect, test } from "bun:test";
import { Fights } from "../../lib/host/reconcile/fights.ts";

const THEM = { name: "dhcpcd", pid: 42 } as never;

/** Fights with a clock; `repair` waits `ms` more than the back-off asks for, and returns the next back-off in ms. */
function fighting() {
  let now = 1_000_000;
  const fights = new Fights(() => now);
  const repair = (ms = 0) => {
    now += fights.wait("link weave") + ms;
    fights.repaired("link weave", undefined);
    return fights.wait("link weave");
  };
  const pass = (ms: number) => {
    now += ms;
  };
  return { fights, repair, pass };
}

test("five repairs within a minute are peace, the sixth is a fight", () => {
  const { fights } = fighting();
  const said = Array.from({ length: 6 }, () => fights.repaired("link weave", THEM));
  expect(said).toEqual([
    ...Array(5).fill(undefined),
    "dhcpcd (pid 42) keeps changing link weave: repairing it at most every 1 s",
  ]);
  expect(fights.notes()).toEqual([said[5] ?? ""]);
});

test("five repairs in each minute are peace for ever", () => {
  const { fights, pass } = fighting();
  for (let i = 0; i < 50; i++) {
    expect(fights.repaired("link weave", THEM)).toBeUndefined();
    pass(12_000);
  }
  expect(fights.notes()).toEqual([]);
});

test("the back-off doubles up to 30 s while repairs are undone before twice that time is over", () => {
  const { repair } = fighting();
  for (let i = 0; i < 5; i++) expect(repair()).toBe(0);
  expect(Array.from({ length: 7 }, () => repair() / 1_000)).toEqual([1, 2, 4, 8, 16, 30, 30]);
});

test("the back-off halves down to 1 s while repairs last for twice that time", () => {
  const { repair } = fighting();
  for (let i = 0; i < 8; i++) repair();
  expect(repair(3_999)).toBe(8_000);
  expect([repair(8_000), repair(4_000), repair(2_000), repair(1_000)]).toEqual([4_000, 2_000, 1_000, 1_000]);
});

test("a fight ends a minute after the last repair", () => {
  const { fights, repair, pass } = fighting();
  for (let i = 0; i < 6; i++) repair();
  pass(59_999);
  expect(fights.notes().length).toBe(1);
  pass(1);
  expect(fights.notes()).toEqual([]);
  expect(fights.repaired("link weave", undefined)).toBeUndefined();
});

test("objects do not wait for each other", () => {
  const { fights, repair } = fighting();
  for (let i = 0; i < 6; i++) repair();
  expect([fights.wait("link weave"), fights.wait("link veth1")]).toEqual([1_000, 0]);
});

test("who changed a link within the last 2 s is named, by any word of the object", () => {
  const { fights, pass } = fighting();
  fights.suspect("weave", THEM);
  expect([fights.culprit("address 10.32.0.1/12 of weave"), fights.culprit("link veth1")]).toEqual([
    THEM,
    undefined,
  ]);
  pass(2_000);
  expect(fights.culprit("link weave")).toBe(THEM);
  pass(1);
  expect(fights.culprit("link weave")).toBeUndefined();
});

test("a culprit that was seen once stays named while the fight goes on", () => {
  const { fights } = fighting();
  for (let i = 0; i < 6; i++) fights.repaired("link weave", THEM);
  expect(fights.repaired("link weave", undefined)).toStartWith("dhcpcd (pid 42) keeps changing");
});
