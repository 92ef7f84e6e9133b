// Lines cut and wrapped to the columns of a terminal, with what is marked in them. Pure.

/** A line, and the parts of it that have changed: from where to where. */
export interface MarkedLine {
  readonly text: string;
  readonly marks: readonly (readonly [from: number, to: number])[];
}

/** Indent of a continuation. */
const INDENT = "       ";
/** No wrapping below this width. */
const LEAST_COLUMNS = 20;

/** Columns of a terminal that reports none, as a serial console. */
export const DEFAULT_COLUMNS = 80;

export const columnsOf = ({ columns }: { readonly columns?: number }): number => columns || DEFAULT_COLUMNS;

const width = (text: string) => Bun.stringWidth(text);

/** Cut text without escapes to so many columns. */
export function cut(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  return `${prefix(text, columns - 1)}…`;
}

/** Return the longest prefix of a text that fits. */
function prefix(text: string, columns: number): string {
  let [taken, used] = ["", 0];
  for (const character of text) {
    used += width(character);
    if (used > columns) break;
    taken += character;
  }
  return taken;
}

/** Wrap a line, at spaces if possible. */
export function wrapped({ text, marks }: MarkedLine, columns: number): MarkedLine[] {
  if (width(text) <= columns || columns < LEAST_COLUMNS) return [{ text: cut(text, columns), marks }];
  const rows: MarkedLine[] = [];
  for (let from = 0; from < text.length; ) {
    const indent = from === 0 ? "" : INDENT;
    const fitting = prefix(text.slice(from), columns - indent.length);
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

/** Return where to break a fitting prefix, before the character `next`: at its last space, except in the margin. */
function breakOf(fitting: string, next: string): number {
  const margin = fitting.length - fitting.trimStart().length;
  const space = next === " " ? -1 : fitting.lastIndexOf(" ");
  return space > margin ? space : fitting.length;
}

/** Render a row with its marks. */
export function shown({ text, marks }: MarkedLine, mark: (text: string) => string): string {
  let [row, at] = ["", 0];
  for (const [from, to] of marks.filter(([begin]) => begin < text.length)) {
    row += text.slice(at, from) + mark(text.slice(from, to));
    at = to;
  }
  return row + text.slice(at);
}

/** Wrap all lines of a text. */
export function fit(text: string, columns: number): string {
  return text
    .split("\n")
    .flatMap((line) => wrapped({ text: line, marks: [] }, columns).map((row) => row.text))
    .join("\n");
}
