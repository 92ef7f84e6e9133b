// The engine's forwarding tables: by numbers, and never by those of before a change.
import { beforeEach, expect, test } from "bun:test";
import { SHORT_IDS } from "../../lib/mesh/bounds.ts";
import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import { PEER_IDS } from "../../lib/overlay/peerid.ts";
import { type ForwardingTables, NONE, nameAt, nameNumber, Routes } from "../../lib/overlay/sleeve/routes.ts";
import { Arena } from "../../lib/sys/arena.ts";

const bytes = (peer: number) => nameToBytes(nameFromNumber(BigInt(peer)));
const names = (...pairs: [number, number][]) => new Map(pairs.map(([id, peer]) => [id, bytes(peer)]));

let arena: Arena;
let routes: Routes;
const configure = (change: Partial<ForwardingTables>) => {
  const none = new Map<number, never>();
  const tables = { names: none, next: none, nextBySleeve: none, broadcast: none, origins: none };
  routes.configure({ self: 1, ...tables, ...change });
};
beforeEach(() => {
  arena = new Arena(1 << 17);
  routes = new Routes(arena);
});

test("nothing is known before the first tables", () => {
  expect([routes.self, routes.isKnown(0), routes.next(0, 0), routes.idOf(1), routes.idOfSource(1)]).toEqual([
    NONE,
    false,
    NONE,
    NONE,
    NONE,
  ]);
  expect([routes.broadcast(0), routes.origin(0)]).toEqual([undefined, undefined]);
});

test("a source goes by its latest number, also if it was the last one", () => {
  configure({ names: names([5, 77]) });
  expect([routes.idOfSource(77), routes.idOfSource(77)]).toEqual([5, 5]);
  configure({ names: names([6, 77]) });
  expect(routes.idOfSource(77)).toBe(6);
  configure({ names: names([6, 78]) });
  expect([routes.idOfSource(77), routes.idOf(77), routes.isKnown(5), routes.isKnown(6)]).toEqual([
    NONE,
    NONE,
    false,
    true,
  ]);
});

test("two sources in turn keep their numbers", () => {
  configure({ names: names([5, 77], [6, 78]) });
  expect([77, 78, 77, 79, 78].map((name) => routes.idOfSource(name))).toEqual([5, 6, 5, NONE, 6]);
});

test("names lie in the arena by number, and read as numbers", () => {
  const name = 0x0203_0405_0607;
  configure({ names: new Map([[9, nameToBytes(nameFromNumber(BigInt(name)))]]) });
  expect(nameAt(arena, routes.names + 9 * 6)).toBe(name);
  expect(nameNumber(Uint8Array.of(2, 3, 4, 5, 6, 7))).toBe(name);
});

test("frames of a source without a short id go by sleeve alone", () => {
  configure({ next: new Map([[7, 0]]), nextBySleeve: new Map([[7, 3]]) });
  expect([routes.next(SHORT_IDS - 1, 7), routes.next(SHORT_IDS, 7), routes.next(0, 8)]).toEqual([0, 3, NONE]);
  expect([routes.next(0, PEER_IDS), routes.isKnown(PEER_IDS)]).toEqual([NONE, false]);
  configure({});
  expect([routes.next(0, 7), routes.next(SHORT_IDS, 7)]).toEqual([NONE, NONE]);
});

test("broadcasts and their origins are those of the latest tables", () => {
  configure({ broadcast: new Map([[4, [1, 2]]]), origins: new Map([[4, 9]]), self: 3 });
  expect([routes.self, routes.broadcast(4), routes.origin(4)]).toEqual([3, [1, 2], 9]);
  configure({ self: 2 });
  expect([routes.self, routes.broadcast(4), routes.origin(4)]).toEqual([2, undefined, undefined]);
});
