// npm run sentences: print every sentence of the executables that a person can meet, a line each: file, line, kind, text.
// TypeScript's own scanner finds the string literals; what stands around one tells what it is for.
import { join } from "node:path";
import { Glob } from "bun";
import { SyntaxKind } from "typescript/unstable/ast";
import { createScanner } from "typescript/unstable/ast/scanner";

const root = join(import.meta.dir, "../..");

export type SentenceKind = "error" | "log" | "finding" | "help" | "retired" | "other" | "page";

export interface Sentence {
  readonly file: string;
  readonly line: number;
  readonly kind: SentenceKind;
  /** An embedded expression stands in braces: "no route to {host}". */
  readonly text: string;
}

/** Calls and properties by the kind of the strings in them. */
const OWNERS: readonly (readonly [RegExp, SentenceKind])[] = [
  [/Error$|^(refused|failed|fail|complaint)$/, "error"],
  [/^(debug|info|warning|error|note|warn|warnings?Text|limited|#?log|#?warn|#?note|#?info|#?debug)$/, "log"],
  [/^(ok|problem|advice|found|without|fixes)$/, "finding"],
  [/^(description|details|does|defaultText|environment|exitCodes)$/, "help"],
  [/^retired$/, "retired"],
];

/** Two words, or one beside an embedded expression. */
const WORDS = /[A-Za-z}][a-z,:;'")]* \{?[A-Za-z(]/;

/** Return the sentences of one source file. */
export function sentencesOf(file: string, source: string): Sentence[] {
  const scanner = createScanner(true);
  scanner.setText(source);
  const sentences: Sentence[] = [];
  const owners: string[] = [];
  const templates: { text: string; at: number; depth: number; expressionAt: number }[] = [];
  let [previous, name, afterName] = [SyntaxKind.Unknown, "", SyntaxKind.Unknown];
  let property = "";
  // Sentences come nearly in order: a template is known at its end.
  let [line, counted] = [1, 0];
  const lineOf = (at: number): number => {
    if (at < counted) return source.slice(0, at).split("\n").length;
    line += source.slice(counted, at).split("\n").length - 1;
    counted = at;
    return line;
  };
  const add = (at: number, text: string) => {
    // "a" + "b" is one sentence.
    const last = sentences.at(-1);
    if (previous === SyntaxKind.PlusToken && last) {
      sentences[sentences.length - 1] = { ...last, text: last.text + text };
      return;
    }
    const kind = kindOf([...owners, property]);
    // The doctor's findings are made by functions that are called as a log's.
    const isFinding = kind === "log" && file.startsWith("lib/doctor/");
    sentences.push({ file, line: lineOf(at), kind: isFinding ? "finding" : kind, text });
  };
  for (let token = scanner.scan(); token !== SyntaxKind.EndOfFile; token = scanner.scan()) {
    const at = scanner.getTokenStart();
    const open = templates.at(-1);
    if (token === SyntaxKind.SlashToken && !endsExpression(previous)) token = scanner.reScanSlashToken();
    if (token === SyntaxKind.CloseBraceToken && open?.depth === owners.length) {
      const expression = source.slice(open.expressionAt, at);
      token = scanner.reScanTemplateToken(false);
      open.text += `{${expression}}${scanner.getTokenValue()}`;
      open.expressionAt = scanner.getTokenEnd();
      if (token === SyntaxKind.TemplateTail) {
        templates.pop();
        add(open.at, open.text);
      }
    } else if (token === SyntaxKind.TemplateHead) {
      templates.push({
        text: scanner.getTokenValue(),
        at,
        depth: owners.length,
        expressionAt: scanner.getTokenEnd(),
      });
    } else if (token === SyntaxKind.StringLiteral || token === SyntaxKind.NoSubstitutionTemplateLiteral) {
      add(at, scanner.getTokenValue());
    } else if (OPENING.includes(token)) {
      owners.push(
        token === SyntaxKind.OpenParenToken && afterName === SyntaxKind.Identifier ? name : property,
      );
      property = "";
    } else if (CLOSING.includes(token)) {
      owners.pop();
      property = "";
    } else if (token === SyntaxKind.ColonToken && afterName !== SyntaxKind.Unknown) {
      property = name;
    } else if (token === SyntaxKind.CommaToken || token === SyntaxKind.SemicolonToken) property = "";
    const isName = scanner.isIdentifier() || token === SyntaxKind.PrivateIdentifier;
    if (isName) name = scanner.getTokenText();
    afterName = isName ? SyntaxKind.Identifier : SyntaxKind.Unknown;
    previous = token;
  }
  return sentences.filter(({ kind, text }) => WORDS.test(text) || (kind !== "other" && / /.test(text)));
}

const OPENING = [SyntaxKind.OpenParenToken, SyntaxKind.OpenBraceToken, SyntaxKind.OpenBracketToken];
const CLOSING = [SyntaxKind.CloseParenToken, SyntaxKind.CloseBraceToken, SyntaxKind.CloseBracketToken];

/** After one of these a slash divides. */
function endsExpression(token: SyntaxKind): boolean {
  return [
    SyntaxKind.Identifier,
    SyntaxKind.NumericLiteral,
    SyntaxKind.CloseParenToken,
    SyntaxKind.CloseBracketToken,
    SyntaxKind.ThisKeyword,
  ].includes(token);
}

/** The innermost call or property that is known decides. */
function kindOf(owners: readonly string[]): SentenceKind {
  for (const owner of owners.toReversed()) {
    const [, kind] = OWNERS.find(([pattern]) => pattern.test(owner)) ?? [];
    if (kind) return kind;
  }
  return "other";
}

/** Return the sentences of all sources and help pages, by file. */
export async function allSentences(): Promise<Sentence[]> {
  const sentences: Sentence[] = [];
  const files = await Array.fromAsync(new Glob("{cmd,lib}/**/*.{ts,md}").scan(root));
  for (const file of files.toSorted()) {
    const source = await Bun.file(join(root, file)).text();
    if (file.endsWith(".ts")) sentences.push(...sentencesOf(file, source));
    else
      sentences.push(
        ...source
          .split("\n")
          .map((text, at) => ({ file, line: at + 1, kind: "page" as const, text }))
          .filter(({ text }) => text !== ""),
      );
  }
  return sentences;
}

if (import.meta.main) {
  for (const { file, line, kind, text } of await allSentences())
    console.log(`${file}:${line}\t${kind}\t${text.replaceAll("\n", "\\n")}`);
}
