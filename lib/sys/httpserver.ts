// Options of all our HTTP servers: errors are one line, not a page with source code; idle connections are closed.

/** Seconds; limits slow requests and idle keep-alive connections. */
const IDLE_S = 30;
/** Bytes; for servers that need no request bodies. */
const MAX_BODY = 16 << 10;

/** Options for Bun.serve. */
export const HTTP_SERVER = {
  development: false,
  idleTimeout: IDLE_S,
  maxRequestBodySize: MAX_BODY,
  error: () => new Response("internal error\n", { status: 500 }),
} as const;

/**
 * Whether a request comes from a program of this host: by its address, and not made by a page in a browser, of another
 * site (Origin) or of a name that was made to mean us (DNS rebinding).
 */
export function isFromThisHost({ headers }: Request, caller: string): boolean {
  const host = headers.get("host") ?? "localhost";
  return (
    /^(?:::ffff:)?127\.|^::1$/.test(caller) &&
    /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/.test(host) &&
    headers.get("origin") === null
  );
}

/** Return the URL of a request, with a default host for HTTP/1.0. Throws TypeError if it is malformed. */
export function requestUrl(request: Request): URL {
  return new URL(request.url, "http://localhost");
}
