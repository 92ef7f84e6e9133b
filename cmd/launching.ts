// Start of the router in the background, and its report: for launch and migrate.
import { type ApiClient, apiClient, type CallOptions } from "../lib/api/client.ts";
import { logFile } from "../lib/api/paths.ts";
import { Launched, type Shape } from "../lib/api/shapes.ts";
import { printable } from "../lib/log/printable.ts";
import { launchDaemon } from "../lib/router/daemon.ts";
import { launchedShape, launchedText, otherWarnings } from "../lib/router/launched.ts";
import { answer } from "./answer.ts";
import type { Arguments } from "./arguments.ts";
import { awaitGrant } from "./granting.ts";
import { warn } from "./output/output.ts";

// Variables that a daemon must not inherit: they load foreign code.
const STRIPPED = ["LD_PRELOAD", "LD_LIBRARY_PATH"];

/** Return the daemon's command line and environment for these options. */
export function daemonArguments(given: Record<string, unknown>, peers: readonly string[]) {
  const environment = Object.entries(process.env).filter(([key]) => !STRIPPED.includes(key));
  // The password goes into the environment: everybody can read a command line.
  const { password, ...options } = given;
  const env = Object.fromEntries(environment as [string, string][]);
  if (typeof password === "string") env["WEAVE_PASSWORD"] = password;
  const flags = Object.entries(options).map(([key, value]) => `--${key}=${value}`);
  return { args: [...flags, ...peers], env };
}

/** Start the router; resolve with the answer of launch. Reject with LaunchError. */
export async function startDaemon({
  args,
  env,
}: ReturnType<typeof daemonArguments>): Promise<Shape<typeof Launched>> {
  const { pid, started, warnings } = await launchDaemon(args, env);
  return launchedShape(started, { pid, log: logFile(), warnings: otherWarnings(warnings, started) });
}

/** Print the answer of launch, and the router's warnings on standard error. */
export function answerLaunched(args: Arguments, launched: Shape<typeof Launched>): void {
  if (!args.options["json"]) for (const warning of launched.warnings) warn(`warning: ${printable(warning)}`);
  answer(args, Launched, launched, launchedText(launched));
}

/** Wait until the range is divided. Reject with the reason after `seconds`, or once the peers refuse this host. */
export async function awaitQuorum(
  args: Pick<Arguments, "options">,
  seconds: number | undefined,
  api: ApiClient = apiClient(),
): Promise<void> {
  const request = (options: CallOptions) => api("GET", "/ring", options);
  const after = "; the router runs and keeps waiting";
  await awaitGrant(args, api, { request, lack: "no quorum", seconds, after });
}
