// weave-npc: the Kubernetes NetworkPolicy controller.
import { apply } from "./commands/npc/apply.ts";
import { controller } from "./commands/npc/controller.ts";
import { explainCommand } from "./commands/npc/explain.ts";
import { run } from "./main.ts";

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  const command = [apply, explainCommand].find(({ name }) => name === argv[0]);
  if (command) await run(`weave-npc ${command.name}`, command, argv.slice(1));
  else await run("weave-npc", controller, argv);
}

if (import.meta.main) main(process.argv.slice(2));
