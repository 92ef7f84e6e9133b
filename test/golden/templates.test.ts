// Formats of "weave report -f": filled as the original fills them, from its own report.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { fillTemplate } from "../../lib/api/template/evaluate.ts";
import { TemplateError } from "../../lib/api/template/lexer.ts";

interface Recorded {
  readonly format: string;
  readonly text?: string;
  readonly refused?: string;
  readonly failed?: true;
}

const file = join(import.meta.dir, "../vectors/original/templates.json");
const { report, formats } = (await Bun.file(file).json()) as { report: unknown; formats: Recorded[] };

/** Where we differ on purpose. */
const REFUSED_BY_US = [
  '{{define "a"}}x{{end}}{{template "a"}}',
  '{{block "a" .}}x{{end}}',
  '{{html "<a>"}}',
  '{{urlquery "a b"}}',
  '{{js "a"}}',
  "{{eq .Router .Router}}",
];
/** One kind of number is enough. */
const ANSWERED_BY_US: Readonly<Record<string, string>> = { "{{eq 1 1.0}}": "true" };

function outcome(format: string): string {
  try {
    return `text: ${fillTemplate(format, report, (value) => JSON.stringify(value))}`;
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    return `error: ${error.message}`;
  }
}

test.each(formats)("$format", ({ format, text }) => {
  const answered = REFUSED_BY_US.includes(format) ? undefined : (text ?? ANSWERED_BY_US[format]);
  if (answered === undefined) expect(outcome(format)).toMatch(/^error: format: line \d+, column \d+: \S/);
  else expect(outcome(format)).toBe(`text: ${answered}`);
});

test("there are formats of each kind", () => {
  const count = (has: (recorded: Recorded) => unknown) => formats.filter(has).length;
  expect(count(({ text }) => text !== undefined)).toBeGreaterThan(120);
  expect(count(({ refused }) => refused !== undefined)).toBeGreaterThan(30);
  expect(count(({ failed }) => failed)).toBeGreaterThan(20);
});
