// weave: the command a person types; and, called by one of their names, each of the other three executables.
import { basename } from "node:path";
import { VERSION } from "../lib/version.ts";
import { attach, detach } from "./commands/attach.ts";
import { doctor } from "./commands/doctor.ts";
import { expose, hide } from "./commands/expose.ts";
import { launch, reset, stop } from "./commands/lifecycle.ts";
import { kubernetes, marathon, serve } from "./commands/manifest.ts";
import { migrate } from "./commands/migrate.ts";
import { dnsAdd, dnsArgs, dnsLookup, dnsRemove } from "./commands/names.ts";
import { connect, forget, prime, rmpeer } from "./commands/peers.ts";
import { setup } from "./commands/setup.ts";
import { ps, report, status, version } from "./commands/status.ts";
import { type Command, fail, run, UsageError } from "./main.ts";

const COMMANDS: readonly Command[] = [
  setup,
  launch,
  connect,
  forget,
  status,
  report,
  ps,
  expose,
  hide,
  attach,
  detach,
  dnsAdd,
  dnsRemove,
  dnsLookup,
  dnsArgs,
  prime,
  rmpeer,
  doctor,
  migrate,
  kubernetes,
  serve,
  marathon,
  stop,
  reset,
  version,
];

function overview(commands = COMMANDS): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, description }) => `  weave ${name.padEnd(width)}  ${description}`);
  return [
    `weave ${VERSION}: a container network`,
    "",
    ...lines,
    "",
    "'weave COMMAND --help' tells more.",
  ].join("\n");
}

/** Commands that begin with a word that is none by itself. */
const groupOf = (name: string) => COMMANDS.filter((known) => known.name.startsWith(`${name} `));

function unknown(name: string): string {
  const group = groupOf(name);
  if (group.length === 0) return `unknown command '${name}'`;
  return `say what of: ${group.map((known) => `'weave ${known.name}'`).join(", ")}`;
}

async function weave(argv: readonly string[]): Promise<void> {
  // Scripts for the original say where it is to run; we always run here.
  const args = argv.filter((arg) => arg !== "--local");
  const [name] = args;
  if (name === "help" || name === "--help") return console.log(overview());
  if (name === "--version") return version.run({ options: {}, positionals: [] });
  if (name === undefined) {
    console.error(overview());
    process.exitCode = 1;
    return;
  }
  const words = (count: number) => args.slice(0, count).join(" ");
  const command = COMMANDS.find((known) => known.name === words(known.name.split(" ").length));
  if (!command && args.includes("--help") && groupOf(name).length > 0)
    return console.log(overview(groupOf(name)));
  if (!command) return fail("weave", new UsageError(unknown(name)));
  await run(`weave ${command.name}`, command, args.slice(command.name.split(" ").length));
}

const EXECUTABLES: Record<string, () => Promise<{ main(argv: readonly string[]): Promise<void> }>> = {
  "weave-net": () => import("./weave-net.ts"),
  "weave-router": () => import("./weave-router.ts"),
  "weave-npc": () => import("./weave-npc.ts"),
};

async function main(): Promise<void> {
  const argv = process.argv.slice(2);
  const other = EXECUTABLES[basename(process.argv0)];
  await (other ? (await other()).main(argv) : weave(argv));
}

await main();
