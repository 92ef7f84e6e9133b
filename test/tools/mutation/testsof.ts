// Which tests can notice a change of a file: by what they import.
import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

/** Kinds of tests that run the code in their own process. */
const KINDS = ["unit", "golden", "model", "fuzz", "kernel", "simulation"];

/** Whether a test file moves its process into another network namespace, away from the sockets of other tests. */
export const movesProcess = (test: string): boolean => test.startsWith("test/kernel/");

/** The room of a file: the folder under lib/, or cmd. */
export function roomOf(file: string): string {
  const [first = "", second = ""] = file.split("/");
  return first === "lib" ? second.replace(/\.ts$/, "") : first;
}

/** Paths that a file imports by a name that it computes: all files there that may be meant. */
function computed(root: string, file: string, text: string): string[] {
  const imports = text.matchAll(/\bimport\(`(\.[^`$]*\/)\$\{\w+\}([^`$]*)`\)/g);
  return [...imports].flatMap(([, before = "", after = ""]) =>
    [...new Glob(`*${after}`).scanSync(join(root, dirname(file), before))].map((name) => before + name),
  );
}

export class TestMap {
  /** What each file imports, types aside. */
  readonly #imports = new Map<string, readonly string[]>();
  readonly #tests: string[] = [];

  private constructor() {}

  static async read(root: string): Promise<TestMap> {
    const map = new TestMap();
    const scanner = new Bun.Transpiler({ loader: "ts" });
    for await (const file of new Glob("{cmd,lib,test}/**/*.ts").scan(root)) {
      const text = await Bun.file(join(root, file)).text();
      const found = [...scanner.scanImports(text).map(({ path }) => path), ...computed(root, file, text)];
      const paths = found.filter((path) => path.startsWith("."));
      map.#imports.set(
        file,
        paths.map((path) => relative(root, join(root, dirname(file), path))),
      );
      if (file.endsWith(".test.ts") && KINDS.includes(file.split("/")[1] ?? "")) map.#tests.push(file);
    }
    map.#tests.sort();
    return map;
  }

  /** Files of lib/ and cmd/, in order. */
  get files(): string[] {
    return [...this.#imports.keys()].filter((file) => /^(lib|cmd)\//.test(file)).sort();
  }

  /**
   * Tests for a file, the nearest first: those that use its room themselves or by what stands in test/support; where
   * there are none, all that come to load it.
   */
  of(file: string): string[] {
    const room = roomOf(file);
    const reached = this.#tests.flatMap((test) => {
      const distance = this.#distances(test).get(file);
      return distance === undefined ? [] : [{ test, distance, own: this.#uses(test, room) }];
    });
    const own = reached.filter((found) => found.own);
    return (own.length > 0 ? own : reached)
      .sort((a, b) => a.distance - b.distance || (a.test < b.test ? -1 : 1))
      .map(({ test }) => test);
  }

  #uses(test: string, room: string): boolean {
    for (const [file, distance] of this.#distances(test)) {
      if (distance > 0 && !file.startsWith("test/")) continue;
      if ((this.#imports.get(file) ?? []).some((path) => !path.startsWith("test/") && roomOf(path) === room))
        return true;
    }
    return false;
  }

  /** How many imports lie between a test and each file that it loads. */
  #distances(test: string): Map<string, number> {
    const known = this.#known.get(test);
    if (known) return known;
    const distances = new Map([[test, 0]]);
    for (const [file, distance] of distances) {
      for (const next of this.#imports.get(file) ?? []) {
        if (!distances.has(next)) distances.set(next, distance + 1);
      }
    }
    this.#known.set(test, distances);
    return distances;
  }

  readonly #known = new Map<string, Map<string, number>>();
}
