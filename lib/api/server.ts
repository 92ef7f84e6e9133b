// The control API: the paths of the original over HTTP. What a route throws becomes an answer of one line.
import { systemClock } from "../clock/clock.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import { requestUrl } from "../sys/httpserver.ts";
import { reasonOf } from "../sys/reason.ts";
import { HttpError } from "./httperror.ts";
import type { RequestTimes } from "./requesttimes.ts";
import { text } from "./responses.ts";
import { CONTAINER_ROUTES } from "./routes/containers.ts";
import { EXPOSE_ROUTES } from "./routes/expose.ts";
import { HOST_PORT_ROUTES } from "./routes/hostports.ts";
import { IP_ROUTES } from "./routes/ip.ts";
import { NAME_ROUTES } from "./routes/names.ts";
import { PEER_ROUTES } from "./routes/peers.ts";
import { STATUS_ROUTES } from "./routes/status.ts";
import { findRoute, type Route } from "./routing.ts";
import type { ApiTarget } from "./target.ts";

const ROUTES: readonly Route[] = [
  ...STATUS_ROUTES,
  ...IP_ROUTES,
  ...NAME_ROUTES,
  ...PEER_ROUTES,
  ...EXPOSE_ROUTES,
  ...CONTAINER_ROUTES,
  ...HOST_PORT_ROUTES,
];

/** A router, and routes of rooms above this one. */
export interface Api extends ApiTarget {
  readonly routes?: readonly Route[];
  /** Times of requests over sockets. */
  readonly times?: RequestTimes;
}

/** Return the route of a path; undefined where there is none. */
export const routeOf = ({ routes = [] }: Api, pathname: string) =>
  findRoute(ROUTES, pathname) ?? findRoute(routes, pathname);

const unexpected = new WeakMap<ApiTarget, LimitedWarning>();

/** Log unexpected errors of a router: whoever reaches a port can repeat a request without end. */
function unexpectedIn(target: ApiTarget): LimitedWarning {
  const known = unexpected.get(target);
  const warn = known ?? limitedWarnings({ warning: target.log.error }, () => systemClock.now());
  if (!known) unexpected.set(target, warn);
  return warn;
}

/** Answer a request; `signal` fires when the caller has gone. Never rejects. */
export async function answer(request: Request, target: Api, signal = request.signal): Promise<Response> {
  let what = request.method;
  let found: ReturnType<typeof routeOf>;
  try {
    const url = requestUrl(request);
    what = `${request.method} ${url.pathname}`;
    found = routeOf(target, url.pathname);
    if (!found) return text("404 page not found\n", 404);
    const { methods } = found.route;
    const handler = methods[request.method as keyof typeof methods];
    if (!handler) return text(`${request.method} is not possible on ${url.pathname}\n`, 405);
    return await handler({ request, url, parameters: decoded(found.encoded), target, signal });
  } catch (error) {
    const translated = found?.route.translate?.(error) ?? error;
    return translated instanceof Response ? translated : refusal(translated, target, what);
  }
}

function decoded(encoded: Readonly<Record<string, string>>): Record<string, string> {
  try {
    return Object.fromEntries(
      Object.entries(encoded).map(([name, value]) => [name, decodeURIComponent(value)]),
    );
  } catch (error) {
    throw new HttpError(400, reasonOf(error), { cause: error });
  }
}

function refusal(error: unknown, target: ApiTarget, what: string): Response {
  const { log } = target;
  const message = reasonOf(error);
  if (!(error instanceof HttpError)) unexpectedIn(target)(`${what}: ${message}`, message, { request: what });
  // Anybody who reaches a port can send bad requests without end; the answer explains them.
  else if (error.logged && what.startsWith("GET ")) log.debug(message, { request: what });
  else if (error.logged) log.warning(message, { request: what });
  return text(`${message}\n`, error instanceof HttpError ? error.status : 500);
}
