// Paragraphs of text for terminals.

/** Columns of a terminal. */
export const WIDTH = 80;

/** Break text at spaces into lines of at most `width` columns. */
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

/** Return an indented paragraph for a terminal. */
export function paragraph(text: string, indent = 0): string[] {
  return wrap(text, WIDTH - indent).map((line) => " ".repeat(indent) + line);
}
