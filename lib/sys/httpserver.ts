// What every HTTP server of ours has in common: an error is one line, never a page with our source in it; whoever says
// nothing for long is let go.

/** Seconds; for requests that come in slowly, and for connections that are kept open between requests. */
const IDLE_S = 30;
/** Bytes; where no request has a body worth reading. */
const MAX_BODY = 16 << 10;

/** Options for Bun.serve. */
export const HTTP_SERVER = {
  development: false,
  idleTimeout: IDLE_S,
  maxRequestBodySize: MAX_BODY,
  error: () => new Response("internal error\n", { status: 500 }),
} as const;

/** The URL of a request; one of HTTP/1.0 need not name a host. Throws TypeError for what is none. */
export function requestUrl(request: Request): URL {
  return new URL(request.url, "http://localhost");
}
