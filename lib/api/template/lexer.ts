// Words of a format in the language of Go's text/template: text, and actions between {{ and }} as lists of tokens
// (https://pkg.go.dev/text/template).

/** A format that cannot be parsed or evaluated; the message names the place. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** Characters of a format. */
const MAX_FORMAT = 16_384;

type TokenKind = "word" | "field" | "variable" | "string" | "number" | "mark";

export interface Token {
  readonly kind: TokenKind;
  /** A field without its dot; a string without its quotes and escapes. */
  readonly text: string;
  /** Index in the format. */
  readonly at: number;
  /** Whether there is white space in front of it: ".A .B" is two operands, ".A.B" is one. */
  readonly spaced: boolean;
}

export type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "action"; readonly tokens: readonly Token[]; readonly at: number };

/** Return an error at an index of a format. */
export function errorAt(format: string, at: number, what: string): TemplateError {
  const before = format.slice(0, at).split("\n");
  const column = (before.at(-1)?.length ?? 0) + 1;
  return new TemplateError(`format: line ${before.length}, column ${column}: ${what}`);
}

// The longest first.
const TOKENS: readonly (readonly [TokenKind, RegExp])[] = [
  ["string", /"(?:[^"\\\n]|\\[^\n])*"|`[^`]*`/y],
  [
    "number",
    /[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])/y,
  ],
  ["number", /'(?:[^'\\\n]|\\[^\n]){1,2}'/y],
  ["variable", /\$\w*/y],
  ["field", /\.[A-Za-z_]\w*/y],
  ["word", /[A-Za-z_]\w*/y],
  ["mark", /:=|[|().,=]/y],
];

/** Split a format into text and actions, with white space trimmed where {{- and -}} say so. Throw TemplateError. */
export function pieces(format: string): Piece[] {
  if (format.length > MAX_FORMAT) throw new TemplateError(`format: longer than ${MAX_FORMAT} characters`);
  const found: Piece[] = [];
  let at = 0;
  let trim = false;
  while (at < format.length) {
    const open = format.indexOf("{{", at);
    const end = open < 0 ? format.length : open;
    const trims = /^\{\{-\s/.test(format.slice(open, open + 4)) && open >= 0;
    const raw = format.slice(at, end);
    const left = trim ? raw.trimStart() : raw;
    const text = trims ? left.trimEnd() : left;
    if (text !== "") found.push({ kind: "text", text });
    if (open < 0) break;
    const action = readAction(format, open, trims ? open + 3 : open + 2);
    if (action.tokens) found.push({ kind: "action", tokens: action.tokens, at: open });
    at = action.end;
    trim = action.trims;
  }
  return found;
}

interface Action {
  /** None: a comment. */
  readonly tokens: Token[] | undefined;
  readonly end: number;
  readonly trims: boolean;
}

function readAction(format: string, open: number, start: number): Action {
  const comment = /\s*\/\*.*?\*\/(\s+-)?\}\}/sy;
  comment.lastIndex = start;
  const commented = comment.exec(format);
  if (commented) return { tokens: undefined, end: comment.lastIndex, trims: commented[1] !== undefined };
  const tokens: Token[] = [];
  let at = start;
  for (;;) {
    const close = /(\s+-|\s*)\}\}/y;
    close.lastIndex = at;
    const closed = close.exec(format);
    if (closed) return { tokens, end: close.lastIndex, trims: closed[1]?.endsWith("-") ?? false };
    const space = /\s*/y;
    space.lastIndex = at;
    space.exec(format);
    const spaced = space.lastIndex > at || at === start;
    at = space.lastIndex;
    if (at >= format.length) throw errorAt(format, open, "this {{ has no }}");
    const token = readToken(format, at, spaced);
    tokens.push(token.token);
    at = token.end;
  }
}

function readToken(format: string, at: number, spaced: boolean): { token: Token; end: number } {
  for (const [kind, pattern] of TOKENS) {
    pattern.lastIndex = at;
    const [raw] = pattern.exec(format) ?? [];
    if (raw === undefined) continue;
    const token = { kind, text: meant(format, at, kind, raw), at, spaced };
    return { token, end: at + raw.length };
  }
  throw errorAt(format, at, `cannot read ${JSON.stringify(format.slice(at, at + 12))}`);
}

function meant(format: string, at: number, kind: TokenKind, raw: string): string {
  if (kind === "field") return raw.slice(1);
  if (kind === "string") return raw.startsWith("`") ? raw.slice(1, -1) : unescaped(format, at, raw);
  if (kind !== "number" || !raw.startsWith("'")) return raw;
  const [character = "", more] = unescaped(format, at, raw);
  if (character === "" || more !== undefined) throw errorAt(format, at, `${raw} is not one character`);
  return String(character.codePointAt(0));
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\u0007",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  "'": "'",
  '"': '"',
};

/** A quoted string of Go without its quotes. */
function unescaped(format: string, at: number, quoted: string): string {
  return quoted
    .slice(1, -1)
    .replace(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)/g, (whole, code: string) => {
      const simple = ESCAPES[code];
      if (simple !== undefined) return simple;
      const octal = /^[0-7]{3}$/.test(code);
      const value = octal ? Number.parseInt(code, 8) : Number.parseInt(code.slice(1), 16);
      if ((!octal && code.length === 1) || !(value <= 0x10ffff))
        throw errorAt(format, at, `${whole} is not an escape sequence`);
      return String.fromCodePoint(value);
    });
}
