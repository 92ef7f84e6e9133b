// The import graph of our own files: who imports whom, for its value or its type alone.
import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

const root = join(import.meta.dir, "../..");

/** Imported files by file, as paths from the root of the repository ("lib/sys/libc.ts"). */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** Read the imports of all files of cmd, lib and test. */
export async function readImports(): Promise<ImportGraph> {
  const graph = new Map<string, readonly string[]>();
  const scanner = new Bun.Transpiler({ loader: "ts" });
  for await (const file of new Glob("{cmd,lib,test}/**/*.ts").scan(root)) {
    const source = await Bun.file(join(root, file)).text();
    const types = [...source.matchAll(/^(?:import|export)[^;]*? from "(\.[^"]+)"/gms)].map(
      (match) => match[1] ?? "",
    );
    const values = scanner.scanImports(source).map((found) => found.path);
    const paths = new Set([...types, ...values].filter((path) => path.startsWith(".")));
    graph.set(
      file,
      [...paths].map((path) => relative(root, join(root, dirname(file), path))),
    );
  }
  return graph;
}
