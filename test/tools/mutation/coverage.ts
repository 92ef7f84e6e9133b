// Which lines each test file runs, and how long it takes: a mutant can be noticed only by those that run its line.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { enclosed } from "../run/world.ts";
import type { Mutant } from "./mutants.ts";

/** Tests by what they run. */
export class Coverage {
  /** By file and line; a line that no test runs has none. */
  readonly #lines = new Map<string, Map<number, string[]>>();
  /** Seconds that a test file takes. */
  readonly #seconds = new Map<string, number>();
  /** Tests that load a file. */
  readonly #loading = new Map<string, string[]>();

  private constructor() {}

  /** Run these test files under `root` with nothing changed; those that take longer than `limitS` are left out. */
  static async measure(root: string, tests: readonly string[], limitS: number): Promise<Coverage> {
    const coverage = new Coverage();
    for (const test of tests) await coverage.#add(root, test, limitS);
    return coverage;
  }

  /** Test files that took too long. */
  readonly leftOut: string[] = [];

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

  async #add(root: string, test: string, limitS: number): Promise<void> {
    const folder = mkdtempSync(join(tmpdir(), "weave-coverage-"));
    try {
      const began = performance.now();
      const reporter = ["--coverage", "--coverage-reporter=lcov", `--coverage-dir=${folder}`];
      const command = [process.execPath, "test", "--timeout", "120000", ...reporter, `./${test}`];
      const options = { cwd: root, stdout: "ignore", stderr: "ignore" } as const;
      const code = await Bun.spawn(["timeout", "-s", "KILL", String(limitS), ...enclosed(command)], options)
        .exited;
      if (code === KILLED) return void this.leftOut.push(test);
      if (code !== 0) throw new Error(`${test} fails with nothing changed`);
      this.#seconds.set(test, (performance.now() - began) / 1_000);
      this.#read(readFileSync(join(folder, "lcov.info"), "utf8"), test);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Read a trace file (geninfo(1)): "SF:path", then "DA:line,count" of each line that has code. */
  #read(text: string, test: string): void {
    let lines = new Map<number, string[]>();
    for (const record of text.split("\n")) {
      const [, file] = /^SF:(.*)$/.exec(record) ?? [];
      if (file !== undefined) {
        lines = this.#lines.get(file) ?? new Map();
        this.#lines.set(file, lines);
        this.#loading.set(file, [...(this.#loading.get(file) ?? []), test]);
      }
      const [, line, count] = /^DA:(\d+),(\d+)/.exec(record) ?? [];
      if (line === undefined) continue;
      const tests = lines.get(Number(line)) ?? [];
      lines.set(Number(line), Number(count) > 0 ? [...tests, test] : tests);
    }
  }
}

/** What `timeout` ends with after SIGKILL. */
const KILLED = 137;
