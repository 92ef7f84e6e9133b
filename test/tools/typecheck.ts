// npm run typecheck: the whole project by the TypeScript compiler.
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** The daemon's code, and the page's, which knows the browser and nothing else. */
const PROJECTS = [".", "lib/ui/page"];

/** True where the compiler has nothing to say. */
export function typecheck(): boolean {
  return PROJECTS.map((project) => {
    const { exitCode } = Bun.spawnSync(
      [join(root, "node_modules/.bin/tsc"), "--noEmit", "--pretty", "false", "-p", project],
      { cwd: root, stdout: "inherit", stderr: "inherit" },
    );
    return exitCode === 0;
  }).every(Boolean);
}

if (import.meta.main) process.exitCode = typecheck() ? 0 : 1;
