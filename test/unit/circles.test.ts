import { expect, test } from "bun:test";
import { findCircles, wrongCircles } from "../tools/circles.ts";

const graph = (edges: Record<string, string[]>) => new Map(Object.entries(edges));

test("a tree, and a file that two others import, are no circle", () => {
  expect(findCircles(graph({ a: ["b", "c"], b: ["d"], c: ["d", "absent"], d: [] }))).toEqual([]);
});

test("a circle is shown as a path, the shortest one through its first file", () => {
  const circle = graph({ main: ["a"], a: ["b"], b: ["c", "d"], c: ["d"], d: ["a"] });
  expect(findCircles(circle)).toEqual([
    ["a", "b", "d", "a"],
    ["c", "d", "a", "b", "c"],
  ]);
  expect(findCircles(graph({ self: ["self"] }))).toEqual([["self", "self"]]);
});

test("each circle is a line", () => {
  const circles = graph({ "lib/a.ts": ["lib/b.ts"], "lib/b.ts": ["lib/a.ts"] });
  expect(wrongCircles(circles)).toEqual(["circle of imports: lib/a.ts -> lib/b.ts -> lib/a.ts"]);
});
