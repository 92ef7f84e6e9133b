// npm run typecheck: the whole project by the TypeScript compiler, which looks anew at what has changed since the last time.
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** The daemon's code, and the page's, which knows the browser and nothing else. */
const PROJECTS = [".", "lib/ui/page"];

/**
 * The compiler's command line for a project, from the root of the tree. Several checkers would each look at what they share, and
 * the compiler would look for garbage in 1 GB that it keeps: a third of its processor time.
 */
export function compiler(project: string): string[] {
  const name = project === "." ? "project" : project.replaceAll("/", "-");
  const cache = `node_modules/.cache/types-${name}.json`;
  const options = ["--noEmit", "--pretty", "false", "--incremental", "--tsBuildInfoFile", cache];
  return ["env", "GOGC=off", "node_modules/.bin/tsc", "-p", project, "--checkers", "1", ...options];
}

/** True where the compiler has nothing to say. */
export function typecheck(): boolean {
  return PROJECTS.map((project) => {
    const { exitCode } = Bun.spawnSync(compiler(project), {
      cwd: root,
      stdout: "inherit",
      stderr: "inherit",
    });
    return exitCode === 0;
  }).every(Boolean);
}

if (import.meta.main) process.exitCode = typecheck() ? 0 : 1;
