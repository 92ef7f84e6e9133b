// weave-npc: the Kubernetes NetworkPolicy controller.
import { VERSION } from "../lib/version.ts";
import { type Command, run, UsageError } from "./main.ts";

const command: Command = {
  name: "weave-npc",
  description:
    "The Kubernetes NetworkPolicy controller of weave. This version knows --help and --version only.",
  options: { version: { type: "boolean", description: "print the version" } },
  run({ options }) {
    if (!options["version"]) throw new UsageError("network policies are not enforced by this version");
    console.log(`weave ${VERSION}`);
  },
};

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  await run("weave-npc", command, argv);
}

if (import.meta.main) main(process.argv.slice(2));
