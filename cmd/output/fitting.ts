// Lines cut and wrapped to the columns of a terminal, with what is marked in them. Pure.

/** A line, and the parts of it that have changed: from where to where. */
export interface MarkedLine {
  readonly text: string;
  readonly marks: readonly (readonly [from: number, to: number])[];
}

/** In front of what a line goes on with. */
const INDENT = "       ";
/** A terminal so narrow is not wrapped for. */
const LEAST_COLUMNS = 20;

/** Columns of a terminal that says that it has none, as a serial console does. */
export const DEFAULT_COLUMNS = 80;

export const columnsOf = ({ columns }: { readonly columns?: number }): number => columns || DEFAULT_COLUMNS;

const width = (text: string) => Bun.stringWidth(text);

/** Cuts text without escapes to so many columns. */
export function cut(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  return `${beginning(text, columns - 1)}…`;
}

/** As much of the text as takes so many columns at most. */
function beginning(text: string, columns: number): string {
  let [taken, used] = ["", 0];
  for (const character of text) {
    used += width(character);
    if (used > columns) break;
    taken += character;
  }
  return taken;
}

/** The rows that a line takes, broken at spaces where there are any. */
export function wrapped({ text, marks }: MarkedLine, columns: number): MarkedLine[] {
  if (width(text) <= columns || columns < LEAST_COLUMNS) return [{ text: cut(text, columns), marks }];
  const rows: MarkedLine[] = [];
  for (let from = 0; from < text.length; ) {
    const indent = from === 0 ? "" : INDENT;
    const fitting = beginning(text.slice(from), columns - indent.length);
    const end = from + breakOf(fitting, text[from + fitting.length] ?? " ");
    rows.push({
      text: indent + text.slice(from, end),
      marks: marks.flatMap(([begin, stop]) => {
        const [first, last] = [Math.max(begin, from), Math.min(stop, end)];
        return first < last ? [[first - from + indent.length, last - from + indent.length] as const] : [];
      }),
    });
    from = end;
    while (text[from] === " ") from++;
  }
  return rows;
}

/** Where to break what fits, with this character behind it: at its last space, but none in the margin of the line. */
function breakOf(fitting: string, next: string): number {
  const margin = fitting.length - fitting.trimStart().length;
  const space = next === " " ? -1 : fitting.lastIndexOf(" ");
  return space > margin ? space : fitting.length;
}

/** A row with what is marked in it shown as such. */
export function shown({ text, marks }: MarkedLine, mark: (text: string) => string): string {
  let [row, at] = ["", 0];
  for (const [from, to] of marks.filter(([begin]) => begin < text.length)) {
    row += text.slice(at, from) + mark(text.slice(from, to));
    at = to;
  }
  return row + text.slice(at);
}

/** Text with its lines wrapped to so many columns. */
export function fit(text: string, columns: number): string {
  return text
    .split("\n")
    .flatMap((line) => wrapped({ text: line, marks: [] }, columns).map((row) => row.text))
    .join("\n");
}
