// weave-npc: the Kubernetes NetworkPolicy controller.
import { beginAsDaemon } from "../lib/sys/runtime.ts";

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  const once = argv[0] === "apply" || argv[0] === "explain";
  if (!once) beginAsDaemon(argv);
  const [{ run }, { apply }, { explainCommand }, { controller }] = await Promise.all([
    import("./main.ts"),
    import("./commands/npc/apply.ts"),
    import("./commands/npc/explain.ts"),
    import("./commands/npc/controller.ts"),
  ]);
  const command = [apply, explainCommand].find(({ name }) => name === argv[0]);
  if (command) await run(`weave-npc ${command.name}`, command, argv.slice(1));
  else await run("weave-npc", controller, argv);
}

if (import.meta.main) await main(process.argv.slice(2));
