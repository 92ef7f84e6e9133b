// Go templates of Helm out of trees: https://helm.sh/docs/chart_template_guide/

import { DISTRIBUTIONS } from "../distributions.ts";
import { CLOSE, NUMBER, OPEN } from "./marks.ts";
import { OFF, ON, SWITCHES } from "./probe.ts";
import type { Choice, Node, Tree } from "./tree.ts";
import { VALUES } from "./values.ts";

const MARK = new RegExp(`${OPEN}([^${CLOSE}]*)${CLOSE}`, "g");
const MARKED = new RegExp(`${OPEN}(\\w+)\\.(key|0)${CLOSE}`);
const NUMBERED = new RegExp(`^${OPEN}(\\w+)\\.${NUMBER}${CLOSE}$`);
/** A list's two elements and what joins them. */
const JOINED = new RegExp(`${OPEN}(\\w+)\\.0${CLOSE}([^${OPEN}]*)${OPEN}\\1\\.1${CLOSE}`, "g");

/** Return a list of objects as documents whose parts stand between conditions. */
export function templateText(tree: Tree): string {
  const lines = choice(tree, (node) =>
    node.kind === "list"
      ? node.items.flatMap((item) => choice(item, (object) => ["---", ...block(object, "")]))
      : unreachable(),
  );
  return `${lines.join("\n")}\n`;
}

/** Lines for a choice: those of each branch after its condition; the last branch is that of what is not set, or of most values. */
function choice<T>(tree: Choice<T | undefined>, print: (leaf: T) => string[]): string[] {
  if ("leaf" in tree) return tree.leaf === undefined ? [] : print(tree.leaf);
  const { name } = SWITCHES[tree.by] ?? unreachable();
  const rank = ({ values }: { values: readonly string[] }) =>
    values.includes(OFF) ? Infinity : values.length;
  const branches = tree.branches.toSorted((a, b) => rank(a) - rank(b));
  const last = branches.pop() ?? unreachable();
  const rest = choice(last.result, print);
  const parts = branches.map(({ values, result }) => ({ values, lines: choice(result, print) }));
  if (parts.every(({ lines }) => lines.length === 0)) {
    const others = branches.flatMap(({ values }) => values);
    return [`{{- if not (${condition(name, others)}) }}`, ...rest, "{{- end }}"];
  }
  return [
    ...parts
      // An empty part keeps its values from the rest.
      .filter(({ lines }) => lines.length > 0 || rest.length > 0)
      .flatMap(({ values, lines }, i) => [
        `{{- ${i > 0 ? "else if" : "if"} ${condition(name, values)} }}`,
        ...lines,
      ]),
    ...(rest.length > 0 ? ["{{- else }}", ...rest] : []),
    "{{- end }}",
  ];
}

/** Whether a value is set, or one of some texts. */
function condition(name: string, values: readonly string[]): string {
  if (values.includes(ON)) return `.Values.${name}`;
  const [first, ...more] = values.map((value) => JSON.stringify(value));
  return more.length === 0
    ? `eq .Values.${name} ${first}`
    : `has .Values.${name} (list ${[first, ...more].join(" ")})`;
}

/** Lines of a map or a list in YAML's block style. */
function block(node: Node, indent: string): string[] {
  if (node.kind === "map")
    return node.entries.flatMap(({ key, value }) =>
      choice(value, (child) => entry(`${key}:`, child, indent)),
    );
  if (node.kind === "list")
    return node.items.flatMap((item) => choice(item, (child) => repeated(child, listItem(child, indent))));
  return [`${indent}${inline(node) ?? ""}`];
}

function entry(key: string, child: Node, indent: string): string[] {
  const text = inline(child);
  return text === undefined
    ? [`${indent}${key}`, ...block(child, child.kind === "list" ? indent : `${indent}  `)]
    : [`${indent}${key} ${text}`];
}

/** An item of a list. One whose first entry depends on something begins on a line of its own. */
function listItem(child: Node, indent: string): string[] {
  const text = inline(child);
  if (text !== undefined) return [`${indent}- ${text}`];
  const [first = "", ...rest] = block(child, `${indent}  `);
  return first.startsWith("{{-")
    ? [`${indent}-`, first, ...rest]
    : [`${indent}- ${first.trimStart()}`, ...rest];
}

/** An item with a name of a map stands for all of them. */
function repeated(child: Node, lines: string[]): string[] {
  const own = child.kind === "map" ? child.entries.map(({ value }) => textOf(value)).join("\n") : "";
  const [, name, part] = MARKED.exec(own) ?? [];
  return name !== undefined && part === "key"
    ? [`{{- range $name, $value := .Values.${name} }}`, ...lines, "{{- end }}"]
    : lines;
}

/** The text of a string that is always the same; "" for all else. */
const textOf = (tree: Tree): string =>
  "leaf" in tree && tree.leaf?.kind === "scalar" ? String(tree.leaf.value) : "";

/** Text of a node that stands on the line of its key. */
function inline(node: Node): string | undefined {
  if (node.kind === "empty") return node.text;
  if (node.kind === "scalar") return typeof node.value === "string" ? scalar(node.value) : String(node.value);
  if (node.kind === "list") return undefined;
  const [first] = node.entries;
  const [, name] = first ? (MARKED.exec(first.key) ?? []) : [];
  return name === undefined ? undefined : `{{ .Values.${name} | toJson }}`;
}

/** A string: what stands between marks is text of a format. */
function scalar(text: string): string {
  if (!text.includes(OPEN)) return JSON.stringify(text);
  const [, number] = NUMBERED.exec(text) ?? [];
  if (number !== undefined) return `{{ .Values.${number} | toJson }}`;
  const expressions: string[] = [];
  const keep = (expression: string) => {
    expressions.push(expression);
    return "%s";
  };
  const format = text
    .replaceAll("%", "%%")
    .replace(JOINED, (_, name, separator) => keep(`(join ${JSON.stringify(separator)} .Values.${name})`))
    .replace(MARK, (_, path) => keep(expression(path)));
  const [only] = expressions;
  return format === "%s"
    ? `{{ ${only} | quote }}`
    : `{{ printf ${JSON.stringify(format)} ${expressions.join(" ")} | quote }}`;
}

function expression(path: string): string {
  if (path.endsWith(".key")) return "$name";
  // Numbers of 1000000 and more would become 1e+06 as text.
  if (path.endsWith(".value")) return '(ternary $value (toJson $value) (kindIs "string" $value))';
  const value = VALUES[path];
  if (value?.kind !== "folder") return `.Values.${path}`;
  const folders = Object.entries(DISTRIBUTIONS).flatMap(([name, { [value.of]: folder }]) => [name, folder]);
  const list = folders.map((text) => JSON.stringify(text)).join(" ");
  return `(.Values.${path} | default (get (dict ${list}) .Values.distribution))`;
}

function unreachable(): never {
  throw new Error("a decision by a setting that is not there");
}
