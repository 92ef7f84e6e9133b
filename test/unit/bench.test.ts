// What the benchmarks print, and how results are kept and compared.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { withRows } from "../bench/result.ts";
import { compareText, figure, markdownTable, tableText, withTable } from "../bench/table.ts";

const BENCHES = {
  cni: { about: "ADD and DEL", reference: "bridge", quoted: /add/ },
  dns: { about: "names", reference: "echo" },
};
const MACHINE = { cpu: "Cpu", cores: 2, kernel: "6.1" };
const row = (name: string, unit: string, ours: number, reference: number, against?: string) => ({
  ...{ name, unit, ours, reference, ratio: ours / reference, runs: 5 },
  ...(against ? { against } : {}),
});
const result = (add: number, queries: number) => ({
  machine: MACHINE,
  benches: {
    dns: { commit: "bbb", date: "2026-01-02T10:00", rows: [row("queries", "1/s", queries, 100_000)] },
    cni: {
      commit: "aaa",
      date: "2026-01-01T10:00",
      rows: [row("cni add", "ms", add, 10), row("cni del", "ms", 20, 25, "another")],
    },
  },
});

test("figures have three significant digits", () => {
  expect([0.0123, 0.5, 12.345, 99.96, 123_456.7, null].map(figure)).toEqual([
    "0.012",
    "0.50",
    "12.3",
    "100.0",
    "123,457",
    "-",
  ]);
});

test("the table has everything with its reference, in the order of the list", () => {
  expect(
    tableText(BENCHES, result(12, 50_000)),
  ).toBe(`Cpu, 2 cores, Linux 6.1; commit bbb, aaa; 2026-01-01T10:00 to 2026-01-02T10:00

cni: ADD and DEL, against bridge
              ours  reference  ratio  runs
  cni add  12.0 ms    10.0 ms   1.20     5
  cni del  20.0 ms    25.0 ms   0.80     5  another

dns: names, against echo
                 ours    reference  ratio  runs
  queries  50,000 1/s  100,000 1/s   0.50     5`);
});

test("compare says which ratios have changed, and whether for the better", () => {
  const old = result(12, 50_000);
  const now = result(6, 25_000);
  now.benches.cni.rows[1] = row("cni check", "ms", 1, 2);
  const lines = compareText(BENCHES, old, now)
    .split("\n")
    .map((line) => line.replaceAll(/ +/g, " ").trim());
  expect(lines).toContain("cni add (ms) 12.0 6.00 1.20 0.60 -50 % better");
  expect(lines).toContain("queries (1/s) 50,000 25,000 0.50 0.25 -50 % worse");
  expect(lines).toContain("cni del (ms) 20.0 - 0.80 -");
  expect(lines).toContain("cni check (ms) - 1.00 - 0.50");
  const same = compareText(BENCHES, old, result(12.5, 50_000));
  expect(same).toContain("+4 %\n");
});

test("rows replace those of their benchmark, on the same machine only", () => {
  const before = result(12, 50_000);
  const part = { commit: "ccc", date: "2026-01-03T10:00", rows: [] };
  expect(withRows(before, MACHINE, "cni", part).benches).toEqual({ ...before.benches, cni: part });
  expect(withRows(before, { ...MACHINE, cores: 4 }, "cni", part).benches).toEqual({ cni: part });
});

test("README's block is replaced, and nothing else", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const table = markdownTable(BENCHES, result(12, 50_000));
  expect(table).toContain("| cni add | 12.0 ms | bridge: 10.0 ms | 1.20 |\n");
  expect(table).toContain("| dns: queries | 50,000 1/s | echo: 100,000 1/s | 0.50 |\n");
  expect(table).not.toContain("cni del");
  const written = withTable(readme, table);
  expect(written).toContain(table);
  expect(withTable(withTable(readme, "another"), table)).toBe(written);
  expect(written.startsWith(readme.slice(0, readme.indexOf("<!-- bench -->")))).toBe(true);
  expect(written.endsWith(readme.slice(readme.indexOf("<!-- /bench -->")))).toBe(true);
  expect(() => withTable("no block", table)).toThrow("no block");
});
