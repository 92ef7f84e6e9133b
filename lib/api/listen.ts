// Listeners of the control API: a Unix socket with full access, TCP for reading, and a client without a socket.
import { isIP } from "node:net";
import { systemClock } from "../clock/clock.ts";
import { waitedMs } from "../sys/clocks.ts";
import { HTTP_SERVER, requestUrl } from "../sys/httpserver.ts";
import { type ApiClient, ApiError, NO_ANSWER } from "./client.ts";
import { ReadBudget } from "./readbudget.ts";
import { type Api, answer, routeOf } from "./server.ts";
import { inTurns } from "./turns.ts";

// A form with a few peers, a network configuration, or nothing.
const MAX_BODY = 1024 * 1024;

/** Return a client without a socket, for code in the router itself; calls are cancelled when `caller` fires. */
export function localClient(target: Api, caller?: AbortSignal): ApiClient {
  return async (method, path, { form, body: given, accept, timeoutMs } = {}) => {
    const headers = accept === undefined ? {} : { accept };
    const request = new Request(`http://localhost${path}`, { method, headers, body: given ?? form ?? null });
    const giveUp = new AbortController();
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => giveUp.abort(), timeoutMs);
    const signal = caller ? AbortSignal.any([caller, giveUp.signal]) : giveUp.signal;
    const response = await answer(request, target, signal);
    clearTimeout(timer);
    if (caller?.aborted) throw new ApiError(NO_ANSWER, `the caller has gone: ${method} ${path}`);
    if (giveUp.signal.aborted)
      throw new ApiError(NO_ANSWER, `no answer within ${timeoutMs} ms: ${method} ${path}`);
    const body = await response.text();
    if (!response.ok) throw new ApiError(response.status, body.trim());
    return body;
  };
}

/**
 * Answer a request from a socket, unless it is a write whose caller has gone: requests queue while the router is stopped,
 * and a closed connection shows one turn of the event loop after its request.
 */
async function answerCaller(request: Request, target: Api): Promise<Response> {
  if (request.method !== "GET") {
    await new Promise(setImmediate);
    if (request.signal.aborted) return new Response("the caller has gone\n", { status: 408 });
  }
  const answered = answer(request, target);
  const route = routeOf(target, requestUrl(request).pathname)?.route;
  return target.times?.measure(request.method, route, answered) ?? answered;
}

/** Serve everything on a Unix socket that only root can open. */
export function serveUnix(path: string, target: Api): Bun.Server<undefined> {
  return Bun.serve({
    ...HTTP_SERVER,
    unix: path,
    maxRequestBodySize: MAX_BODY,
    // An address or a quorum may take a while to come from other hosts; Bun cuts what waits longer than 10 s. Its
    // types know this option for TCP only, but it holds here too (and server.timeout() does not).
    idleTimeout: 0 as never,
    fetch: (request) => answerCaller(request, target),
  });
}

export interface TcpAccess {
  readonly hostname: string;
  readonly port: number;
  /** Lets requests change things; else they can only look. */
  readonly writes: boolean;
  /** Serve status, report, metrics and probes alone, as the original does beside its control API. */
  readonly statusOnly?: boolean;
}

const LOCAL_NAMES = ["localhost", "127.0.0.1", "::1"];

/** Return the name or address in a Host header, without its port and the brackets of IPv6. */
const hostIn = (header: string) => header.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");

const isLoopback = (address: string) => /^(?:::ffff:)?127\.|^::1$|^localhost$/.test(address);

/**
 * Serve on TCP. Requests that a web page could forge are refused: those for another host's name (DNS rebinding) and
 * those with a foreign origin. On loopback, so are those of other addresses: with route_localnet, which kube-proxy
 * sets, the kernel takes packets of containers to 127.0.0.1 (CVE-2020-8558).
 */
export function serveTcp(access: TcpAccess, target: Api): Bun.Server<undefined> {
  const names = [...LOCAL_NAMES, access.hostname];
  const foreign = (host: string | null) => host !== null && !names.includes(hostIn(host));
  // DNS rebinding needs a name, so addresses are safe.
  const isAddress = (host: string | null) => isIP(hostIn(host ?? "")) !== 0;
  const local = isLoopback(access.hostname);
  const time = new ReadBudget(systemClock, waitedMs);
  const turns = inTurns();
  const respond = (request: Request, server: Bun.Server<undefined>): Response | Promise<Response> => {
    const { pathname } = requestUrl(request);
    const route = routeOf(target, pathname)?.route;
    if (access.statusOnly && !route?.status) return new Response("404 page not found\n", { status: 404 });
    if (local && !isLoopback(server.requestIP(request)?.address ?? ""))
      return new Response("refused: this port is for this host\n", { status: 403 });
    const origin = request.headers.get("origin");
    if (
      (!route?.anyHost && foreign(request.headers.get("host")) && !isAddress(request.headers.get("host"))) ||
      (origin !== null && foreign(origin.replace(/^\w+:\/\//, "")))
    ) {
      return new Response("refused: the Host or Origin of the request is another site\n", { status: 403 });
    }
    if (request.method !== "GET" && !access.writes) {
      return new Response("read-only; use the Unix socket, or launch with --http-writes\n", {
        status: 403,
      });
    }
    // Large answers keep their timeout, so that a slow reader does not hold them in memory.
    if (request.method === "GET" && route?.costly) return time.spend(() => answerCaller(request, target));
    // Waiting for an address or a quorum may take long; a body may not.
    if (request.body === null && !route?.endless) server.timeout(request, 0);
    return answerCaller(request, target);
  };
  return Bun.serve({
    ...HTTP_SERVER,
    hostname: access.hostname,
    port: access.port,
    ...(access.writes ? { maxRequestBodySize: MAX_BODY } : {}),
    fetch: (request, server) => turns(() => respond(request, server)),
  });
}
