// Programs of this host, asked over HTTP on loopback. The environment's proxy is not used, which fetch would do, and no
// redirection is followed. Any local user may have taken the port, so answers are bounded.
import { closeSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { ECONNREFUSED } from "./errno.ts";
import { readBounded } from "./readbounded.ts";
import { AF_INET, connectSocket, openSocket, SOCK_NONBLOCK, SOCK_STREAM, sockaddrIn } from "./socket.ts";
import { SysError } from "./syscall.ts";

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

/** Throw SysError where nothing listens: over loopback, a second connect(2) tells what has become of the first. */
function requireListener(url: string): void {
  const { hostname, port } = new URL(url);
  if (hostname !== "127.0.0.1") return;
  const at = sockaddrIn(Uint8Array.of(127, 0, 0, 1), Number(port || 80));
  const fd = openSocket("a TCP socket", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  try {
    if ([connectSocket(fd, at), connectSocket(fd, at)].includes(ECONNREFUSED))
      throw new SysError(`asking ${url}`, ECONNREFUSED);
  } finally {
    closeSync(fd);
  }
}

/** Return the answer to a GET; reject if there is none in time, or a longer one. */
export async function askLocally(
  url: string,
  { limit, timeoutMs, headers = {} }: LocalQuestion,
): Promise<LocalAnswer> {
  requireListener(url);
  // They take as much of a processor as all else in a short command.
  const [{ get }, { Readable }] = await Promise.all([import("node:http"), import("node:stream")]);
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
