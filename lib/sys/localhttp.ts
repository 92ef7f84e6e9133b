// Programs of this host, asked over HTTP on loopback. The environment's proxy is not used, which fetch would do, and no
// redirection is followed. Any local user may have taken the port, so answers are bounded.
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { readBounded } from "./readbounded.ts";

export interface LocalAnswer {
  readonly status: number;
  readonly body: string;
}

export interface LocalQuestion {
  /** Bytes of the answer. */
  readonly limit: number;
  /** ms until the whole answer is there. */
  readonly timeoutMs: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Return the answer to a GET; reject if there is none in time, or a longer one. */
export async function askLocally(
  url: string,
  { limit, timeoutMs, headers = {} }: LocalQuestion,
): Promise<LocalAnswer> {
  // It takes a good part of a router's start, and is hardly used.
  const { get } = await import("node:http");
  const late = AbortSignal.timeout(timeoutMs);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = get(url, { headers, signal: late, agent: false }, resolve).on("error", reject);
  try {
    const answer = await promise;
    const stream = Readable.toWeb(answer) as ReadableStream<Uint8Array>;
    const body = await readBounded(stream, limit, late);
    if (body === undefined)
      throw new Error(
        `${url}: ${late.aborted ? `no answer within ${timeoutMs} ms` : `more than ${limit} bytes`}`,
      );
    return { status: answer.statusCode ?? 0, body };
  } finally {
    request.destroy();
  }
}
