// Client of the Kubernetes API: objects, lists and watches (https://kubernetes.io/docs/reference/using-api/api-concepts/).
import * as v from "valibot";
import { linesOf } from "../bytes/lines.ts";
import { reasonOf } from "../sys/reason.ts";
import type { KubeConfig } from "./config.ts";

const ANSWER_TIMEOUT_MS = 30_000;
/** An idle watch gets a bookmark about once a minute. One that is silent for longer is begun anew. */
const SILENCE_MS = 150_000;
const PAGE = 500;
/** Bytes of an event; etcd limits objects to 1.5 MB. */
const MAX_LINE = 8 << 20;

/** A failed request; `status` is HTTP's, or 0 if there was no answer. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  constructor(
    message: string,
    readonly status: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The version is too old, or an event is unreadable: list again. */
export const GONE = 410;
export const NOT_FOUND = 404;
/** The object has changed, or exists already. */
export const CONFLICT = 409;

/** Writes: create in a collection, replace an object, apply a strategic merge patch or a merge patch (RFC 7386) to it. */
const WRITES = {
  create: { method: "POST", type: "application/json" },
  replace: { method: "PUT", type: "application/json" },
  patch: { method: "PATCH", type: "application/strategic-merge-patch+json" },
  merge: { method: "PATCH", type: "application/merge-patch+json" },
} as const;

const Page = v.object({
  metadata: v.object({ resourceVersion: v.optional(v.string(), ""), continue: v.optional(v.string(), "") }),
  items: v.nullish(v.array(v.unknown()), []),
});
const Event = v.object({
  type: v.picklist(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]),
  object: v.unknown(),
});
const Status = v.object({ code: v.optional(v.number(), 0), message: v.optional(v.string(), "") });
const Versioned = v.object({ metadata: v.object({ resourceVersion: v.string() }) });

export interface List {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
}

export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
  readonly object: unknown;
  readonly resourceVersion: string;
}

export class KubeClient {
  constructor(
    private readonly config: KubeConfig,
    private readonly answerMs = ANSWER_TIMEOUT_MS,
    private readonly silenceMs = SILENCE_MS,
  ) {}

  /** Get an object ("/api/v1/nodes/n1"). Rejects with KubeError. */
  async get(path: string): Promise<unknown> {
    return jsonOf(path, await this.#fetch(path, [AbortSignal.timeout(this.answerMs)]));
  }

  /** Write an object; resolves with the result. Rejects with KubeError, of status CONFLICT if its version is outdated. */
  async write(how: keyof typeof WRITES, path: string, body: object): Promise<unknown> {
    const { method, type } = WRITES[how];
    const init = { method, body: JSON.stringify(body), headers: { "content-type": type } };
    return jsonOf(path, await this.#fetch(path, [AbortSignal.timeout(this.answerMs)], init));
  }

  /** List a collection ("/api/v1/pods"), page by page. Rejects with KubeError. */
  async list(path: string, signal?: AbortSignal): Promise<List> {
    const items: unknown[] = [];
    let from = "";
    for (;;) {
      const query = new URLSearchParams({ limit: String(PAGE), ...(from ? { continue: from } : {}) });
      const response = await this.#fetch(`${path}?${query}`, [AbortSignal.timeout(this.answerMs), signal]);
      const page = v.safeParse(Page, await response.json().catch(() => undefined));
      if (!page.success) throw new KubeError(`${path}: the answer is not a list`, 0);
      items.push(...(page.output.items ?? []));
      from = page.output.metadata.continue;
      if (!from) return { items, resourceVersion: page.output.metadata.resourceVersion };
    }
  }

  /**
   * Watch a collection from `resourceVersion` on, for `seconds` at most, and until the server falls silent. Rejects with
   * KubeError, of status GONE if that version is too old or an event is unreadable: the server would send it again.
   */
  async *watch(
    path: string,
    resourceVersion: string,
    seconds: number,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    const query = new URLSearchParams({
      watch: "true",
      allowWatchBookmarks: "true",
      resourceVersion,
      timeoutSeconds: String(seconds),
    });
    // A server that vanishes does not end the stream.
    const limit = AbortSignal.timeout(seconds * 1000 + this.answerMs);
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), this.answerMs);
    try {
      const response = await this.#fetch(`${path}?${query}`, [limit, silence.signal, signal]);
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), this.silenceMs);
      const tooLong = () => new KubeError(`${path}: a line of more than ${MAX_LINE} characters`, GONE);
      for await (const line of linesOf(response.body ?? new ReadableStream(), MAX_LINE, tooLong)) {
        timer.refresh();
        if (line.trim() !== "") yield eventOf(line, path);
      }
    } catch (error) {
      // Before an answer it is none; after it, the next watch tells whether the server is there.
      if (error instanceof KubeError || !silence.signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #fetch(
    path: string,
    signals: readonly (AbortSignal | undefined)[],
    init: { method?: string; body?: string; headers?: Record<string, string> } = {},
  ): Promise<Response> {
    const { headers, tls } = this.config.credentials();
    let response: Response;
    try {
      response = await fetch(`${this.config.server}${path}`, {
        ...init,
        headers: { accept: "application/json", ...init.headers, ...headers },
        tls,
        signal: AbortSignal.any(signals.filter((signal) => signal !== undefined)),
      });
    } catch (error) {
      throw new KubeError(`${this.config.server}: ${reasonOf(error)}`, 0, { cause: error });
    }
    if (response.ok) return response;
    const status = v.safeParse(Status, await response.json().catch(() => undefined));
    const message = (status.success && status.output.message) || response.statusText;
    throw new KubeError(`${this.config.server}${path}: ${response.status} ${message}`, response.status);
  }
}

async function jsonOf(path: string, response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch (cause) {
    throw new KubeError(`${path}: the server did not send JSON: ${reasonOf(cause)}`, 0, { cause });
  }
}

/** Return an object that the server has sent as what it should be; throws KubeError. */
export function objectAs<S extends v.GenericSchema>(
  schema: S,
  path: string,
  json: unknown,
): v.InferOutput<S> {
  const read = v.safeParse(schema, json);
  if (read.success) return read.output;
  const [issue] = read.issues;
  throw new KubeError(
    `${path}: the server sent another object: ${v.getDotPath(issue) ?? ""} ${issue.message}`,
    0,
  );
}

function eventOf(line: string, path: string): WatchEvent {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (cause) {
    throw new KubeError(`${path}: the server did not send JSON`, GONE, { cause });
  }
  const event = v.safeParse(Event, json);
  if (!event.success) throw new KubeError(`${path}: the server did not send an event`, GONE);
  const { type, object } = event.output;
  if (type === "ERROR") {
    const status = v.safeParse(Status, object);
    const { code, message } = status.success ? status.output : { code: 0, message: "" };
    throw new KubeError(`${path}: ${code} ${message}`, code);
  }
  const versioned = v.safeParse(Versioned, object);
  if (!versioned.success) throw new KubeError(`${path}: an object without a version`, GONE);
  return { type, object, resourceVersion: versioned.output.metadata.resourceVersion };
}
