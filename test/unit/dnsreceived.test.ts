// What is believed of names that a peer sends.
import { expect, test } from "bun:test";
import { type Entry, MAX_CONTAINER_ID, MAX_VERSION, TOMBSTONE_S } from "../../lib/dns/entry.ts";
import { ClockSkew, correction, unsoundness } from "../../lib/dns/received.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

const NOW = 1_000_000;
const MOST = TOMBSTONE_S / 2;
const origin = nameFromNumber(1n);
const living: Entry = {
  ...{ hostname: "a.weave.local.", origin, containerId: "c", address: 1, version: 5, tombstone: 0 },
};

test("names of a peer are refused while its clock differs by more than half the life of a tombstone", () => {
  const skew = new ClockSkew();
  expect(skew.refuses(origin, NOW - MOST, NOW, 0)).toBeUndefined();
  expect(skew.refuses(origin, NOW + MOST, NOW, 0)).toBeUndefined();
  expect(skew.note(0)).toBeUndefined();
  const text = skew.refuses(origin, NOW - MOST - 1, NOW, 0);
  expect(text).toContain(`differ by ${MOST + 1} s, more than ${MOST} s`);
  expect(skew.note(5 * 60_000 - 1)).toBe(text);
  expect(skew.note(5 * 60_000)).toBeUndefined();
});

test.each<[Partial<Entry>, string | undefined]>([
  [{}, undefined],
  [{ version: MAX_VERSION, tombstone: NOW + MOST }, undefined],
  [{ hostname: "a" }, "that are not domain names"],
  [{ containerId: "c".repeat(MAX_CONTAINER_ID + 1) }, "that are not domain names"],
  [{ version: -1 }, "with versions or times out of range"],
  [{ version: MAX_VERSION + 1 }, "with versions or times out of range"],
  [{ tombstone: -1 }, "with versions or times out of range"],
  [{ tombstone: NOW + MOST + 1 }, "with versions or times out of range"],
])("an entry with %p is unsound: %p", (change, why) => {
  expect(unsoundness({ ...living, ...change }, NOW)).toBe(why);
});

test.each<[string, Partial<Entry> | undefined, Partial<Entry>, Partial<Entry> | undefined]>([
  ["of one that we do not know", undefined, {}, { version: 6, tombstone: NOW }],
  ["of one that we do not know, deleted", undefined, { tombstone: 9 }, undefined],
  ["that is ours", {}, {}, undefined],
  ["that is older", {}, { version: 4, tombstone: 9 }, undefined],
  ["that is newer", {}, { version: 7 }, { version: 8 }],
  ["of the same version, deleted", {}, { tombstone: 9 }, { version: 6 }],
  ["of one deleted in our future", { tombstone: NOW + MOST + 1 }, {}, { version: 6, tombstone: NOW }],
])("a state %s is corrected", (_, ours, theirs, expected) => {
  const mine = ours && { ...living, ...ours };
  const wanted = expected && { ...living, ...expected };
  expect(correction(mine, { ...living, ...theirs }, NOW)).toEqual(wanted);
});
