// weave-router: the daemon.
import { execAsDaemon } from "../lib/sys/runtime.ts";

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  execAsDaemon("weave-router", argv);
  const [{ run }, { router }] = await Promise.all([import("./main.ts"), import("./commands/router.ts")]);
  await run("weave-router", router, argv);
}

if (import.meta.main) await main(process.argv.slice(2));
