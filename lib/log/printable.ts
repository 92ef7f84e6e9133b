// Escape text of peers, pods and files for a terminal or a log: it must not begin lines, move the cursor, change colours or
// reverse the direction of what follows.

// Control characters (C0, DEL, C1), line and paragraph separators, and bidirectional formatting characters (UAX #9).
const UNPRINTABLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Return text as one line, with unprintable characters as \x0a or \u202e. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (c) => {
    const code = c.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

/** Return JSON, indented or not, with unprintable characters escaped; JSON.stringify escapes only those below U+0020. */
export function escapeUnprintable(json: string): string {
  return json.replace(UNPRINTABLE, (c) =>
    // Between values: within one it is escaped already.
    c === "\n" ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Return lines, each printable and ended by "\n". */
export function printedLines(lines: readonly string[]): string {
  return lines.map((line) => `${printable(line)}\n`).join("");
}

/** Return text for a terminal: line ends and tabs stay, other unprintable characters become \x1b. */
export function printableLines(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}
