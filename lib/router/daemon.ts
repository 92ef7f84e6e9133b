// Start the router in the background, and end it.
import { closeSync, existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { type ApiClient, apiClient, RouterDownError, RouterSilentError } from "../api/client.ts";
import { controlSocket, logFile } from "../api/paths.ts";
import { executable } from "../sys/executable.ts";
import { requireOpenFiles } from "../sys/openfiles.ts";
import { makeOwnFolder, openOwnFile } from "../sys/ownfile.ts";
import { SIGCONT, SIGKILL, SIGTERM } from "../sys/pidfd.ts";
import { openPipe } from "../sys/pipe.ts";
import { watchReadable } from "../sys/readable.ts";
import { reasonOf } from "../sys/reason.ts";
import { requireCapabilities } from "../sys/requiredcapabilities.ts";
import { daemonEnvironment, limitDaemon } from "../sys/runtime.ts";
import { AlreadyRunningError, runningPid, runningRouter } from "./instance.ts";
import { LAUNCHER_ENV, LauncherWarnings, type Warning } from "./launcher.ts";
import { LOG_FLAGS, LOG_MODE } from "./logfile.ts";

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
/** The sockets of a killed process close before its parent is told: time to wait for that. */
const END_TIMEOUT_MS = 5_000;

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
  /** Warnings so far. */
  warnings(): Warning[];
  /** Wait for an answer; rejects with LaunchError if the router ends meanwhile. */
  whileRunning<T>(answer: Promise<T>): Promise<T>;
  /** Close the pipe: the router goes on alone. */
  leave(): void;
}

/** Start the router in the background and wait until it is ready. Rejects with LaunchError or AlreadyRunningError. */
export async function launchDaemon(args: readonly string[], env: Record<string, string>): Promise<Daemon> {
  const running = runningPid();
  if (running !== undefined) throw new AlreadyRunningError(running);
  requireOpenFiles();
  requireCapabilities();
  makeOwnFolder(dirname(logFile()));
  const log = openOwnFile(logFile(), LOG_FLAGS, LOG_MODE);
  const logStart = statSync(logFile()).size;
  limitDaemon("weave-router");
  const { readFd, writeFd } = openPipe();
  const warnings = new LauncherWarnings();
  // Until the router has ended, or launch.
  const line = watchReadable(readFd, warnings.take, () => {});
  const child = spawn(args, { ...daemonEnvironment(env), ...LAUNCHER_ENV }, log, writeFd);
  const ended = child.exited.then(async () => {
    const { exitCode, signalCode } = child;
    const how = signalCode === null ? `ended with exit code ${exitCode}` : `was ended by ${signalCode}`;
    const why = (await lastError(logStart)) ?? `the router ${how} while it started; see ${logFile()}`;
    return new LaunchError(why, exitCode || 1);
  });
  const giveUp = new AbortController();
  const failure = await Promise.race([ended, untilReady(giveUp.signal)]);
  giveUp.abort();
  if (failure) throw failure;
  child.unref();
  const whileRunning = <T>(answer: Promise<T>) => answeredBeforeEnd(answer, ended);
  return { pid: child.pid, warnings: () => warnings.list, whileRunning, leave: line.stop };
}

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

/** A request to a router that has ended only sees a closed socket: prefer the error of the process. */
async function answeredBeforeEnd<T>(answer: Promise<T>, ended: Promise<LaunchError>): Promise<T> {
  const end = ended.then((error) => Promise.reject(error));
  try {
    return await Promise.race([answer, end]);
  } catch (error) {
    if (error instanceof RouterDownError && !(error instanceof RouterSilentError))
      await Promise.race([end, Bun.sleep(END_TIMEOUT_MS)]);
    throw error;
  }
}

/** Resolve with undefined once the router answers, with an error if it does not in time. */
async function untilReady(giveUp: AbortSignal): Promise<LaunchError | undefined> {
  const api = apiClient();
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && !giveUp.aborted) {
    if (await isAnswering(api)) return undefined;
    await Bun.sleep(10);
  }
  return new LaunchError(
    `the router is not ready after ${START_TIMEOUT_MS / 1000} s and keeps trying; see ${logFile()}`,
    1,
  );
}

/** Return whether the router answers; without its socket no request is made, as each takes 1 ms of CPU time from the start. */
async function isAnswering(api: ApiClient): Promise<boolean> {
  if (!existsSync(controlSocket())) return false;
  return api("GET", "/healthz", { timeoutMs: 1000 }).then(
    () => true,
    () => false,
  );
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
