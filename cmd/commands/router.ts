// The router in the foreground: what weave-router is, and weave launch --foreground.
import { runInRouter } from "../../lib/cni/main.ts";
import { createLog } from "../../lib/log/log.ts";
import { becomeTheRouter } from "../../lib/router/daemon.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { startRouter } from "../../lib/router/router.ts";
import { VERSION } from "../../lib/version.ts";
import { type Arguments, type Command, requireRoot } from "../main.ts";
import { givenOptions, ROUTER_OPTIONS } from "../routeroptions.ts";

/** Runs a router in the foreground until it is told to stop. */
export async function runRouter({ options, positionals }: Arguments): Promise<void> {
  const parsed = parseOptions(givenOptions(options), positionals);
  requireRoot();
  becomeTheRouter();
  const log = createLog(parsed["log-level"]);
  log.info(`weave ${VERSION}`);
  const router = await startRouter(parsed, { cni: runInRouter }, log);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      log.info(`${signal} received, exiting; containers stay attached`);
      router.stop().finally(() => process.exit(0));
    });
  }
}

export const router: Command = {
  name: "weave-router",
  description:
    "The daemon of a weave network: mesh, addresses, overlay and control API. 'weave launch' starts it.",
  positionals: "PEERS…",
  options: { ...ROUTER_OPTIONS, version: { type: "boolean", description: "print the version" } },
  async run(args) {
    if (args.options["version"]) return console.log(`weave ${VERSION}`);
    await runRouter(args);
  },
};
