// Which lines each test file runs, and how long it takes: a mutant can be noticed only by those that run its line.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { enclosed } from "../run/world.ts";
import type { Mutant } from "./mutants.ts";
import { filesOf, keep, kept, type Trace } from "./traces.ts";

/** Tests by what they run. */
export class Coverage {
  /** By file and line; a line that no test runs has none. */
  readonly #lines = new Map<string, Map<number, string[]>>();
  /** Seconds that a test file takes. */
  readonly #seconds = new Map<string, number>();
  /** Tests that load a file. */
  readonly #loading = new Map<string, string[]>();

  private constructor() {}

  /**
   * Run these test files on unchanged code, one at a time in each of `folders`, except those with a valid trace. A file is
   * left out if it takes longer than `limitS`, or fails twice.
   */
  static async measure(
    folders: readonly string[],
    tests: readonly string[],
    limitS: number,
  ): Promise<Coverage> {
    const coverage = new Coverage();
    const queue = [...tests];
    const work = async (folder: string) => {
      for (let test = queue.shift(); test !== undefined; test = queue.shift())
        await coverage.#add(folder, test, limitS);
    };
    await Promise.all(folders.map(work));
    return coverage;
  }

  /** Test files that are left out, and why. */
  readonly leftOut = new Map<string, string>();

  /** Return the tests that run a mutant's lines, the quickest first. */
  of({ file, line, endLine }: Pick<Mutant, "file" | "line" | "endLine">): string[] {
    const lines = this.#lines.get(file);
    if (!lines) return [];
    const found = Array.from({ length: endLine - line + 1 }, (_, i) => lines.get(line + i)).filter(
      (tests) => tests !== undefined,
    );
    // What is evaluated with its file has no line of its own.
    const tests = new Set(found.length === 0 ? this.#loading.get(file) : found.flat());
    return [...tests].sort((a, b) => this.seconds([a]) - this.seconds([b]));
  }

  /** Return how long test files take, one after the other. */
  seconds(tests: readonly string[]): number {
    return tests.reduce((sum, test) => sum + (this.#seconds.get(test) ?? 0), 0);
  }

  async #add(folder: string, test: string, limitS: number): Promise<void> {
    const run = () => trace(folder, test, limitS);
    let found = kept(folder, test) ?? (await run());
    // On a busy machine a test may fail by chance.
    if (found === "fails") found = await run();
    if (typeof found === "string") return void this.leftOut.set(test, found);
    keep(folder, test, found);
    this.#seconds.set(test, found.seconds);
    this.#read(found.lcov, test);
  }

  /** Read a trace file (geninfo(1)): "SF:path", then "DA:line,count" of each line that has code. */
  #read(text: string, test: string): void {
    for (const file of filesOf(text)) this.#loading.set(file, [...(this.#loading.get(file) ?? []), test]);
    let lines = new Map<number, string[]>();
    for (const record of text.split("\n")) {
      const [, file] = /^SF:(.*)$/.exec(record) ?? [];
      if (file !== undefined) {
        lines = this.#lines.get(file) ?? new Map();
        this.#lines.set(file, lines);
      }
      const [, line, count] = /^DA:(\d+),(\d+)/.exec(record) ?? [];
      if (line === undefined) continue;
      const tests = lines.get(Number(line)) ?? [];
      lines.set(Number(line), Number(count) > 0 ? [...tests, test] : tests);
    }
  }
}

/** Run a test file; return its trace, or why there is none. */
async function trace(cwd: string, test: string, limitS: number): Promise<Trace | "fails" | "takes too long"> {
  const folder = mkdtempSync(join(tmpdir(), "weave-coverage-"));
  try {
    const began = performance.now();
    const reporter = ["--coverage", "--coverage-reporter=lcov", `--coverage-dir=${folder}`];
    const command = [process.execPath, "test", "--timeout", "120000", ...reporter, `./${test}`];
    const options = { cwd, stdout: "ignore", stderr: "ignore" } as const;
    const code = await Bun.spawn(["timeout", "-s", "KILL", String(limitS), ...enclosed(command)], options)
      .exited;
    if (code !== 0) return code === KILLED ? "takes too long" : "fails";
    const seconds = (performance.now() - began) / 1_000;
    return { seconds, lcov: readFileSync(join(folder, "lcov.info"), "utf8") };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What `timeout` ends with after SIGKILL. */
const KILLED = 137;
