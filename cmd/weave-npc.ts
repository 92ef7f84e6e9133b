// weave-npc: the Kubernetes NetworkPolicy controller.

import { VERSION } from "../lib/version.ts";
import { apply } from "./commands/npc/apply.ts";
import { explainCommand } from "./commands/npc/explain.ts";
import { type Command, run, UsageError } from "./main.ts";

const COMMANDS: readonly Command[] = [apply, explainCommand];

const controller: Command = {
  name: "weave-npc",
  description: `The Kubernetes NetworkPolicy controller of weave. Also: ${COMMANDS.map(({ name }) => `weave-npc ${name}`).join(", ")}.`,
  options: { version: { type: "boolean", description: "print the version" } },
  run({ options }) {
    if (!options["version"])
      throw new UsageError("watching an API server is not in this version yet: use weave-npc apply");
    console.log(`weave ${VERSION}`);
  },
};

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  const command = COMMANDS.find(({ name }) => name === argv[0]);
  if (command) await run(`weave-npc ${command.name}`, command, argv.slice(1));
  else await run("weave-npc", controller, argv);
}

if (import.meta.main) main(process.argv.slice(2));
