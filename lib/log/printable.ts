// Text of peers, pods and files on its way to a terminal or a log: it must not start lines of its own, nor move the
// cursor, change colours or turn the direction of what follows.

// Control characters (C0, DEL, C1, line and paragraph separators) and the marks that change the direction of writing.
const UNPRINTABLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The text as one line, with what is not to be printed as \x0a or \u202e. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (c) => {
    const code = c.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

/** JSON as text that is printable and still the same JSON: JSON itself escapes only what is below U+0020. */
export function escapeUnprintable(json: string): string {
  return json.replace(UNPRINTABLE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Lines, each printable and with its end. */
export function printedLines(lines: readonly string[]): string {
  return lines.map((line) => `${printable(line)}\n`).join("");
}

/** Text of several lines for a terminal: with its line ends and tabs, what else is not to be printed as \x1b. */
export function printableLines(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}
