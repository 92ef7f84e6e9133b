// A format as a tree: what Go's text/template has, but for templates within templates.
import { errorAt, type Piece, pieces, type Token } from "./lexer.ts";
import { FUNCTIONS } from "./names.ts";
import type { Node, Operand, Pipe, Term } from "./tree.ts";
import { Float } from "./values.ts";

/** Maximum nesting of blocks and brackets. */
const MAX_DEPTH = 50;
/** How many variables there may be at once. */
const MAX_VARIABLES = 256;

/** Parse a format; throw TemplateError. */
export function parse(format: string): readonly Node[] {
  const parser = new Parser(format, pieces(format));
  const { nodes, end } = parser.block(false, 0);
  if (end) throw errorAt(format, end.at, `there is nothing that this {{${end.word}}} belongs to`);
  return nodes;
}

interface End {
  readonly word: "end" | "else";
  readonly at: number;
  /** What follows "else". */
  readonly rest: readonly Token[];
}

type Tokens = { readonly list: readonly Token[]; next: number };

class Parser {
  #next = 0;
  /** Names of the variables in scope; those of one name hide each other. */
  readonly #variables: string[] = ["$"];

  constructor(
    private readonly format: string,
    private readonly pieces: readonly Piece[],
  ) {}

  /** Nodes up to the end of a block, or of the format. */
  block(inLoop: boolean, depth: number): { nodes: Node[]; end: End | undefined } {
    const nodes: Node[] = [];
    for (;;) {
      const piece = this.pieces[this.#next++];
      if (!piece) return { nodes, end: undefined };
      if (piece.kind === "text") {
        nodes.push(piece);
        continue;
      }
      const [first, ...rest] = piece.tokens;
      if (!first) throw this.#error(piece.at, "{{}} is empty");
      const word = first.kind === "word" ? first.text : "";
      if (word === "end" && rest.length > 0) throw this.#unexpected(rest[0]);
      if (word === "end" || word === "else") return { nodes, end: { word, at: piece.at, rest } };
      nodes.push(this.#node(piece.at, word, piece.tokens, inLoop, depth));
    }
  }

  #node(at: number, word: string, tokens: readonly Token[], inLoop: boolean, depth: number): Node {
    switch (word) {
      case "if":
      case "with":
      case "range":
        return this.#control(word, at, tokens.slice(1), inLoop, depth + 1);
      case "break":
      case "continue":
        if (!inLoop) throw this.#error(at, `{{${word}}} is in no {{range}}`);
        if (tokens[1]) throw this.#unexpected(tokens[1]);
        return { kind: "jump", to: word };
      case "define":
      case "template":
      case "block":
        throw this.#error(at, `{{${word}}} is not supported: write its text in its place`);
      default:
        return { kind: "print", at, pipe: this.#wholePipe({ list: tokens, next: 0 }, at, false) };
    }
  }

  #control(
    kind: "if" | "with" | "range",
    at: number,
    tokens: readonly Token[],
    inLoop: boolean,
    depth: number,
  ): Node {
    if (depth > MAX_DEPTH) throw this.#error(at, `more than ${MAX_DEPTH} blocks within each other`);
    const outside = this.#variables.length;
    const pipe = this.#wholePipe({ list: tokens, next: 0 }, at, kind === "range");
    const inside = this.#variables.length;
    const { nodes: body, end } = this.block(inLoop || kind === "range", depth);
    this.#variables.length = inside;
    let otherwise: Node[] = [];
    let last = end;
    if (end?.word === "else") {
      const [next, ...rest] = end.rest;
      if (next && kind === "if" && next.text === "if") {
        otherwise = [this.#control("if", end.at, rest, inLoop, depth + 1)];
        last = { word: "end", at, rest: [] };
      } else {
        if (next) throw this.#unexpected(next);
        ({ nodes: otherwise, end: last } = this.block(inLoop, depth));
      }
    }
    if (!last) throw this.#error(at, `this {{${kind}}} has no {{end}}`);
    if (last.word === "else") throw this.#error(last.at, `a second {{else}} of one {{${kind}}}`);
    this.#variables.length = outside;
    return { kind, pipe, body, otherwise, at };
  }

  #wholePipe(tokens: Tokens, at: number, ofRange: boolean): Pipe {
    const pipe = this.#pipe(tokens, at, 0, ofRange);
    const more = tokens.list[tokens.next];
    if (more) throw this.#unexpected(more);
    return pipe;
  }

  #pipe(tokens: Tokens, at: number, depth: number, ofRange = false): Pipe {
    if (depth > MAX_DEPTH) throw this.#error(at, `more than ${MAX_DEPTH} brackets within each other`);
    const named = depth === 0 ? this.#declaration(tokens, ofRange) : undefined;
    const commands: Term[][] = [];
    do {
      commands.push(this.#command(tokens, at, depth, commands.length > 0));
    } while (this.#take(tokens, "|"));
    if (!named) return { commands, slots: [] };
    // Its own value does not know them yet.
    const slots = named.declares ? named.names.map(({ text }) => this.#declare(text, at)) : [];
    return { commands, slots: named.declares ? slots : named.names.map((name) => this.#slot(name)) };
  }

  /** "$x :=", "$x =", and for a range "$i, $x :=". */
  #declaration(tokens: Tokens, ofRange: boolean): { names: Token[]; declares: boolean } | undefined {
    const { list } = tokens;
    const [first, mark, second] = list;
    if (first?.kind !== "variable") return undefined;
    const isPair = mark?.text === "," && second?.kind === "variable";
    const sign = isPair ? list[3] : mark;
    if (sign?.kind !== "mark" || (sign.text !== ":=" && sign.text !== "=")) return undefined;
    if (isPair && !ofRange) throw this.#error(first.at, "only a range has two variables");
    tokens.next = isPair ? 4 : 2;
    return { names: isPair ? [first, second] : [first], declares: sign.text === ":=" };
  }

  #declare(name: string, at: number): number {
    if (this.#variables.length >= MAX_VARIABLES)
      throw this.#error(at, `more than ${MAX_VARIABLES} variables`);
    return this.#variables.push(name) - 1;
  }

  #slot({ text, at }: Token): number {
    const slot = this.#variables.lastIndexOf(text);
    if (slot < 0) throw this.#error(at, `there is no variable ${text}`);
    return slot;
  }

  #command(tokens: Tokens, at: number, depth: number, isPiped: boolean): Term[] {
    const terms: Term[] = [];
    for (;;) {
      const token = tokens.list[tokens.next];
      if (!token || (token.kind === "mark" && (token.text === "|" || token.text === ")"))) break;
      terms.push(this.#term(tokens, depth));
    }
    const [first, second] = terms;
    if (!first) throw this.#error(tokens.list[tokens.next]?.at ?? at, "a value is missing here");
    const { operand } = first;
    const isFunction = operand.kind === "function";
    if (operand.kind === "literal" && operand.value === null)
      throw this.#error(first.at, "nil is an argument, and no value by itself");
    if (isPiped && !isFunction) throw this.#error(first.at, "only a function takes a value from a |");
    if (second && !isFunction)
      throw this.#error(second.at, "a value follows a value; only a function takes arguments");
    return terms;
  }

  #term(tokens: Tokens, depth: number): Term {
    const token = tokens.list[tokens.next++];
    if (!token) throw this.#error(0, "a value is missing here");
    const operand = this.#operand(token, tokens, depth);
    const fields = token.kind === "field" ? [token.text] : [];
    for (;;) {
      const next = tokens.list[tokens.next];
      if (next?.kind !== "field" || next.spaced) break;
      if (operand.kind === "literal" || operand.kind === "function") throw this.#unexpected(next);
      fields.push(next.text);
      tokens.next++;
    }
    const after = tokens.list[tokens.next];
    if (after && !after.spaced && !(after.kind === "mark" && /^[|)]$/.test(after.text)))
      throw this.#unexpected(after);
    return { operand, fields, at: token.at };
  }

  #operand(token: Token, tokens: Tokens, depth: number): Operand {
    const { kind, text, at } = token;
    switch (kind) {
      case "field":
        return { kind: "dot" };
      case "variable":
        return { kind: "variable", slot: this.#slot(token) };
      case "string":
        return { kind: "literal", value: text };
      case "number":
        return { kind: "literal", value: numberOf(text) };
      case "word":
        if (text === "true" || text === "false") return { kind: "literal", value: text === "true" };
        if (text === "nil") return { kind: "literal", value: null };
        if (!FUNCTIONS.includes(text))
          throw this.#error(at, `there is no function "${text}"; there are ${FUNCTIONS.join(", ")}`);
        return { kind: "function", name: text };
      case "mark":
        if (text === ".") return { kind: "dot" };
        if (text !== "(") throw this.#unexpected(token);
        return { kind: "pipe", pipe: this.#bracketed(tokens, at, depth) };
    }
  }

  #bracketed(tokens: Tokens, at: number, depth: number): Pipe {
    const pipe = this.#pipe(tokens, at, depth + 1);
    if (!this.#take(tokens, ")")) throw this.#error(at, "this ( has no )");
    return pipe;
  }

  #take(tokens: Tokens, mark: string): boolean {
    const token = tokens.list[tokens.next];
    if (token?.kind !== "mark" || token.text !== mark) return false;
    tokens.next++;
    return true;
  }

  #unexpected(token: Token | undefined) {
    return this.#error(token?.at ?? 0, `"${token?.text ?? ""}" is not expected here`);
  }

  #error(at: number, what: string) {
    return errorAt(this.format, at, what);
  }
}

function numberOf(text: string): number | Float {
  if (/^[+-]?0[xXoObB]/.test(text))
    return Number(text.replace(/^[+-]/, "")) * (text.startsWith("-") ? -1 : 1);
  return /[.eE]/.test(text) ? new Float(Number(text)) : Number(text);
}
