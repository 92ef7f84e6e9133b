// Evaluation of a format. Bounded: anybody who can read over TCP can send any format.
import { ArgumentError, call, type Output } from "./functions.ts";
import { errorAt, TemplateError } from "./lexer.ts";
import { parse } from "./parser.ts";
import { valueText } from "./print.ts";
import type { Node, Pipe, Term } from "./tree.ts";
import { elementOf, Float, fieldOf, isFields, isNil, namesOf, truth, typeOf } from "./values.ts";

/**
 * Limit of steps: operands, elements, or parts of a text, 8 MB in all. A report of 1,000 peers with 30 connections
 * each has 5 MB.
 */
const MAX_STEPS = 2_000_000;
const CHARACTERS_A_STEP = 4;

/** Fill a format with values of `data`; `toJson` is the format's function json. Throw TemplateError. */
export function fillTemplate(format: string, data: unknown, toJson: (value: unknown) => string): string {
  const nodes = parse(format);
  const evaluation = new Evaluation(format, data, toJson);
  evaluation.run(nodes, data);
  return evaluation.text;
}

class Evaluation implements Output {
  text = "";
  #steps = 0;
  /** Variables, by their place. */
  readonly #slots: unknown[];

  constructor(
    private readonly format: string,
    data: unknown,
    readonly toJson: (value: unknown) => string,
  ) {
    this.#slots = [data];
  }

  /** Run nodes with a value of the dot; say where a loop goes on. */
  run(nodes: readonly Node[], dot: unknown): "break" | "continue" | undefined {
    for (const node of nodes) {
      this.#step(1);
      if (node.kind === "jump") return node.to;
      const jump = node.kind === "range" ? this.#range(node, dot) : this.#plain(node, dot);
      if (jump) return jump;
    }
    return undefined;
  }

  #plain(node: Exclude<Node, { kind: "jump" | "range" }>, dot: unknown): "break" | "continue" | undefined {
    if (node.kind === "text") {
      this.spend(node.text.length);
      this.text += node.text;
      return undefined;
    }
    const value = this.#pipe(node.pipe, dot);
    for (const slot of node.pipe.slots) this.#slots[slot] = value;
    if (node.kind === "print") {
      if (node.pipe.slots.length === 0) this.text += valueText(value, this.spend);
      return undefined;
    }
    if (!truth(value)) return this.run(node.otherwise, dot);
    return this.run(node.body, node.kind === "with" ? value : dot);
  }

  #range(
    node: Extract<Node, { kind: "if" | "with" | "range" }>,
    dot: unknown,
  ): "break" | "continue" | undefined {
    const value = this.#pipe(node.pipe, dot);
    const { slots } = node.pipe;
    const [first, second] = slots;
    let any = false;
    for (const [key, element] of this.#elements(value, node.at)) {
      any = true;
      this.#step(1);
      if (first !== undefined) this.#slots[first] = second === undefined ? element : key;
      if (second !== undefined) this.#slots[second] = element;
      if (this.run(node.body, element) === "break") break;
    }
    return any ? undefined : this.run(node.otherwise, dot);
  }

  /** One by one: a loop may end with the first. */
  *#elements(value: unknown, at: number): Generator<readonly [string | number, unknown]> {
    if (isNil(value)) return;
    if (Array.isArray(value)) {
      for (const [i, each] of value.entries()) yield [i, elementOf(each)];
      return;
    }
    // The elements of a map only: a struct has fields.
    if (!isFields(value) || typeOf(value) === "struct")
      throw this.#error(at, `range over a ${typeOf(value)}`);
    const names = namesOf(value);
    this.#step(names.length);
    for (const name of names) yield [name, fieldOf(value, name)];
  }

  #pipe({ commands }: Pipe, dot: unknown): unknown {
    let piped: unknown[] = [];
    for (const command of commands) piped = [this.#command(command, dot, piped)];
    return piped[0];
  }

  #command([first, ...rest]: readonly Term[], dot: unknown, piped: readonly unknown[]): unknown {
    if (!first) return undefined;
    if (first.operand.kind !== "function") return this.#term(first, dot);
    return this.#call(first.operand.name, first.at, rest, dot, piped);
  }

  #call(name: string, at: number, terms: readonly Term[], dot: unknown, piped: readonly unknown[]): unknown {
    this.#step(1);
    if (name === "and" || name === "or" || name === "not") return this.#logic(name, at, terms, dot, piped);
    const args = [...terms.map((term) => this.#term(term, dot)), ...piped];
    // What a function reads costs as much as what it answers.
    for (const arg of args) this.#step(sizeOf(arg));
    try {
      return call(name, args, this);
    } catch (error) {
      if (error instanceof ArgumentError) throw this.#error(at, error.message);
      throw error;
    }
  }

  #logic(name: string, at: number, terms: readonly Term[], dot: unknown, piped: readonly unknown[]): unknown {
    const count = terms.length + piped.length;
    if (count === 0 || (name === "not" && count > 1))
      throw this.#error(
        at,
        `${name} takes ${name === "not" ? "1 argument" : "at least 1 argument"}, not ${count}`,
      );
    let value: unknown;
    for (let i = 0; i < count; i++) {
      const term = terms[i];
      value = term ? this.#term(term, dot) : piped[i - terms.length];
      // The rest is not looked at.
      if (name !== "not" && truth(value) === (name === "or")) return value;
    }
    return name === "not" ? !truth(value) : value;
  }

  #term({ operand, fields, at }: Term, dot: unknown): unknown {
    this.#step(1);
    let value: unknown;
    switch (operand.kind) {
      case "literal":
        value = operand.value;
        break;
      case "dot":
        value = dot;
        break;
      case "variable":
        value = this.#slots[operand.slot];
        break;
      case "pipe":
        value = this.#pipe(operand.pipe, dot);
        break;
      case "function":
        value = this.#call(operand.name, at, [], dot, []);
        break;
    }
    for (const field of fields) value = this.#field(value, field, at);
    return value;
  }

  #field(value: unknown, name: string, at: number): unknown {
    if (isNil(value)) throw this.#error(at, `.${name} of nil`);
    if (!isFields(value) || value instanceof Float)
      throw this.#error(at, `there is no .${name} in a ${typeOf(value)}`);
    const found = fieldOf(value, name);
    if (found !== undefined) return found;
    const names = Object.keys(value).slice(0, 20).join(", ");
    throw this.#error(at, `there is no .${name} here; there are ${names}`);
  }

  readonly spend = (characters: number): void => this.#step(characters / CHARACTERS_A_STEP);

  #step(count: number): void {
    this.#steps += count;
    if (this.#steps > MAX_STEPS)
      throw new TemplateError(
        `format: more than ${MAX_STEPS} steps; fewer ranges within each other take less`,
      );
  }

  #error(at: number, what: string): TemplateError {
    return errorAt(this.format, at, what);
  }
}

/** Steps that a function takes to read an argument, at least. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length / CHARACTERS_A_STEP;
  if (Array.isArray(value)) return value.length;
  return isFields(value) ? Object.keys(value).length : 0;
}
