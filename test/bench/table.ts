// Results of benchmarks as text: the table, two results side by side, and README's block. Pure.
import type { Bench } from "./benches.ts";
import type { Result, ResultRow } from "./result.ts";

/** Units of which less is better. */
const LESS = new Set(["ms", "s", "us", "MB", "bytes/s", "%", "CPU s/Gbit"]);
/** A ratio that differs by less is the same: runs differ by as much. */
const SAME = 0.05;
const BEGIN = "<!-- bench -->\n";
const END = "<!-- /bench -->\n";

type Benches = Readonly<Record<string, Pick<Bench, "about" | "reference" | "quoted">>>;

/** A figure with three significant digits, and thousands apart. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return "-";
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(value >= 10 ? 1 : value >= 0.1 ? 2 : 3);
}

const measured = ({ unit }: ResultRow, value: number | null) => `${figure(value)} ${unit}`;

/** Lay out rows in columns; the first is flush left, the others flush right. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

/** The benchmarks of a result, in the order of the list; those that it does not know last. */
function parts(benches: Benches, result: Result) {
  const names = [...Object.keys(benches), ...Object.keys(result.benches)];
  return [...new Set(names)].flatMap((name) => {
    const part = result.benches[name];
    return part ? [{ name, bench: benches[name], ...part }] : [];
  });
}

/** The machine, and the commits and dates of the rows, in a line. */
function origin({ machine: { cpu, cores, kernel }, benches }: Result): string {
  const all = Object.values(benches);
  const commits = [...new Set(all.map(({ commit }) => commit))];
  const dates = all.map(({ date }) => date).sort();
  const span = [...new Set([dates.at(0), dates.at(-1)])].join(" to ");
  return `${cpu}, ${cores} cores, Linux ${kernel}; commit ${commits.join(", ")}; ${span}`;
}

/** Everything with its reference. */
export function tableText(benches: Benches, result: Result): string {
  const lines = [origin(result)];
  for (const { name, bench, rows } of parts(benches, result)) {
    lines.push("", `${name}: ${bench?.about ?? ""}, against ${bench?.reference ?? "?"}`);
    const cells = rows.map((row) => [
      `  ${row.name}`,
      measured(row, row.ours),
      measured(row, row.reference),
      row.ratio === null ? "-" : row.ratio.toFixed(2),
      `${row.runs}`,
      ...(row.against ? [row.against] : []),
    ]);
    lines.push(...columns([["  ", "ours", "reference", "ratio", "runs"], ...cells]));
  }
  return lines.join("\n");
}

/** How a ratio has changed: "+12 %", and whether that is for the better. */
function change(unit: string, before: number | null | undefined, after: number | null | undefined): string {
  if (!before || after === null || after === undefined) return "";
  const by = after / before - 1;
  const percent = `${by < 0 ? "-" : "+"}${Math.abs(by * 100).toFixed(0)} %`;
  if (Math.abs(by) < SAME) return percent;
  return `${percent} ${by < 0 === LESS.has(unit) ? "better" : "worse"}`;
}

/** Two results side by side, with the change of each ratio. */
export function compareText(benches: Benches, old: Result, now: Result): string {
  const lines = [`old: ${origin(old)}`, `new: ${origin(now)}`];
  const names = new Set([...parts(benches, old), ...parts(benches, now)].map(({ name }) => name));
  for (const name of names) {
    const [before, after] = [old, now].map((each) => each.benches[name]?.rows ?? []);
    const all = new Map([...(before ?? []), ...(after ?? [])].map((row) => [row.name, row]));
    const cells = [...all.values()].map(({ name: row, unit }) => {
      const [a, b] = [before, after].map((rows) => rows?.find((each) => each.name === row));
      const values = [a?.ours, b?.ours, a?.ratio, b?.ratio].map(figure);
      return [`  ${row} (${unit})`, ...values, change(unit, a?.ratio, b?.ratio)];
    });
    lines.push("", `${name}:`);
    lines.push(...columns([["  ", "old", "new", "old ratio", "new ratio", "change"], ...cells]));
  }
  return lines.join("\n");
}

/** The rows that README quotes, as Markdown. */
export function markdownTable(benches: Benches, result: Result): string {
  const lines = ["| | ours | reference | ratio |", "| --- | --- | --- | --- |"];
  let last = "";
  for (const { name, bench, rows } of parts(benches, result)) {
    for (const row of rows) {
      if (bench?.quoted && !bench.quoted.test(row.name)) continue;
      const label = row.name.startsWith(name) ? row.name : `${name}: ${row.name}`;
      const against = row.against ?? bench?.reference ?? "";
      const figures = [measured(row, row.reference), row.ratio?.toFixed(2) ?? "-"];
      // What several rows in turn are measured against is said once.
      if (against !== last) figures[0] = `${against}: ${figures[0]}`;
      last = against;
      lines.push(`| ${[label, measured(row, row.ours), ...figures].join(" | ")} |`);
    }
  }
  return `${lines.join("\n")}\n\n${origin(result)}.\n`;
}

/** Put a table into the marked block of a text. Throws where there is none. */
export function withTable(text: string, table: string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`no block between ${BEGIN.trim()} and ${END.trim()}`);
  return `${text.slice(0, begin)}${BEGIN}\n${table}\n${text.slice(end)}`;
}
