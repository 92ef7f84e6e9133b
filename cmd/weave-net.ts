// weave-net: the CNI plugin, as container runtimes run it.
import { writeSync } from "node:fs";
import { runPlugin } from "../lib/cni/main.ts";
import { VERSION } from "../lib/version.ts";

const USAGE = `weave-net ${VERSION}: CNI plugin of weave. Container runtimes run it, with CNI_COMMAND and the rest of
the protocol's parameters in the environment and a network configuration on standard input (https://www.cni.dev).
'weave setup' installs it.`;

/** The executable. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--version")) return console.log(`weave ${VERSION}`);
  if (argv.includes("--help") || (process.env["CNI_COMMAND"] === undefined && process.stdin.isTTY)) {
    return console.log(USAGE);
  }
  const { output, code } = await runPlugin(process.env);
  // At once, and out: streams and an orderly end would take longer than all the rest.
  if (output) writeSync(1, `${output}\n`);
  process.exit(code);
}

if (import.meta.main) main(process.argv.slice(2));
