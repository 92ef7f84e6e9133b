// weave-npc: the Kubernetes NetworkPolicy controller.
import { loadBridgeNetfilter } from "../lib/host/modules.ts";
import { execAsDaemon } from "../lib/sys/runtime.ts";

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  const once = argv[0] === "apply" || argv[0] === "explain";
  if (!once) {
    // Only now may it load modules.
    if (process.getuid?.() === 0) loadBridgeNetfilter();
    execAsDaemon("weave-npc", argv);
  }
  const [{ run }, { apply }, { explainCommand }, { controller }] = await Promise.all([
    import("./main.ts"),
    import("./commands/npc/apply.ts"),
    import("./commands/npc/explain.ts"),
    import("./commands/npc/controller.ts"),
  ]);
  const command = [apply, explainCommand].find(({ name }) => name === argv[0]);
  const [word] = argv;
  if (command) await run(`weave-npc ${command.name}`, command, argv.slice(1));
  else if (word && !word.startsWith("-")) await unknown(word, [apply.name, explainCommand.name]);
  else await run("weave-npc", controller, argv);
}

async function unknown(word: string, known: readonly string[]): Promise<void> {
  const [{ fail }, { unknownCommand }] = await Promise.all([import("./main.ts"), import("./arguments.ts")]);
  fail("weave-npc", unknownCommand(word, known, "weave-npc"));
}

if (import.meta.main) await main(process.argv.slice(2));
