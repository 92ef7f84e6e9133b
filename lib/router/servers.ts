// Where the control API and metrics are served: a Unix socket, and TCP as far as that is wanted.
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { serveTcp, serveUnix } from "../api/listen.ts";
import { controlSocket } from "../api/paths.ts";
import type { Api } from "../api/server.ts";
import { startTcpServers, type TcpServers, type TcpService } from "../api/tcpservers.ts";
import { HTTP_SERVER } from "../sys/httpserver.ts";
import { listenReason } from "../sys/listening.ts";
import { makeOwnFolder } from "../sys/ownfile.ts";
import { DEFAULT_STATUS_ADDRESS, type RouterOptions } from "./options.ts";

type Server = Bun.Server<undefined>;

/** Serves them all, or none; rejects with the one that cannot be. */
export async function serveAll(target: Api, options: RouterOptions): Promise<TcpServers> {
  const socket = controlSocket();
  makeOwnFolder(dirname(socket));
  rmSync(socket, { force: true });
  const unix = servePrivately(() => serveUnix(socket, target));
  const stop = () => {
    unix.stop(true).catch(() => {});
    rmSync(socket, { force: true });
  };
  try {
    const tcp = startTcpServers(await tcpServers(target, options), target.log);
    return {
      notes: tcp.notes,
      stop() {
        tcp.stop();
        stop();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** Answer probes before there is a router: it is alive, and not ready because of `why`. */
export function serveWaiting(options: RouterOptions, why: () => string): { stop(): void } {
  const servers: Server[] = [];
  const stop = () => {
    for (const server of servers) server.stop(true).catch(() => {});
  };
  const notReady = () => new Response(`not ready: ${why()}\n`, { status: 503 });
  try {
    for (const option of ["http-addr", "status-addr"] as const) {
      const at = bound(options[option]);
      if (!at) continue;
      const routes = { "/healthz": () => new Response("ok\n") };
      servers.push(
        listening("probes", `--${option}`, at, () =>
          Bun.serve({ ...HTTP_SERVER, ...at, routes, fetch: notReady }),
        ),
      );
    }
  } catch (error) {
    stop();
    throw error;
  }
  return { stop };
}

/** Return each TCP server in the options. */
async function tcpServers(target: Api, options: RouterOptions): Promise<TcpService[]> {
  const services: TcpService[] = [];
  const control = bound(options["http-addr"]);
  if (control) {
    const serve = () => serveTcp({ ...control, writes: options["http-writes"] }, target);
    services.push({ serve: () => listening("the control API", "--http-addr", control, serve) });
  }
  const status = bound(options["status-addr"]);
  if (status) {
    const serve = () => serveTcp({ ...status, writes: false, statusOnly: true }, target);
    services.push({
      serve: () => listening("the status", "--status-addr", status, serve),
      // By default it is there where it can be.
      optional: `${status.hostname}:${status.port}` === DEFAULT_STATUS_ADDRESS,
    });
  }
  const metrics = bound(options["metrics-addr"]);
  if (metrics) {
    const { serveMetrics } = await import("../api/metrics.ts");
    const serve = () => serveMetrics(metrics, () => target.report());
    services.push({ serve: () => listening("metrics", "--metrics-addr", metrics, serve) });
  }
  return services;
}

/** Create a socket with mode 600 from the start. */
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
  option: string,
  at: { readonly hostname: string; readonly port: number },
  serve: () => T,
): T {
  try {
    return serve();
  } catch (error) {
    const reason = listenReason(error, { protocol: "tcp", ...at, option });
    throw new Error(`cannot serve ${what} on ${at.hostname}:${at.port}: ${reason}`);
  }
}
