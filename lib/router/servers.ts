// Where the control API and metrics are served: a Unix socket, and TCP as far as that is wanted.
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { serveTcp, serveUnix } from "../api/listen.ts";
import { controlSocket } from "../api/paths.ts";
import type { ApiTarget } from "../api/server.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterOptions } from "./options.ts";

export interface RunningServers {
  stop(): void;
}

/** Serves them all, or none; rejects with the one that cannot be. */
export async function serveAll(target: ApiTarget, options: RouterOptions): Promise<RunningServers> {
  const servers: Bun.Server<undefined>[] = [];
  const stop = () => {
    for (const server of servers) server.stop(true);
    rmSync(controlSocket(), { force: true });
  };
  try {
    await start(servers, target, options);
  } catch (error) {
    stop();
    throw error;
  }
  return { stop };
}

async function start(
  servers: Bun.Server<undefined>[],
  target: ApiTarget,
  options: RouterOptions,
): Promise<void> {
  const socket = controlSocket();
  mkdirSync(dirname(socket), { recursive: true, mode: 0o755 });
  rmSync(socket, { force: true });
  servers.push(serveUnix(socket, target));
  chmodSync(socket, 0o600);
  for (const [address, writes] of [
    [options["http-addr"], options["http-writes"]],
    [options["status-addr"], false],
  ] as const) {
    const access = bound(address);
    if (access)
      servers.push(listening("the control API", access, () => serveTcp({ ...access, writes }, target)));
  }
  const metrics = bound(options["metrics-addr"]);
  if (metrics) {
    const { serveMetrics } = await import("../api/metrics.ts");
    servers.push(listening("metrics", metrics, () => serveMetrics(metrics, () => target.report())));
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
