// Constants and struct layouts of the kernel in lib/ and cmd/, compared with its headers: test/vectors/constants.txt has the values of
// Linux 6.1 by C name. A wrong one sends another request, or misreads an answer, perhaps on some machines only. A C name is
// compared in every file of lib/ and cmd/; a layout or a name of our own, in the file named. RECORD=1 asks gcc for the values.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Glob } from "bun";

const ROOT = join(import.meta.dir, "../..");
const FILE = join(ROOT, "test/vectors/constants.txt");

/** Yield constants (numbers, "1 << 4", "A | B") by name; those within an object or array, by path. */
function* constantsOf(text: string): Generator<readonly [path: string, value: number]> {
  const known = new Map<string, number>();
  for (const [, name = "", expression = ""] of text.matchAll(/^(?:export )?const (\w+) = ([^;={[]+);/gm)) {
    const value = evaluated(expression, known);
    if (value === undefined) continue;
    known.set(name, value);
    yield [name, value];
  }
  for (const table of text.matchAll(/^(?:export )?const (\w+)[^=\n]*= (?:[\w.]+\((?:"\w+", )?)?\{/gm)) {
    const path = [table[1] ?? ""];
    let name = "";
    const rest = text.slice(table.index + table[0].length);
    for (const [token] of rest.matchAll(
      /\w+:(?= )|[{}[\]]|-?\b\d\w*(?: (?:<<|\|) \w+)*|\/\*.*?\*\/|"[^"]*"/gs,
    )) {
      if (token.endsWith(":")) name = token.slice(0, -1);
      else if (/^[{[]/.test(token)) path.push(name);
      else if (/^[}\]]/.test(token)) path.pop();
      else if (/^-?\d/.test(token) && name !== "") {
        const value = evaluated(token, known);
        if (value !== undefined)
          yield [
            [...path, name].filter((part, i, all) => part !== "" && part !== all[i - 1]).join("."),
            value,
          ];
        // In a list, the first number is the value of the name.
        name = "";
      }
      if (path.length === 0) break;
    }
  }
}

function evaluated(expression: string, known: ReadonlyMap<string, number>): number | undefined {
  const term = (text: string) => known.get(text.trim()) ?? number(text.trim());
  const shifted = (text: string) =>
    text
      .split("<<")
      .map(term)
      .reduce((a, b) => a * 2 ** b);
  const value = expression
    .split("|")
    .map(shifted)
    .reduce((a, b) => Number(BigInt.asUintN(64, big(a) | big(b))));
  return Number.isNaN(value) ? undefined : value;
}

const big = (value: number) => BigInt(Number.isNaN(value) ? 0 : value);
const number = (text: string) =>
  /^-?\d\w*$/.test(text) ? Number(text.replace(/_/g, "").replace(/n$/, "")) : Number.NaN;

/** Truncate to 32 bits, as the kernel compares them. */
const word = (value: number | bigint) => BigInt.asUintN(32, BigInt(value));

/** "C_NAME = value", or "FILE OUR.PATH = C expression = value". */
const LINES = readFileSync(FILE, "utf8").split("\n");
const ENTRIES = LINES.filter((line) => line.includes(" = ")).map((line) => line.split(" = "));

/** Return the values of C expressions, as gcc computes them. */
async function valuesOf(expressions: readonly string[]): Promise<string[]> {
  const program = join(tmpdir(), `weave-constants-${process.pid}`);
  const source = [
    ...LINES.filter((line) => line.startsWith("#include")),
    "int main(void) {",
    ...expressions.map((expression) => `printf("%lld\\n", (long long)(${expression}));`),
    "}",
  ].join("\n");
  const compiled = Bun.spawnSync(["gcc", "-w", "-D_GNU_SOURCE", "-x", "c", "-o", program, "-"], {
    stdin: Buffer.from(source),
  });
  expect(compiled.stderr.toString()).toBe("");
  const { stdout } = Bun.spawnSync([program]);
  await Bun.file(program).delete();
  return stdout.toString().trim().split("\n");
}

test("constants and struct layouts of the kernel equal those of its headers", async () => {
  if (process.env["RECORD"]) {
    const values = await valuesOf(ENTRIES.map((entry) => entry.at(-2) ?? ""));
    const recorded = ENTRIES.map((entry, i) => [...entry.slice(0, -1), values[i]].join(" = "));
    const heads = LINES.filter((line) => !line.includes(" = ") && line !== "");
    await Bun.write(FILE, [...heads, "", ...recorded, ""].join("\n"));
  }
  const files = [...new Glob("{lib,cmd}/**/*.ts").scanSync(ROOT)].sort();
  const found = files.flatMap((file) =>
    [...constantsOf(readFileSync(join(ROOT, file), "utf8"))].map(([path, value]) => ({ file, path, value })),
  );
  const ours: string[] = [];
  const kernels: string[] = [];
  for (const entry of ENTRIES) {
    const value = word(BigInt(entry.at(-1) ?? ""));
    const [place = ""] = entry;
    const [file, path] = place.split(" ");
    const same =
      path === undefined
        ? found.filter((each) => each.path.split(".").at(-1) === place)
        : found.filter((each) => each.file === file && each.path === path);
    if (same.length === 0) ours.push(`${place} is nowhere`);
    for (const each of same) {
      ours.push(`${each.file} ${each.path} ${word(each.value)}`);
      kernels.push(`${each.file} ${each.path} ${value}`);
    }
  }
  expect(ours).toEqual(kernels);
});
