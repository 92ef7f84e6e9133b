// Tables of the manual for a terminal.
import { expect, test } from "bun:test";
import { COLOURED, PLAIN } from "../../lib/help/layout.ts";
import { tableLines } from "../../lib/help/table.ts";

const TABLE = [
  "| name | meaning |",
  "| ---- | :-----: |",
  "| `a-name-of-some-length` | what **it** means, in a number of words |",
  "| `b` | `x \\| y` |",
];

test("columns are as wide as their words need, and cells are wrapped between words", () => {
  expect(tableLines(TABLE, 44, PLAIN)).toEqual([
    "name                   meaning",
    "─────────────────────  ─────────────────────",
    "a-name-of-some-length  what it means, in a",
    "                       number of words",
    "b                      x | y",
  ]);
});

test("names are emphasized word by word", () => {
  const [, , , , last = ""] = tableLines(TABLE, 44, COLOURED);
  expect(last.replaceAll("\u001b", "^")).toContain("^[36mx^[0m ^[36m|^[0m ^[36my^[0m");
});

test("where the columns do not fit, each row is a list of its cells", () => {
  expect(tableLines(TABLE, 26, PLAIN)).toEqual([
    "a-name-of-some-length",
    "  meaning  what it means,",
    "           in a number of",
    "           words",
    "",
    "b",
    "  meaning  x | y",
  ]);
});

test("a heading that is longer than a third of the line stands above its cells", () => {
  const table = ["| name | a heading that is longer than most |", `| x | ${"y".repeat(60)} z |`];
  expect(tableLines(table, 60, PLAIN)).toEqual([
    "x",
    "  a heading that is longer than most",
    `    ${"y".repeat(60)}`,
    "    z",
  ]);
});
