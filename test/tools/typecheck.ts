// npm run typecheck: the whole project by the TypeScript compiler.
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** True where the compiler has nothing to say. */
export function typecheck(): boolean {
  const { exitCode } = Bun.spawnSync([join(root, "node_modules/.bin/tsc"), "--noEmit", "--pretty", "false"], {
    cwd: root,
    stdout: "inherit",
    stderr: "inherit",
  });
  return exitCode === 0;
}

if (import.meta.main) process.exitCode = typecheck() ? 0 : 1;
