// HTTP servers on TCP with a limit on open files: strangers may reach them, and the router needs files itself.
import { type Clock, every, systemClock } from "../clock/clock.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { Limit } from "../sys/limit.ts";
import { openFiles, openFilesLimit } from "../sys/openfiles.ts";
import { reasonOf } from "../sys/reason.ts";

/** Interval of counting open files. */
const COUNT_MS = 2_000;
/** Open files of the process; above, all connections of these servers are closed. */
const MAX_FILES = 16_384;

type Server = Bun.Server<undefined>;

export interface TcpServers {
  /** Lines for the status. */
  notes(): string[];
  limits(): Limit[];
  stop(): void;
}

export interface TcpService {
  serve(): Server;
  /** Enabled by default: if its port is taken, retry, and start the rest without it. */
  readonly optional?: boolean;
}

/** Start all servers, or none; throw the error of the one that fails. */
export function startTcpServers(
  services: readonly TcpService[],
  log: Log,
  clock: Clock = systemClock,
): TcpServers {
  const servers = new Map<TcpService, Server>();
  const close = () => {
    // All connections are closed at once; nothing waits for the rest.
    for (const server of servers.values()) server.stop(true).catch(() => {});
    servers.clear();
  };
  let missing: string | undefined;
  const beginMissing = () => {
    missing = undefined;
    for (const service of services) {
      if (servers.has(service)) continue;
      try {
        servers.set(service, service.serve());
      } catch (error) {
        if (!service.optional) throw error;
        missing = reasonOf(error);
      }
    }
    if (missing !== undefined) warn("optional", missing);
  };
  const warn = limitedWarnings(log, () => clock.now());
  try {
    beginMissing();
  } catch (error) {
    close();
    throw error;
  }
  const limit = Math.min(MAX_FILES, openFilesLimit() / 2);
  let closedAt: Date | undefined;
  let count = openFiles();
  const counting = every(clock, COUNT_MS, () => {
    count = openFiles();
    if (count > limit) {
      closedAt = new Date();
      warn("open files", `${count} open files, more than ${limit}: closed all connections over HTTP`);
      close();
    }
    try {
      beginMissing();
    } catch (error) {
      warn("listening", reasonOf(error));
    }
  });
  return {
    notes: () => [
      ...(closedAt
        ? [`too many open files: closed connections to the HTTP ports (${closedAt.toISOString()})`]
        : []),
      ...(missing === undefined ? [] : [missing]),
    ],
    limits: () => [{ name: "open-files", value: count, max: limit }],
    stop() {
      counting.cancel();
      close();
    },
  };
}
