// HTTP servers on TCP, which strangers may reach: together they leave the process the files that it needs itself.
import { every, systemClock } from "../clock/clock.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { openFiles, openFilesLimit } from "../sys/openfiles.ts";
import { reasonOf } from "../sys/reason.ts";

/** How often open files are counted. */
const COUNT_MS = 2_000;
/** Open files of the process at which all connections of these servers are closed. */
const MAX_FILES = 16_384;

type Server = Bun.Server<undefined>;

export interface TcpServers {
  /** What status says of them. */
  notes(): string[];
  stop(): void;
}

/** Begins all servers, or none; throws as the one does that cannot begin. */
export function startTcpServers(begin: readonly (() => Server)[], log: Log): TcpServers {
  const servers: Server[] = [];
  const close = () => {
    // What comes of it is nobody's concern: all connections are closed at once.
    for (const server of servers.splice(0)) server.stop(true).catch(() => {});
  };
  const beginMissing = () => {
    for (const serve of begin.slice(servers.length)) servers.push(serve());
  };
  try {
    beginMissing();
  } catch (error) {
    close();
    throw error;
  }
  const warn = limitedWarnings(log, Date.now);
  const limit = Math.min(MAX_FILES, openFilesLimit() / 2);
  let closedAt: Date | undefined;
  const counting = every(systemClock, COUNT_MS, () => {
    const count = openFiles();
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
    notes: () =>
      closedAt
        ? [`connections to the HTTP ports were closed, as there were too many (${closedAt.toISOString()})`]
        : [],
    stop() {
      counting.cancel();
      close();
    },
  };
}
