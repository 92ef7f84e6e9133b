// The client of the control API, over the router's Unix socket.
import { existsSync } from "node:fs";
import { controlSocket } from "./paths.ts";

/** The router cannot be asked: it does not run, or not here. */
export class RouterDownError extends Error {
  override readonly name = "RouterDownError";
  constructor(socket: string) {
    super(`weave is not running (nothing answers at ${socket}); launch it with 'weave launch'`);
  }
}

/** The router has refused a request; the message is its answer. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export type Method = "GET" | "POST" | "PUT" | "DELETE";

export interface CallOptions {
  readonly form?: URLSearchParams;
  readonly accept?: string;
  /** Gives up after so many milliseconds; a request for an address may rightly take long. */
  readonly timeoutMs?: number;
}

export type ApiClient = (method: Method, path: string, options?: CallOptions) => Promise<string>;

/** Who holds which addresses ("10.32.0.1/12") on this host, by the holders' ids. Throws as the client does. */
export async function holders(api: ApiClient, options: CallOptions = {}): Promise<Map<string, string[]>> {
  const { owned } = JSON.parse(await api("GET", "/ip", options)) as {
    owned: { containerid: string; addrs: string[] }[];
  };
  return new Map(owned.map(({ containerid, addrs }) => [containerid, addrs]));
}

/** Calls paths of the API behind a socket, this host's router's unless told otherwise; throws RouterDownError or ApiError. */
export function apiClient(socket = controlSocket()): ApiClient {
  return async (method, path, { form, accept, timeoutMs } = {}) => {
    let response: Response;
    try {
      response = await fetch(`http://localhost${path}`, {
        unix: socket,
        method,
        ...(accept === undefined ? {} : { headers: { accept } }),
        ...(form === undefined ? {} : { body: form }),
        ...(timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(timeoutMs) }),
      });
    } catch (error) {
      if (error instanceof Error && error.name === "TimeoutError") {
        throw new ApiError(504, `no answer within ${timeoutMs} ms: ${method} ${path}`);
      }
      throw new RouterDownError(existsSync(socket) ? `${socket}, a leftover` : socket);
    }
    const body = await response.text();
    if (!response.ok) throw new ApiError(response.status, body.trim() || `HTTP ${response.status}`);
    return body;
  };
}
