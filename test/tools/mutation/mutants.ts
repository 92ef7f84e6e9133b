// The table of operators: what a mutant changes. Syntax comes from the TypeScript compiler's own parser.

import { type Node, type SourceFile, SyntaxKind } from "typescript/unstable/ast";
import {
  isArrayLiteralExpression,
  isAwaitExpression,
  isBinaryExpression,
  isCallExpression,
  isConditionalExpression,
  isExpressionStatement,
  isIdentifier,
  isIfStatement,
  isNumericLiteral,
  isObjectLiteralExpression,
  isPrefixUnaryExpression,
  isPropertyAccessExpression,
  isReturnStatement,
  isStringLiteral,
  isTypeNode,
} from "typescript/unstable/ast/is";
import { API } from "typescript/unstable/async";

/** One change of one file: the characters from `start` to `end` become `text`. */
export interface Mutant {
  readonly file: string;
  readonly operator: string;
  readonly line: number;
  readonly endLine: number;
  readonly start: number;
  readonly end: number;
  readonly text: string;
  /** What stood there, on one line. */
  readonly before: string;
}

/** A change of one node. */
type Change = readonly [operator: string, start: number, end: number, text: string];
type Operator = (node: Node, source: SourceFile) => readonly Change[];

/** Binary operators and what they become. */
const SWAPS: Readonly<Record<string, readonly (readonly [operator: string, text: string])[]>> = {
  "<": [
    ["boundary", "<="],
    ["comparison", ">="],
  ],
  "<=": [
    ["boundary", "<"],
    ["comparison", ">"],
  ],
  ">": [
    ["boundary", ">="],
    ["comparison", "<="],
  ],
  ">=": [
    ["boundary", ">"],
    ["comparison", "<"],
  ],
  "===": [["comparison", "!=="]],
  "!==": [["comparison", "==="]],
  "&&": [["boolean", "||"]],
  "||": [["boolean", "&&"]],
  "+": [["arithmetic", "-"]],
  "-": [["arithmetic", "+"]],
  "*": [["arithmetic", "/"]],
  "/": [["arithmetic", "*"]],
  "%": [["arithmetic", "*"]],
  "&": [["arithmetic", "|"]],
  "|": [["arithmetic", "&"]],
  "<<": [["arithmetic", ">>"]],
  ">>": [["arithmetic", "<<"]],
  ">>>": [["arithmetic", "<<"]],
  "+=": [["assignment", "-="]],
  "-=": [["assignment", "+="]],
  "??=": [["assignment", "="]],
};

/** Methods and what is called in their place; those that become "" are left out of their chain. */
const METHODS: Readonly<Record<string, string>> = {
  some: "every",
  every: "some",
  min: "max",
  max: "min",
  floor: "ceil",
  ceil: "floor",
  startsWith: "endsWith",
  endsWith: "startsWith",
  shift: "pop",
  pop: "shift",
  filter: "",
  sort: "",
  toSorted: "",
  reverse: "",
};

/** Statements that only log, and what only counts for people, are not worth a mutant. */
const LOGS = /^(?:this\.)?#?\w*\.?#?(?:log|debug|info|warn|warning|error|note)\b/;

const whole = (node: Node, source: SourceFile) => [node.getStart(source), node.end] as const;

const binary: Operator = (node, source) => {
  if (!isBinaryExpression(node)) return [];
  const { operatorToken } = node;
  const [start, end] = whole(operatorToken, source);
  const swaps = SWAPS[source.text.slice(start, end)] ?? [];
  const changes: Change[] = swaps.map(([operator, text]) => [operator, start, end, text]);
  if (operatorToken.kind === SyntaxKind.QuestionQuestionToken)
    changes.push(["default", node.left.end, node.end, ""]);
  return changes;
};

const condition: Operator = (node, source) => {
  if (isIfStatement(node)) {
    const [start, end] = whole(node.expression, source);
    return [
      ["condition", start, end, "true"],
      ["condition", start, end, "false"],
    ];
  }
  if (!isConditionalExpression(node)) return [];
  const [yes, no] = [node.whenTrue.getText(source), node.whenFalse.getText(source)];
  return [["branches", node.whenTrue.getStart(source), node.whenFalse.end, `${no} : ${yes}`]];
};

const constant: Operator = (node, source) => {
  const [start, end] = whole(node, source);
  if (node.kind === SyntaxKind.TrueKeyword) return [["constant", start, end, "false"]];
  if (node.kind === SyntaxKind.FalseKeyword) return [["constant", start, end, "true"]];
  if (!isNumericLiteral(node)) return [];
  return [["constant", start, end, `(${source.text.slice(start, end)} + 1)`]];
};

