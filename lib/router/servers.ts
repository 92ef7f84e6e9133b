// Where the control API and metrics are served: a Unix socket, and TCP as far as that is wanted.
import { lstatSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { joinHostPort } from "../address/hostport.ts";
import { serveTcp, serveUnix } from "../api/listen.ts";
import { controlSocket } from "../api/paths.ts";
import type { Api } from "../api/server.ts";
import { startTcpServers, type TcpServers, type TcpService } from "../api/tcpservers.ts";
import { detached } from "../log/unexpected.ts";
import { HTTP_SERVER } from "../sys/httpserver.ts";
import { listenTrouble } from "../sys/listening.ts";
import { makeOwnFolder } from "../sys/ownfile.ts";
import { troubleText } from "../sys/trouble.ts";
import type { RouterContext } from "./context.ts";
import { DEFAULT_STATUS_ADDRESS, type RouterOptions } from "./options.ts";

type Server = Bun.Server<undefined>;

/** Serve the control API and metrics; rejects with the error of the server that cannot start. */
export async function serveAll(
  target: Api,
  { options, clock, scope, files }: Pick<RouterContext, "options" | "clock" | "scope" | "files">,
): Promise<TcpServers> {
  const control = new ControlSocket(controlSocket(), target);
  scope.use("the control socket", control);
  files.keep(control);
  return scope.use("the control API", startTcpServers(await tcpServers(target, options), target.log, clock));
}

/** The control API on its Unix socket. */
class ControlSocket {
  #server: Server;

  /** Throws if the socket cannot be made. */
  constructor(
    private readonly path: string,
    private readonly target: Api,
  ) {
    this.#server = this.#serve();
  }

  get what(): string {
    return `the control socket ${this.path}`;
  }

  restore(): boolean {
    if (lstatSync(this.path, { throwIfNoEntry: false })?.isSocket()) return false;
    // Requests under way are answered. It removes the socket by its name: before there is a new one.
    detached("closing the removed control socket", this.#server.stop());
    this.#server = this.#serve();
    return true;
  }

  stop(): void {
    close(this.#server);
    rmSync(this.path, { force: true });
  }

  #serve(): Server {
    makeOwnFolder(dirname(this.path));
    removeStale(this.path);
    return servePrivately(() => serveUnix(this.path, this.target));
  }
}

/** Remove the socket that a killed router has left. */
function removeStale(socket: string): void {
  try {
    rmSync(socket, { force: true });
  } catch (error) {
    throw new Error(`${socket} is in the way: not a socket; remove it`, { cause: error });
  }
}

/** Answer probes before there is a router: it is alive, and not ready because of `why`. */
export function serveWaiting(options: RouterOptions, why: () => string): Disposable {
  using servers = new DisposableStack();
  const notReady = () => new Response(`not ready: ${why()}\n`, { status: 503 });
  for (const option of ["http-addr", "status-addr"] as const) {
    const at = bound(options[option]);
    if (!at) continue;
    const routes = { "/healthz": () => new Response("ok\n") };
    const serve = () => Bun.serve({ ...HTTP_SERVER, ...at, routes, fetch: notReady });
    servers.adopt(listening("probes", `--${option}`, at, serve), close);
  }
  return servers.move();
}

/** Close a server with its connections; nothing waits for the rest. */
function close(server: Server): void {
  server.stop(true).catch(() => {});
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
    const reason = troubleText(listenTrouble(error, { protocol: "tcp", ...at, option }));
    throw new Error(`cannot serve ${what} on ${joinHostPort(at.hostname, at.port)}: ${reason}`, {
      cause: error,
    });
  }
}
