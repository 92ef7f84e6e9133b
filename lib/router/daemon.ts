// The router as a daemon: started in the background by `weave launch`, found and ended by its pid file.
import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { apiClient } from "../api/client.ts";
import { logFile, pidFile } from "../api/paths.ts";
import { EAGAIN } from "../sys/errno.ts";
import { executable } from "../sys/executable.ts";
import { daemonEnvironment } from "../sys/runtime.ts";
import { trySyscall } from "../sys/syscall.ts";

const LOCK_EX_NB = 2 | 4;
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;

/** A router runs already. */
export class AlreadyRunningError extends Error {
  override readonly name = "AlreadyRunningError";
  constructor(pid: string) {
    super(`weave is already running (pid ${pid}); you can stop it with 'weave stop'`);
  }
}

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

/** Makes this process the one router of the host, for as long as it lives; throws AlreadyRunningError. */
export function becomeTheRouter(): void {
  mkdirSync(dirname(pidFile()), { recursive: true, mode: 0o755 });
  const fd = openSync(pidFile(), "a+", 0o644);
  // The lock goes with the process, whatever ends it; the fd is left open for it.
  if (trySyscall("flock", fd, LOCK_EX_NB) === -EAGAIN) {
    const pid = readFileSync(pidFile(), "utf8").trim();
    closeSync(fd);
    throw new AlreadyRunningError(pid);
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
}

/** The pid of the running router, if one runs. */
export function runningPid(): number | undefined {
  if (!existsSync(pidFile())) return undefined;
  const fd = openSync(pidFile(), "r");
  try {
    // Whoever can lock the file is alone.
    if (trySyscall("flock", fd, LOCK_EX_NB) !== -EAGAIN) return undefined;
    const pid = Number(readFileSync(pidFile(), "utf8"));
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  } finally {
    closeSync(fd);
  }
}

/** Starts the router in the background and waits until it is ready; rejects with what it said where it is not. */
export async function launchDaemon(args: readonly string[], env: Record<string, string>): Promise<number> {
  const running = runningPid();
  if (running !== undefined) throw new AlreadyRunningError(String(running));
  mkdirSync(dirname(logFile()), { recursive: true, mode: 0o755 });
  const log = openSync(logFile(), "a", 0o640);
  const logStart = statSync(logFile()).size;
  const child = spawn(executable("weave-router"), [...args], {
    argv0: "weave-router",
    detached: true,
    stdio: ["ignore", log, log],
    env: daemonEnvironment(env),
  });
  closeSync(log);
  const ended = new Promise<LaunchError>((resolve) => {
    child.once("error", (error) => resolve(new LaunchError(error.message, 1)));
    child.once("exit", (code) =>
      resolve(new LaunchError(lastError(logStart) ?? `it ended with exit code ${code}`, code || 1)),
    );
  });
  const giveUp = new AbortController();
  const failure = await Promise.race([ended, untilReady(giveUp.signal)]);
  giveUp.abort();
  if (failure) throw failure;
  child.unref();
  return child.pid ?? 0;
}

/** Resolves with undefined once the router answers, with a complaint when it does not in time. */
async function untilReady(giveUp: AbortSignal): Promise<LaunchError | undefined> {
  const api = apiClient();
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline && !giveUp.aborted) {
    try {
      await api("GET", "/status", { timeoutMs: 1000 });
      return undefined;
    } catch {
      await Bun.sleep(10);
    }
  }
  return new LaunchError(`the router is not ready after ${START_TIMEOUT_MS / 1000} s; see ${logFile()}`, 1);
}

function lastError(from: number): string | undefined {
  const lines = readFileSync(logFile()).subarray(from).toString().split("\n");
  const line = lines.findLast((text) => text.startsWith("ERRO: ") || text.startsWith("weave-router: "));
  return line?.replace(/^ERRO: \S+ \S+ /, "").replace(/^weave-router: /, "");
}

/** Ends the running router and waits until it is gone; false where none ran. */
export async function stopDaemon(): Promise<boolean> {
  const pid = runningPid();
  if (pid === undefined) return false;
  process.kill(pid, "SIGTERM");
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (runningPid() === pid) {
    if (Date.now() > deadline) process.kill(pid, "SIGKILL");
    await Bun.sleep(10);
  }
  return true;
}
