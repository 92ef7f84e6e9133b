// Where the control API and metrics are served: a Unix socket, and TCP as far as that is wanted.
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { serveTcp, serveUnix } from "../api/listen.ts";
import { controlSocket } from "../api/paths.ts";
import type { ApiTarget } from "../api/server.ts";
import { every, systemClock } from "../clock/clock.ts";
import { limitedWarnings } from "../log/limited.ts";
import { openFiles, openFilesLimit } from "../sys/openfiles.ts";
import { makeOwnFolder } from "../sys/ownfile.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterOptions } from "./options.ts";

/** How often open files are counted. */
const COUNT_MS = 2_000;
/** Open files of the router at which connections over TCP are closed, whoever has them: it needs some itself. */
const MAX_FILES = 16_384;

export interface RunningServers {
  /** What status says of them. */
  notes(): string[];
  stop(): void;
}

type Server = Bun.Server<undefined>;

/** Serves them all, or none; rejects with the one that cannot be. */
export async function serveAll(target: ApiTarget, options: RouterOptions): Promise<RunningServers> {
  const socket = controlSocket();
  makeOwnFolder(dirname(socket));
  rmSync(socket, { force: true });
  const unix = servePrivately(() => serveUnix(socket, target));
  const begin = await tcpServers(target, options);
  const tcp: Server[] = [];
  const stop = () => {
    for (const server of [unix, ...tcp]) server.stop(true);
    rmSync(socket, { force: true });
  };
  try {
    for (const serve of begin) tcp.push(serve());
  } catch (error) {
    stop();
    throw error;
  }
  const warn = limitedWarnings(target.log, Date.now);
  const limit = Math.min(MAX_FILES, openFilesLimit() / 2);
  let closedAt: Date | undefined;
  const counting = every(systemClock, COUNT_MS, () => {
    const count = openFiles();
    if (count > limit) {
      closedAt = new Date();
      warn("open files", `[api] ${count} open files, more than ${limit}: closed all connections over TCP`);
      for (const server of tcp.splice(0)) server.stop(true);
    }
    try {
      for (const serve of begin.slice(tcp.length)) tcp.push(serve());
    } catch (error) {
      warn("listening", `[api] ${reasonOf(error)}`);
    }
  });
  return {
    notes: () =>
      closedAt
        ? [`connections to the HTTP ports were closed, as there were too many (${closedAt.toISOString()})`]
        : [],
    stop() {
      counting.cancel();
      stop();
    },
  };
}

/** What begins each server on TCP that the options ask for. */
async function tcpServers(target: ApiTarget, options: RouterOptions): Promise<(() => Server)[]> {
  const begin: (() => Server)[] = [];
  for (const [address, writes] of [
    [options["http-addr"], options["http-writes"]],
    [options["status-addr"], false],
  ] as const) {
    const access = bound(address);
    if (access)
      begin.push(() => listening("the control API", access, () => serveTcp({ ...access, writes }, target)));
  }
  const metrics = bound(options["metrics-addr"]);
  if (metrics) {
    const { serveMetrics } = await import("../api/metrics.ts");
    begin.push(() => listening("metrics", metrics, () => serveMetrics(metrics, () => target.report())));
  }
  return begin;
}

/** Makes a socket that only its owner can open, from its first moment on. */
function servePrivately(serve: () => Server): Server {
  const before = process.umask(0o177);
  try {
    return serve();
  } finally {
    process.umask(before);
  }
}

const bound = (address: { readonly host: string; readonly port?: number | undefined } | undefined) =>
  address?.port === undefined ? undefined : { hostname: address.host, port: address.port };

function listening<T>(
  what: string,
  { hostname, port }: { hostname: string; port: number },
  serve: () => T,
): T {
  try {
    return serve();
  } catch (error) {
    throw new Error(`cannot serve ${what} on ${hostname}:${port}: ${listenReason(error)}`);
  }
}

/** Why one cannot listen. */
export function listenReason(error: unknown): string {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") return "the port is in use; is weave running already?";
  return reasonOf(error);
}
