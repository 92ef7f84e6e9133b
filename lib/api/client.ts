// The client of the control API, over the router's Unix socket.
import { dirname } from "node:path";
import { type Clock, systemClock } from "../clock/clock.ts";
import { codeOf } from "../sys/cause.ts";
import type { Failure } from "../sys/failure.ts";
import { lockHolder } from "../sys/lockholder.ts";
import { isStopped } from "../sys/processes.ts";
import { NotRootError } from "../sys/rights.ts";
import { hasUnixListener } from "../sys/unixlistener.ts";
import { controlSocket, PID_FILE } from "./paths.ts";
import { onSilence, type Probe, type Silence } from "./silence.ts";

/** No router runs on this host. */
export class RouterDownError extends Error {
  override readonly name = "RouterDownError";
  readonly failure: Failure = "not-running";
  constructor(socket: string, options?: ErrorOptions) {
    super(`weave is not running (nothing answers at ${socket}); launch it with 'weave launch'`, options);
  }
}

/** The router runs but does not answer. */
export class RouterSilentError extends RouterDownError {
  override readonly failure = "no-answer";
  constructor(socket: string, silence: Silence) {
    super(socket);
    this.message =
      "stopped" in silence
        ? `weave does not answer at ${socket}: stopped by a signal; 'kill -CONT ${silence.stopped}' resumes it`
        : `weave has not answered at ${socket} for ${silence.seconds} s: hung, or this host is overloaded; see 'weave doctor'`;
  }
}

/** The router ended after it had received a request: whether it carried it out is unknown. */
export class RouterEndedError extends RouterDownError {
  constructor(socket: string, options?: ErrorOptions) {
    super(socket, options);
    this.message = "weave ended during this call; try again";
  }
}

/** The router has refused a request; the message is its answer. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly failure = "refused" as const;
  constructor(
    readonly status: number,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Status of an ApiError for a call that timed out. */
export const NO_ANSWER = 504;
/** Pause before another attempt to connect to a socket with a full backlog. */
const FULL_PAUSE_MS = 100;

type Method = "GET" | "POST" | "PUT" | "DELETE";

export interface CallOptions {
  readonly form?: URLSearchParams;
  readonly body?: string;
  readonly accept?: string;
  /** Timeout in ms, default none: a request for an address may wait for other hosts. */
  readonly timeoutMs?: number;
}

export type ApiClient = (method: Method, path: string, options?: CallOptions) => Promise<string>;

/** Return the addresses ("10.32.0.1/12") on this host by holder ID. Throws as the client does. */
export async function holders(api: ApiClient, options: CallOptions = {}): Promise<Map<string, string[]>> {
  const { owned } = JSON.parse(await api("GET", "/ip", options)) as {
    owned: { containerid: string; addrs: string[] }[];
  };
  return new Map(owned.map(({ containerid, addrs }) => [containerid, addrs]));
}

/**
 * Return a client of the API behind a socket, by default that of this host's router. A call may take any time (an address
 * may have to come from another host), or `timeoutMs`, while the router is alive (silence.ts). Calls throw RouterDownError,
 * RouterSilentError, NotRootError or ApiError; the router does not start a call whose client has given up. `clock` times the
 * checks that it is alive.
 */
export function apiClient(socket = controlSocket(), clock?: Clock): ApiClient {
  return (method, path, { form, body, accept, timeoutMs } = {}) =>
    whileAnswering({ socket, what: `${method} ${path}`, timeoutMs, clock }, async (signal) => {
      const response = await fetch(`http://localhost${path}`, {
        unix: socket,
        method,
        signal,
        // Bun's own time-out of 5 min would end a wait for other hosts.
        timeout: false,
        ...(accept === undefined ? {} : { headers: { accept } }),
        ...(form === undefined && body === undefined ? {} : { body: form ?? body }),
      } as RequestInit);
      const answer = await response.text();
      if (!response.ok) throw new ApiError(response.status, answer.trim() || `HTTP ${response.status}`);
      return answer;
    });
}

/** Codes of a connection that ended before the answer. */
const ENDED: readonly unknown[] = ["ECONNRESET", "EPIPE", "ConnectionClosed"];
/** Codes of a failed connect: see unixlistener.ts. */
const NOT_CONNECTED: readonly unknown[] = ["ENOENT", "EAGAIN"];

interface Asked {
  readonly socket: string;
  /** Method and path, for messages. */
  readonly what: string;
  /** Default none. */
  readonly timeoutMs?: number | undefined;
  /** Times the checks that the router is alive; default the system's. */
  readonly clock?: Clock | undefined;
}

/** Run a request while the router is alive, until a timeout in ms; throws as ApiClient does. */
export async function whileAnswering<T>(
  { socket, what, timeoutMs, clock = systemClock }: Asked,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const giveUp = new AbortController();
  const gaveUp = new Promise<never>((_, reject) => {
    giveUp.signal.addEventListener("abort", () => reject(giveUp.signal.reason));
  });
  gaveUp.catch(() => {});
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => giveUp.abort(noAnswer(timeoutMs, what)), timeoutMs);
  onSilence(clock, probeOf(socket, giveUp.signal), giveUp.signal, (silence) =>
    giveUp.abort(new RouterSilentError(socket, silence)),
  );
  try {
    return await Promise.race([whileFull(socket, () => run(giveUp.signal)), gaveUp]);
  } catch (error) {
    if (giveUp.signal.aborted) throw giveUp.signal.reason;
    if (error instanceof ApiError || error instanceof RouterDownError) throw error;
    const code = codeOf(error);
    if (code === "EACCES" || code === "EPERM")
      throw new NotRootError(`cannot ask the router at ${socket}`, { cause: error });
    if (ENDED.includes(code)) throw new RouterEndedError(socket, { cause: error });
    throw new RouterDownError(code === "ECONNREFUSED" ? `${socket}, a leftover` : socket, { cause: error });
  } finally {
    clearTimeout(timer);
    giveUp.abort();
  }
}

/** Retry a request while the router's backlog is full. Safe: nothing was sent. */
async function whileFull<T>(socket: string, run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (!NOT_CONNECTED.includes(codeOf(error)) || !hasUnixListener(socket)) throw error;
      await Bun.sleep(FULL_PAUSE_MS);
    }
  }
}

const noAnswer = (timeoutMs: number, what: string) =>
  new ApiError(NO_ANSWER, `no answer within ${timeoutMs} ms: ${what}`);

function probeOf(socket: string, over: AbortSignal): Probe {
  const health = () =>
    fetch("http://localhost/healthz", { unix: socket, signal: over, timeout: false } as RequestInit);
  let pid: number | undefined;
  return {
    answers: () =>
      health().then(
        ({ ok }) => ok,
        () => false,
      ),
    stopped() {
      pid ??= lockHolder(`${dirname(socket)}/${PID_FILE}`);
      return pid !== undefined && isStopped(pid) ? pid : undefined;
    },
  };
}
