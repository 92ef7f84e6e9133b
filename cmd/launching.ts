// Start of the router in the background, and its report: for launch and migrate.
import { type ApiClient, ApiError, apiClient, NO_ANSWER } from "../lib/api/client.ts";
import { logFile } from "../lib/api/paths.ts";
import { Launched, type Shape } from "../lib/api/shapes.ts";
import { systemClock } from "../lib/clock/clock.ts";
import { printable } from "../lib/log/printable.ts";
import { launchDaemon } from "../lib/router/daemon.ts";
import {
  askStarted,
  awaitPeers,
  launchedShape,
  launchedText,
  otherWarnings,
} from "../lib/router/launched.ts";
import { answer } from "./answer.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { warn } from "./output/output.ts";
import { noAddressReason, waitReason, withProgress } from "./waiting.ts";

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
  const daemon = await launchDaemon(args, env);
  try {
    const api = apiClient();
    const started = await daemon.whileRunning(awaitPeers(() => askStarted(api), systemClock));
    const warnings = otherWarnings(daemon.warnings(), started);
    return launchedShape(started, { pid: daemon.pid, log: logFile(), warnings });
  } finally {
    daemon.leave();
  }
}

/** Print the answer of launch, and the router's warnings on standard error. */
export function answerLaunched(args: Arguments, launched: Shape<typeof Launched>): void {
  if (!args.options["json"]) for (const warning of launched.warnings) warn(`warning: ${printable(warning)}`);
  answer(args, Launched, launched, launchedText(launched));
}

/** Read --wait: seconds, undefined where it is not given. Throw UsageError. */
export function waitSeconds({ options }: Pick<Arguments, "options">): number | undefined {
  const text = options["wait"];
  if (typeof text !== "string") return undefined;
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new UsageError(`--wait "${text}": should be seconds, 1 … 99999`);
  return Number(text);
}

/** Wait until the range is divided; reject after so many seconds with the reason of the wait. */
export async function awaitQuorum(
  args: Arguments,
  seconds: number,
  api: ApiClient = apiClient(),
): Promise<void> {
  try {
    const ring = api("GET", "/ring", { timeoutMs: seconds * 1000 });
    await withProgress(args, ring, () => waitReason(api));
  } catch (error) {
    if (!(error instanceof ApiError && error.status === NO_ANSWER)) throw error;
    const why = await noAddressReason(api);
    throw new Error(
      `no quorum within ${seconds} s${why === undefined ? "" : `: ${why}`}; the router runs and keeps waiting`,
      { cause: error },
    );
  }
}
