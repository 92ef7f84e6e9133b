// Start the router in the background, and end it.
import { closeSync, statSync } from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { logFile } from "../api/paths.ts";
import { systemClock } from "../clock/clock.ts";
import { executable } from "../sys/executable.ts";
import { requireOpenFiles } from "../sys/openfiles.ts";
import { makeOwnFolder, openOwnFile } from "../sys/ownfile.ts";
import { SIGCONT, SIGKILL, SIGTERM } from "../sys/pidfd.ts";
import { openPipe } from "../sys/pipe.ts";
import { watchReadable } from "../sys/readable.ts";
import { reasonOf } from "../sys/reason.ts";
import { requireCapabilities } from "../sys/requiredcapabilities.ts";
import { daemonEnvironment, limitDaemon } from "../sys/runtime.ts";
import { AlreadyRunningError, launchedPid, runningRouter } from "./instance.ts";
import { LAUNCHER_ENV, LAUNCHER_MS, LauncherMessages, START_MS, type Warning } from "./launcher.ts";
import { LOG_FLAGS, LOG_MODE } from "./logfile.ts";
import type { Started } from "./started.ts";

const STOP_TIMEOUT_MS = 10_000;

/** The router did not start; the message is its last error, `exitCode` its own. */
class LaunchError extends Error {
  override readonly name = "LaunchError";
  constructor(
    message: string,
    readonly exitCode: number,
  ) {
    super(message);
  }
}

/** A router that runs in the background. */
export interface Daemon {
  readonly pid: number;
  readonly started: Started;
  readonly warnings: readonly Warning[];
}

/**
 * Start the router in the background and wait until it is ready, and its peers have answered or 1.5 s are over. Rejects with
 * LaunchError or AlreadyRunningError.
 */
export async function launchDaemon(args: readonly string[], env: Record<string, string>): Promise<Daemon> {
  const running = launchedPid();
  if (running !== undefined) throw new AlreadyRunningError(running);
  requireOpenFiles();
  requireCapabilities();
  makeOwnFolder(dirname(logFile()));
  const log = openOwnFile(logFile(), LOG_FLAGS, LOG_MODE);
  const logStart = statSync(logFile()).size;
  limitDaemon("weave-router");
  const { readFd, writeFd } = openPipe();
  const messages = new LauncherMessages();
  const line = watchReadable(readFd, messages.take, () => {});
  const late = Promise.withResolvers<never>();
  const deadline = systemClock.after(LAUNCHER_MS, () => late.reject(notReady()));
  try {
    const child = spawn(args, { ...daemonEnvironment(env), ...LAUNCHER_ENV }, log, writeFd);
    const ended = child.exited.then(async () => {
      const { exitCode, signalCode } = child;
      const how = signalCode === null ? `ended with exit code ${exitCode}` : `was ended by ${signalCode}`;
      const why = (await lastError(logStart)) ?? `the router ${how} while it started; see ${logFile()}`;
      throw new LaunchError(why, exitCode || 1);
    });
    const started = await Promise.race([messages.started, ended, late.promise]);
    child.unref();
    return { pid: child.pid, started, warnings: messages.warnings };
  } finally {
    // Either would keep the process alive.
    deadline.cancel();
    line.stop();
  }
}

const notReady = () =>
  new LaunchError(`the router is not ready after ${START_MS / 1000} s and keeps trying; see ${logFile()}`, 1);

/** Start the process, and close our copies of its files, also where it cannot be started. Throws LaunchError. */
function spawn(args: readonly string[], env: Record<string, string>, log: number, line: number) {
  try {
    // Not by node:child_process, which takes 10 ms to load.
    return Bun.spawn([executable("weave-router"), ...args], {
      argv0: "weave-router",
      detached: true,
      stdio: ["ignore", log, log, line],
      env,
    });
  } catch (error) {
    throw new LaunchError(reasonOf(error), 1);
  } finally {
    closeSync(log);
    closeSync(line);
  }
}

async function lastError(from: number): Promise<string | undefined> {
  const file = Bun.file(logFile());
  // A shorter file was rotated meanwhile.
  const lines = (await file.slice(file.size < from ? 0 : from).text()).split("\n");
  for (const line of lines.reverse()) {
    const error = errorOf(line);
    if (error !== undefined) return error;
  }
  return undefined;
}

/** Return the error in a line of the log, in either format, or in "weave-router: text", written before there is a log. */
function errorOf(line: string): string | undefined {
  if (!line.startsWith("{")) return /^(?:ERRO: \S+ \S+|weave-router:) (.*)$/.exec(line)?.[1];
  try {
    const result = v.safeParse(ErrorLine, JSON.parse(line));
    return result.success ? result.output.msg : undefined;
  } catch {
    // A truncated line.
    return undefined;
  }
}

const ErrorLine = v.object({ level: v.literal("error"), msg: v.string() });

/** End the running router and wait for its end; resolves with false if none ran. */
export async function stopDaemon(): Promise<boolean> {
  using router = runningRouter();
  if (!router) return false;
  router.signal(SIGTERM);
  // A process stopped by SIGSTOP handles SIGTERM only after SIGCONT.
  router.signal(SIGCONT);
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  while (!router.ended) {
    if (performance.now() > deadline) router.signal(SIGKILL);
    await Bun.sleep(10);
  }
  return true;
}
