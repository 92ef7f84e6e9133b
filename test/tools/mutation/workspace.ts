// A copy of the project whose files are those of the original until a mutant takes the place of one.
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Glob } from "bun";
import { enclosed } from "../run/world.ts";
import type { Mutant } from "./mutants.ts";

const FILES = ["{cmd,lib,test}/**/*", "*.{json,toml,md}", "LICENSE", "Containerfile"];

/** What became of test files. */
export type Outcome = "passed" | "failed" | "timed out";

export class Workspace implements Disposable {
  #running: Bun.Subprocess | undefined;

  private constructor(
    private readonly root: string,
    readonly path: string,
  ) {}

  /** Copies what is under `root` into a new folder. `made` is told of it before that takes long. */
  static async make(root: string, made: (space: Workspace) => void): Promise<void> {
    const space = new Workspace(root, mkdtempSync(join(tmpdir(), "weave-mutation-")));
    made(space);
    for (const files of FILES) {
      for await (const file of new Glob(files).scan(root)) {
        mkdirSync(dirname(join(space.path, file)), { recursive: true });
        space.#take(file);
      }
    }
    symlinkSync(join(root, "node_modules"), join(space.path, "node_modules"));
  }

  /** Puts a mutant in place until the end of `run`. */
  async with<T>(mutant: Mutant, run: () => Promise<T>): Promise<T> {
    const source = await readFile(join(this.root, mutant.file), "utf8");
    const file = join(this.path, mutant.file);
    // The file is a link to the original: it must not be written to.
    rmSync(file);
    writeFileSync(file, source.slice(0, mutant.start) + mutant.text + source.slice(mutant.end));
    try {
      return await run();
    } finally {
      rmSync(file, { force: true });
      this.#take(mutant.file);
    }
  }

  /** Runs test files in one process as `npm test` does, up to the first that fails; gives them up after `limitS` seconds. */
  async test(files: readonly string[], limitS: number): Promise<Outcome> {
    const command = [process.execPath, "test", "--timeout", "120000", "--bail"];
    const code = await this.#run(enclosed([...command, ...files.map((file) => `./${file}`)]), limitS);
    return code === 0 ? "passed" : code === KILLED ? "timed out" : "failed";
  }

  /** Whether the compiler finds nothing wrong. */
  async typechecks(): Promise<boolean> {
    return (await this.#run([join(this.root, "node_modules/.bin/tsc"), "--noEmit"], 120)) === 0;
  }

  [Symbol.dispose](): void {
    this.#running?.kill();
    rmSync(this.path, { recursive: true, force: true });
  }

  async #run(command: readonly string[], limitS: number): Promise<number> {
    // With it goes whatever the tests have started.
    const child = Bun.spawn(["timeout", "-s", "KILL", String(limitS), ...command], {
      cwd: this.path,
      stdout: "ignore",
      stderr: "ignore",
    });
    this.#running = child;
    try {
      return await child.exited;
    } finally {
      this.#running = undefined;
    }
  }

  #take(file: string): void {
    const [from, to] = [join(this.root, file), join(this.path, file)];
    try {
      linkSync(from, to);
    } catch {
      // Another file system.
      copyFileSync(from, to);
    }
  }
}

/** What `timeout` ends with after SIGKILL. */
const KILLED = 137;
