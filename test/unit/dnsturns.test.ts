// Turns of the event loop for DNS queries over UDP, on a clock that each query moves.
import { beforeEach, expect, test } from "bun:test";
import { QueryTurns, type Valve } from "../../lib/dns/turns.ts";

let now: number;
/** Time in which other programs ran. */
let paused: number;
let next: (() => void)[];
let answered: string[];
let isShut: boolean;
let turns: QueryTurns;
const valve: Valve = {
  shut(shut) {
    isShut = shut;
  },
};
beforeEach(() => {
  [now, paused, next, answered, isShut] = [1_000, 0, [], [], false];
  turns = new QueryTurns(
    () => now,
    (fn) => next.push(fn),
    () => now - paused,
  );
});

/** A query that takes 1 ms to answer. */
function ask(from: string, what = from, size = 40): void {
  const answer = () => {
    now++;
    answered.push(what);
  };
  turns.take({ from, size, valve, answer, keep: () => ({ from, answer }) });
}

function turn(): void {
  for (const fn of next.splice(0)) fn();
}

const limits = () => turns.limits().map(({ value, refused }) => [value, refused]);

test("few queries are answered at once; many are answered in order, for 3 ms in each turn", () => {
  for (const what of ["a", "b", "c", "d", "e", "f", "g", "h"]) ask("x", what);
  expect(answered.join("")).toBe("abc");
  ask("x", "i");
  turn();
  expect(answered.join("")).toBe("abcdef");
  // Queries read in this turn queue behind those that wait.
  ask("x", "j");
  expect(answered.join("")).toBe("abcdef");
  turn();
  expect(answered.join("")).toBe("abcdefghi");
  turn();
  expect([answered.join(""), next.length]).toEqual(["abcdefghij", 0]);
  ask("x", "k");
  expect(answered.at(-1)).toBe("k");
});

test("waiting queries of one address are limited, and leave room for others", () => {
  for (let i = 0; i < 5_000; i++) ask("flood");
  expect(limits()).toEqual([
    [4_096, 901],
    [4_096, undefined],
  ]);
  ask("other");
  for (let i = 0; i < 2_000 && !answered.includes("other"); i++) turn();
  expect(answered.at(-1)).toBe("other");
  turn();
  expect(limits()).toEqual([
    [0, 901],
    [0, undefined],
  ]);
  for (let i = 0; i < 10_000; i++) ask(`${i % 100}`);
  expect(limits()[0]).toEqual([8_192, 901 + 10_000 - 3 - 8_192]);
});

test("a query longer than the maximum does not wait", () => {
  for (let i = 0; i < 5; i++) ask("x", "long", 60_000);
  expect([answered.length, ...(limits()[0] ?? [])]).toEqual([3, 0, 2]);
});

test("the kernel drops queries of a flood until the next turn", () => {
  for (let i = 0; i < 100; i++) {
    ask("flood");
    if (now < 1_003) continue;
    expect(isShut).toBe(now >= 1_010);
    now++;
  }
  expect(isShut).toBe(true);
  turn();
  expect(isShut).toBe(false);
  // A closed socket is left alone.
  for (let i = 0; i < 30; i++, now++) ask("flood");
  expect(isShut).toBe(true);
  turns.forget(valve);
  turn();
  expect(isShut).toBe(true);
});

test("a pause in which other programs run is no flood", () => {
  for (let i = 0; i < 5; i++) ask("x");
  now += 50;
  paused += 50;
  for (let i = 0; i < 5; i++) ask("x");
  expect(isShut).toBe(false);
  // With what was read before the pause.
  now += 7;
  ask("x");
  expect(isShut).toBe(true);
});
