// Text for terminals of 80 columns.
import { WIDTH, wrap } from "../log/paragraph.ts";

/** Where the second column begins at most; a longer first one gets a line of its own. */
const MAX_COLUMN = 30;
const INDENT = 2;
const GAP = 2;

/** Emphasis, where there is colour. */
export interface Style {
  heading(text: string): string;
  name(text: string): string;
  /** What has changed; there is none without colour. */
  readonly mark?: (text: string) => string;
}

const ESCAPE = "\u001b[";
const sgr = (code: number) => (text: string) => `${ESCAPE}${code}m${text}${ESCAPE}0m`;

export const PLAIN: Style = { heading: (text) => text, name: (text) => text };
export const COLOURED: Style = { heading: sgr(1), name: sgr(36), mark: sgr(7) };

/** Rows of a name and its text, in two columns. */
export function rows(entries: readonly (readonly [string, string])[], style: Style): string[] {
  const fitting = entries
    .map(([name]) => Bun.stringWidth(name))
    .filter((width) => width <= MAX_COLUMN - GAP - INDENT);
  const column = INDENT + Math.max(0, ...fitting) + GAP;
  return entries.flatMap(([name, text]) => {
    const width = Bun.stringWidth(name);
    const lines = wrap(text, WIDTH - column).map((line) => " ".repeat(column) + line);
    const first = " ".repeat(INDENT) + style.name(name);
    if (INDENT + width + GAP > column) return [first, ...lines];
    const [head = "", ...rest] = lines;
    return [`${first}${" ".repeat(column - INDENT - width)}${head.trimStart()}`.trimEnd(), ...rest];
  });
}

/** A heading with what stands under it; nothing where that is empty. */
export function section(heading: string, lines: readonly string[], style: Style): string[] {
  return lines.length === 0 ? [] : ["", style.heading(heading.toUpperCase()), ...lines];
}