const negation: Operator = (node, source) => {
  if (isPrefixUnaryExpression(node) && node.operator === SyntaxKind.ExclamationToken)
    return [["negation", node.getStart(source), node.operand.getStart(source), ""]];
  if (isAwaitExpression(node))
    return [["await", node.getStart(source), node.expression.getStart(source), ""]];
  return [];
};

const statement: Operator = (node, source) => {
  const [start, end] = whole(node, source);
  if (node.kind === SyntaxKind.BreakStatement || node.kind === SyntaxKind.ContinueStatement)
    return [["jump", start, end, ";"]];
  if (isReturnStatement(node) && node.expression === undefined) return [["jump", start, end, ";"]];
  if (!isExpressionStatement(node)) return [];
  const text = source.text.slice(start, end);
  if (LOGS.test(text) || text.startsWith("super(")) return [];
  return [["statement", start, end, ";"]];
};

const call: Operator = (node, source) => {
  if (!isCallExpression(node)) return [];
  const changes: Change[] = [];
  const [first, second] = node.arguments;
  if (first && second && isSimple(first) && isSimple(second)) {
    const swapped = `${second.getText(source)}, ${first.getText(source)}`;
    changes.push(["arguments", first.getStart(source), second.end, swapped]);
  }
  const { expression } = node;
  if (isPropertyAccessExpression(expression)) {
    const name = expression.name.getText(source);
    const other = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
    if (other) changes.push(["method", expression.name.getStart(source), expression.name.end, other]);
    else if (other === "") changes.push(["method", expression.expression.end, node.end, ""]);
  }
  return changes;
};

const isSimple = (node: Node) =>
  isIdentifier(node) || isNumericLiteral(node) || isPropertyAccessExpression(node);

/** One element of several is left out. */
const element: Operator = (node, source) => {
  const parts: readonly Node[] = isArrayLiteralExpression(node)
    ? node.elements
    : isObjectLiteralExpression(node)
      ? node.properties
      : [];
  if (parts.length < 2) return [];
  return parts.map((part, i): Change => {
    const [before, after] = [parts[i - 1], parts[i + 1]];
    return after || !before
      ? ["element", part.getStart(source), after?.getStart(source) ?? part.end, ""]
      : ["element", before.end, part.end, ""];
  });
};

/** A word that programs read, not a text for people. */
const word: Operator = (node, source) => {
  if (!isStringLiteral(node)) return [];
  const [start, end] = whole(node, source);
  const text = source.text.slice(start, end);
  return /^"[^\s"]+"$/.test(text) ? [["word", start, end, text.replace(/"$/, '~"')]] : [];
};

/** A function that answers nothing does nothing. */
const early: Operator = (node, source) => {
  const { body, type } = node as { readonly body?: Node; readonly type?: Node };
  if (body?.kind !== SyntaxKind.Block || type?.getText(source) !== "void") return [];
  const at = body.getStart(source) + 1;
  return [["early return", at, at, " return;"]];
};

const OPERATORS: readonly Operator[] = [
  binary,
  condition,
  constant,
  negation,
  statement,
  call,
  element,
  word,
  early,
];

function mutantsOf(file: string, source: SourceFile): Mutant[] {
  const found: Mutant[] = [];
  const visit = (node: Node) => {
    if (isTypeNode(node) || node.kind === SyntaxKind.ImportDeclaration) return;
    for (const operator of OPERATORS) {
      for (const [name, start, end, text] of operator(node, source)) {
        const lineOf = (at: number) => source.text.slice(0, at).split("\n").length;
        const before = source.text.slice(start, end).replace(/\s+/g, " ");
        const [line, endLine] = [lineOf(start), lineOf(end)];
        found.push({ file, operator: name, line, endLine, start, end, text, before });
      }
    }
    node.forEachChild(visit);
  };
  source.forEachChild(visit);
  return found;
}

/** All mutants of these files, paths from `root`. */
export async function findMutants(root: string, files: readonly string[]): Promise<Mutant[]> {
  const api = new API({ cwd: root });
  try {
    const project = `${root}/tsconfig.json`;
    const snapshot = await api.updateSnapshot({ openProject: project });
    const program = snapshot.getProject(project)?.program;
    if (!program) throw new Error(`${project} cannot be opened`);
    const found: Mutant[] = [];
    for (const file of files) {
      const source = await program.getSourceFile(`${root}/${file}`);
      if (source) found.push(...mutantsOf(file, source));
    }
    return found;
  } finally {
    await api.close();
  }
}
