// A parsed format.

export type Operand =
  | { readonly kind: "literal"; readonly value: unknown }
  | { readonly kind: "dot" }
  /** A variable, by its place on the stack; the first is $, the whole. */
  | { readonly kind: "variable"; readonly slot: number }
  | { readonly kind: "pipe"; readonly pipe: Pipe }
  | { readonly kind: "function"; readonly name: string };

/** An operand and the fields of it that are meant. */
export interface Term {
  readonly operand: Operand;
  readonly fields: readonly string[];
  readonly at: number;
}

export interface Pipe {
  readonly commands: readonly (readonly Term[])[];
  /** Variables that get its value. */
  readonly slots: readonly number[];
}

export type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "print"; readonly pipe: Pipe; readonly at: number }
  | { readonly kind: "jump"; readonly to: "break" | "continue" }
  | {
      readonly kind: "if" | "with" | "range";
      readonly pipe: Pipe;
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
      readonly at: number;
    };
