// Tables of the manual for a terminal. Cells are wrapped between words, never within one: names are copied from here.
import { wrap } from "../log/paragraph.ts";
import type { Style } from "./layout.ts";

const GAP = 2;
/** Where a cell would need more lines than this, each row becomes a list of its cells. */
const MAX_LINES = 6;
/** Where the cells of such a list begin at most; headings that are longer stand above them. */
const MAX_COLUMN = 30;

/** Return true for a line of a table in Markdown. */
export const isTable = (line: string | undefined): boolean => line?.startsWith("|") === true;

/** Return a table in Markdown as lines of at most `width` columns, but for longer words. The first row is the heading. */
export function tableLines(markdown: readonly string[], width: number, style: Style): string[] {
  const [head = [], ...rows] = markdown.filter((line) => !/^\|[\s|:-]+$/.test(line)).map(cellsOf);
  const widths = columnWidths(
    [head, ...rows].map((cells) => cells.map(textOf)),
    width,
  );
  if (!widths)
    return rows.flatMap((cells, i) => [...(i > 0 ? [""] : []), ...list(head, cells, width, style)]);
  return [
    ...row(head.map(textOf), widths, style.heading),
    style.heading(widths.map((each) => "─".repeat(each)).join(" ".repeat(GAP))),
    ...rows.flatMap((cells) => row(cells, widths, (text) => text, style)),
  ];
}

const cellsOf = (line: string): string[] =>
  line
    .replace(/^\||\|\s*$/g, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));

/** Text of a cell without its marks. */
const textOf = (cell: string): string => cell.replace(/`|\*\*/g, "");

/** Emphasize names, word by word, as lines may end between the words. */
const emphasized = (cell: string, { name, heading }: Style): string =>
  cell.replace(/`([^`]*)`|\*\*([^*]*)\*\*/g, (_all, code?: string, strong?: string) =>
    (code ?? strong ?? "")
      .split(" ")
      .map(code === undefined ? heading : name)
      .join(" "),
  );

const widest = (texts: readonly string[]): number =>
  Math.max(0, ...texts.map((text) => Bun.stringWidth(text)));

/** Return the widths of columns whose cells need few lines; undefined where there are none. */
function columnWidths(rows: readonly (readonly string[])[], width: number): number[] | undefined {
  const columns = (rows[0] ?? []).map((_, i) => rows.map((cells) => cells[i] ?? ""));
  const natural = columns.map(widest);
  const widths = columns.map((cells) => widest(cells.flatMap((cell) => cell.split(/\s+/))));
  const left = () => width - GAP * (widths.length - 1) - widths.reduce((sum, each) => sum + each, 0);
  if (left() < 0) return undefined;
  const need = (i: number) => (natural[i] ?? 0) / Math.max(1, widths[i] ?? 0);
  while (left() > 0) {
    const neediest = widths.reduce((most, _, i) => (need(i) > need(most) ? i : most), 0);
    if (need(neediest) <= 1) break;
    widths[neediest] = (widths[neediest] ?? 0) + 1;
  }
  const fits = columns.every((cells, i) =>
    cells.every((cell) => wrap(cell, widths[i] ?? 0).length <= MAX_LINES),
  );
  return fits ? widths : undefined;
}

/** Return the lines of a row in columns. */
function row(
  cells: readonly string[],
  widths: readonly number[],
  mark: (text: string) => string,
  style?: Style,
): string[] {
  const wrapped = cells.map((cell, i) => wrap(style ? emphasized(cell, style) : cell, widths[i] ?? 0));
  const height = Math.max(1, ...wrapped.map(({ length }) => length));
  return Array.from({ length: height }, (_, line) => {
    const texts = wrapped.map((lines, i) => {
      const text = lines[line] ?? "";
      return text + " ".repeat(Math.max(0, (widths[i] ?? 0) - Bun.stringWidth(text)));
    });
    return mark(texts.join(" ".repeat(GAP)).trimEnd());
  });
}

/** Return a row as a list: its first cell, and below it the others with their headings, beside or above them. */
function list(head: readonly string[], cells: readonly string[], width: number, style: Style): string[] {
  const [name = "", ...rest] = cells.map((cell) => emphasized(cell, style));
  const labels = head.slice(1).map(textOf);
  const beside = GAP + widest(labels) + GAP;
  const column = beside <= MAX_COLUMN ? beside : 2 * GAP;
  return [
    name,
    ...rest.flatMap((cell, i) => {
      const label = " ".repeat(GAP) + (labels[i] ?? "");
      const lines = wrap(cell, width - column).map((line) => " ".repeat(column) + line);
      if (column < beside) return [label, ...lines];
      return [label.padEnd(column) + (lines[0] ?? "").trimStart(), ...lines.slice(1)];
    }),
  ].map((line) => line.trimEnd());
}
