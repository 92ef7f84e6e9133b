// npm run lint: formatting and rules by Biome; imports by floor, and without circles.
import { join } from "node:path";
import { wrongCircles } from "./circles.ts";
import { wrongFloors } from "./floors.ts";
import { readImports } from "./imports.ts";

const root = join(import.meta.dir, "../..");

/** Runs all checks; returns true where nothing was found. */
export async function lint(): Promise<boolean> {
  const biome = Bun.spawnSync([join(root, "node_modules/.bin/biome"), "check", "--error-on-warnings", "."], {
    cwd: root,
    stdout: "inherit",
    stderr: "inherit",
  });
  const graph = await readImports();
  const wrong = [...wrongFloors(graph), ...wrongCircles(graph)];
  for (const line of wrong) console.error(line);
  return biome.exitCode === 0 && wrong.length === 0;
}

if (import.meta.main) process.exitCode = (await lint()) ? 0 : 1;
