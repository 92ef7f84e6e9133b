// weave-net: the CNI plugin, as container runtimes run it. It is started for every container, so it does as little as it
// can: calls are handed to the router, which has everything loaded. Only where that is not there, or cannot see the
// container, the plugin loads what it takes and runs the call itself.
import { controlSocket } from "../lib/api/paths.ts";
import type { CniOutcome } from "../lib/api/server.ts";
import { netnsInode } from "../lib/sys/netnsinode.ts";

const USAGE = `CNI plugin of weave. Container runtimes run it, with CNI_COMMAND and the rest of
the protocol's parameters in the environment and a network configuration on standard input (https://www.cni.dev).
'weave setup' installs it.`;

/** The CNI part of the environment. */
function cniVariables(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return Object.fromEntries(entries.filter(([name]) => name.startsWith("CNI_")));
}

/** Lets the router run the call; undefined where it does not, or is not there. */
async function handOver(variables: Record<string, string>, input: string): Promise<CniOutcome | undefined> {
  try {
    const response = await fetch("http://localhost/cni", {
      unix: controlSocket(),
      method: "POST",
      body: JSON.stringify({ variables, input, namespace: netnsInode(variables["CNI_NETNS"]) }),
    });
    return response.ok ? ((await response.json()) as CniOutcome) : undefined;
  } catch {
    return undefined;
  }
}

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--version")) {
    const { VERSION } = await import("../lib/version.ts");
    return console.log(`weave ${VERSION}`);
  }
  const variables = cniVariables();
  const command = variables["CNI_COMMAND"];
  if (argv.includes("--help") || (command === undefined && process.stdin.isTTY)) {
    return console.log(`weave-net: ${USAGE}`);
  }
  const input = await Bun.stdin.text();
  let outcome = command === "VERSION" ? undefined : await handOver(variables, input);
  if (!outcome) {
    const { runPlugin } = await import("../lib/cni/main.ts");
    const { apiClient } = await import("../lib/api/client.ts");
    outcome = await runPlugin(variables, input, apiClient());
  }
  if (outcome.output) await Bun.write(Bun.stdout, `${outcome.output}\n`);
  process.exit(outcome.code);
}

if (import.meta.main) await main(process.argv.slice(2));
