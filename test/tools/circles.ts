// Files import each other in no circle: each can be read, tested and moved with what is below it alone.
import type { ImportGraph } from "./imports.ts";

/** Return the shortest circle through each file that no circle before has, as a path that ends where it begins. */
export function findCircles(graph: ImportGraph): string[][] {
  const circles: string[][] = [];
  const seen = new Set<string>();
  for (const file of [...graph.keys()].sort()) {
    const circle = seen.has(file) ? undefined : shortestWayBack(graph, file);
    if (!circle) continue;
    circles.push(circle);
    for (const each of circle) seen.add(each);
  }
  return circles;
}

/** Search breadth first from `file` to `file`. */
function shortestWayBack(graph: ImportGraph, file: string): string[] | undefined {
  const importer = new Map<string, string>();
  const queue = [file];
  for (const from of queue) {
    for (const to of graph.get(from) ?? []) {
      if (importer.has(to)) continue;
      importer.set(to, from);
      queue.push(to);
      if (to === file) return pathTo(file, importer);
    }
  }
  return undefined;
}

function pathTo(file: string, importer: ReadonlyMap<string, string>): string[] {
  const path = [file];
  let from = importer.get(file);
  while (from !== undefined && from !== file) {
    path.unshift(from);
    from = importer.get(from);
  }
  return [file, ...path];
}

/** What is wrong with the graph, a line each. */
export function wrongCircles(graph: ImportGraph): string[] {
  return findCircles(graph).map((circle) => `circle of imports: ${circle.join(" -> ")}`);
}
