// Paragraphs of text for terminals.

/** Columns of a terminal. */
export const WIDTH = 80;

/** Breaks text into lines of at most `width` columns, at spaces. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (line !== "" && Bun.stringWidth(`${line} ${word}`) > width) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, ...(line === "" ? [] : [line])];
}

/** Indented paragraph. */
export function paragraph(text: string, indent = 0): string[] {
  return wrap(text, WIDTH - indent).map((line) => " ".repeat(indent) + line);
}
