// What the overlay tells the kernel as the topology changes and time passes: with a kernel that only takes notes.
import { expect, test } from "bun:test";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { overlayNetwork, THERE } from "../support/overlaynetwork.ts";

const MINUTE = 60_000;

test("a peer that is gone is forwarded to for a minute, and then no more, without any other event", () => {
  const { clock, told, other, unicast, changed, connect, routes } = overlayNetwork();
  const connection = connect();
  expect(routes()).toEqual([[2, THERE]]);
  connection.stop();
  unicast.delete(other.name);
  changed();
  expect(routes()).toEqual([[2, THERE]]);
  clock.advance(MINUTE - 1_000);
  expect(routes()).toEqual([[2, THERE]]);
  clock.advance(2_000);
  expect(routes()).toEqual([]);
  const { length } = told.tables;
  clock.advance(24 * 60 * MINUTE);
  expect(told.tables.length).toBe(length);
});

test("a peer that comes back in time stays, for good", () => {
  const { clock, other, unicast, changed, connect, routes } = overlayNetwork();
  connect().stop();
  unicast.delete(other.name);
  changed();
  clock.advance(30_000);
  connect();
  // Whether frames get through is seen to elsewhere; the route is what the topology says.
  clock.advance(MINUTE);
  changed();
  expect(routes().map(([id]) => id)).toEqual([2]);
});

test("a table that the kernel refuses is written again each second until it is taken, without any other event", () => {
  const { clock, told, kernel, changed } = overlayNetwork();
  clock.advance(10);
  const { length } = told.tables;
  kernel.refusals = 3;
  changed();
  clock.advance(2_900);
  expect(told.tables.length).toBe(length);
  clock.advance(200);
  expect(told.tables.length).toBe(length + 1);
  clock.advance(MINUTE);
  expect(told.tables.length).toBe(length + 1);
});

test("with another short id of ours all that was learned by the old ones is forgotten, at once and once", () => {
  const { clock, told, listeners, ourself } = overlayNetwork();
  clock.advance(10);
  expect(told.forgotten).toEqual([]);
  Object.assign(ourself, { shortId: 9 });
  for (const listener of listeners) listener.shortIdsChanged?.();
  expect([told.attached, told.forgotten.length]).toEqual([[9], 1]);
  expect(told.forgotten[0]).toBeGreaterThan(0n);
});

test("what was not seen for ten minutes is forgotten, looked for every minute, for a day", () => {
  const { clock, told } = overlayNetwork();
  const now = monotonicNow();
  clock.advance(24 * 60 * MINUTE);
  expect(told.forgotten.length).toBe(24 * 60);
  const age = now - (told.forgotten[0] ?? 0n);
  // Clocks of the kernel go on while the test runs.
  expect(Math.round(Number(age) / 60e9)).toBe(10);
  expect(new Set(told.tables.map((table) => JSON.stringify([...table.routes]))).size).toBe(1);
});
