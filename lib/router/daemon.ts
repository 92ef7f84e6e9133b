// The router as a daemon: started in the background by `weave launch`, found and ended by its pid file.
import { spawn } from "node:child_process";
import { closeSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import * as v from "valibot";
import { apiClient, RouterDownError, RouterSilentError } from "../api/client.ts";
import { logFile } from "../api/paths.ts";
import { executable } from "../sys/executable.ts";
import { makeOwnFolder, openOwnFile } from "../sys/ownfile.ts";
import { SIGCONT, SIGKILL, SIGTERM } from "../sys/pidfd.ts";
import { daemonEnvironment } from "../sys/runtime.ts";
import { AlreadyRunningError, runningPid, runningRouter } from "./instance.ts";
import { heardFromRouter, LAUNCHER_ENV, LAUNCHER_FD, type Warning } from "./launcher.ts";
import { LOG_FLAGS, LOG_MODE } from "./logfile.ts";

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
/** The kernel closes the sockets of a process that was killed before its parent hears of its end. */
const END_TIMEOUT_MS = 5_000;

/** The router did not start; the message is what it said, `exitCode` its own. */
export class LaunchError extends Error {
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
  /** What it has warned of so far. */
  warnings(): Warning[];
  /** Resolve with the answer of a router that runs; reject with LaunchError where it ends meanwhile. */
  whileRunning<T>(answer: Promise<T>): Promise<T>;
  /** Look on no longer. */
  leave(): void;
}

/** Starts the router in the background and waits until it is ready; rejects with what it said where it is not. */
export async function launchDaemon(args: readonly string[], env: Record<string, string>): Promise<Daemon> {
  const running = runningPid();
  if (running !== undefined) throw new AlreadyRunningError(running);
  makeOwnFolder(dirname(logFile()));
  const log = openOwnFile(logFile(), LOG_FLAGS, LOG_MODE);
  const logStart = statSync(logFile()).size;
  const child = spawn(executable("weave-router"), [...args], {
    argv0: "weave-router",
    detached: true,
    stdio: ["ignore", log, log, "pipe"],
    env: { ...daemonEnvironment(env), ...LAUNCHER_ENV },
  });
  closeSync(log);
  const line = child.stdio[LAUNCHER_FD];
  const warnings = line instanceof Readable ? heardFromRouter(line) : () => [];
  const ended = new Promise<LaunchError>((resolve) => {
    child.once("error", (error) => resolve(new LaunchError(error.message, 1)));
    child.once("exit", async (code, signal) => {
      const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
      const why = (await lastError(logStart)) ?? `the router ${how} while it started; see ${logFile()}`;
      resolve(new LaunchError(why, code || 1));
    });
  });
  const giveUp = new AbortController();
  const failure = await Promise.race([ended, untilReady(giveUp.signal)]);
  giveUp.abort();
  if (failure) throw failure;
  child.unref();
  const whileRunning = <T>(answer: Promise<T>) => answeredBeforeEnd(answer, ended);
  return { pid: child.pid ?? 0, warnings, whileRunning, leave: () => line?.destroy() };
}

/** What nothing answers any more is told by how the process ended; a request only sees that the socket is closed. */
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

/** Resolves with undefined once the router answers, with a complaint when it does not in time. */
async function untilReady(giveUp: AbortSignal): Promise<LaunchError | undefined> {
  const api = apiClient();
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && !giveUp.aborted) {
    try {
      await api("GET", "/status", { timeoutMs: 1000 });
      return undefined;
    } catch {
      await Bun.sleep(10);
    }
  }
  return new LaunchError(
    `the router is not ready after ${START_TIMEOUT_MS / 1000} s and keeps trying; see ${logFile()}`,
    1,
  );
}

async function lastError(from: number): Promise<string | undefined> {
  const file = Bun.file(logFile());
  // One that is shorter was begun anew meanwhile.
  const lines = (await file.slice(file.size < from ? 0 : from).text()).split("\n");
  for (const line of lines.reverse()) {
    const error = errorOf(line);
    if (error !== undefined) return error;
  }
  return undefined;
}

/** The error that a line of the log tells of, in either format; before there is a log, "weave-router: text". */
function errorOf(line: string): string | undefined {
  if (!line.startsWith("{")) return /^(?:ERRO: \S+ \S+|weave-router:) (.*)$/.exec(line)?.[1];
  try {
    const result = v.safeParse(ErrorLine, JSON.parse(line));
    return result.success ? result.output.msg : undefined;
  } catch {
    // A line that was cut.
    return undefined;
  }
}

const ErrorLine = v.object({ level: v.literal("error"), msg: v.string() });

/** Ends the running router and waits until it is gone; false where none ran. */
export async function stopDaemon(): Promise<boolean> {
  using router = runningRouter();
  if (!router) return false;
  router.signal(SIGTERM);
  // One that is stopped (SIGSTOP) would never hear of it.
  router.signal(SIGCONT);
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  while (!router.ended) {
    if (performance.now() > deadline) router.signal(SIGKILL);
    await Bun.sleep(10);
  }
  return true;
}
