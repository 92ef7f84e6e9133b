// An API server for tests, as far as our clients can tell: objects, with conflicts between who writes them; lists and
// watches, with pages, versions, bookmarks, 410 Gone; tokens.
import { inNetns } from "../../lib/sys/netns.ts";

export const TOKEN = "a-token";

interface Json {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [key: string]: unknown };
  readonly [key: string]: unknown;
}

interface Event {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: unknown;
}

interface Collection {
  readonly kind: string;
  readonly objects: Map<string, Json>;
  events: Event[];
  readonly watchers: Set<(event: Event | "end" | "gone") => void>;
}

export class ApiServer {
  readonly #collections = new Map<string, Collection>([
    ["/api/v1/namespaces", collection("Namespace")],
    ["/api/v1/pods", collection("Pod")],
    ["/apis/networking.k8s.io/v1/networkpolicies", collection("NetworkPolicy")],
    ["/api/v1/nodes", collection("Node")],
    ["/api/v1/configmaps", collection("ConfigMap")],
    ["/api/v1/events", collection("Event")],
    ["/apis/apps/v1/daemonsets", collection("DaemonSet")],
  ]);
  #version = 100;
  /** Versions before this one are forgotten. */
  #oldest = 0;
  #server: Bun.Server<undefined> | undefined;
  /** How many lists and watches have been answered. */
  readonly asked = { list: 0, watch: 0, refused: 0 };
  token = TOKEN;
  /** What it does instead of answering, if anything: it may take its time, or lie. */
  interfere: ((request: Request) => Promise<Response | undefined>) | undefined;
  /** Objects on a page of a list. */
  pageSize = 5;

  constructor(
    private readonly netns: string,
    private readonly port = 6443,
    private readonly address = "127.0.0.1",
  ) {}

  /** A kubeconfig for it. */
  kubeconfig(tokenFile: string): string {
    return [
      "apiVersion: v1",
      "kind: Config",
      "current-context: test",
      "contexts: [{ name: test, context: { cluster: test, user: test } }]",
      `clusters: [{ name: test, cluster: { server: "http://${this.address}:${this.port}" } }]`,
      `users: [{ name: test, user: { tokenFile: ${tokenFile} } }]`,
      "",
    ].join("\n");
  }

  /** Over TLS where there is a certificate. */
  start(tls?: { readonly cert: string; readonly key: string }): void {
    this.#server = inNetns(this.netns, () =>
      Bun.serve({
        hostname: this.address,
        ...(tls ? { tls: { cert: tls.cert, key: tls.key } } : {}),
        port: this.port,
        idleTimeout: 0,
        fetch: (request) => this.#answer(request),
      }),
    );
  }

  /** Goes away, with all connections. */
  async stop(): Promise<void> {
    this.#end("end");
    await this.#server?.stop(true);
    this.#server = undefined;
  }

  apply(...objects: readonly Json[]): void {
    for (const object of objects) {
      const { objects: all } = this.#of(object.kind);
      const key = keyOf(object);
      const type = all.has(key) ? "MODIFIED" : "ADDED";
      const stored = this.#stamp(object);
      all.set(key, stored);
      this.#tell(object.kind, type, stored);
    }
  }

  /** Tells of an object as no API server would: without a version. */
  tellUnversioned(object: Json): void {
    this.#version++;
    this.#tell(object.kind, "ADDED", object);
  }

  delete(...objects: readonly Json[]): void {
    for (const object of objects) {
      const { objects: all } = this.#of(object.kind);
      const stored = all.get(keyOf(object));
      if (!stored) throw new Error(`there is no ${object.kind} ${keyOf(object)}`);
      all.delete(keyOf(object));
      this.#tell(object.kind, "DELETED", this.#stamp(stored));
    }
  }

  /** An object as it is now. */
  find(kind: string, key: string): Json | undefined {
    return this.#of(kind).objects.get(key);
  }

  /** All objects of a kind. */
  all(kind: string): Json[] {
    return [...this.#of(kind).objects.values()];
  }

  /** How many watch objects of a kind. */
  watching(kind: string): number {
    return this.#of(kind).watchers.size;
  }

  /** Ends all watches; clients go on where they were. */
  endWatches(): void {
    this.#end("end");
  }

  /** Forgets the past: who wants to go on from there is told that it is gone. */
  compact(): void {
    this.#oldest = ++this.#version;
    for (const each of this.#collections.values()) each.events = [];
    this.#end("gone");
  }

  #of(kind: string): Collection {
    for (const each of this.#collections.values()) if (each.kind === kind) return each;
    throw new Error(`no collection of ${kind}`);
  }

  #stamp(object: Json): Json {
    this.#version++;
    return {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.#version) } as Json["metadata"],
    };
  }

  #tell(kind: string, type: Event["type"], object: Json): void {
    const { events, watchers } = this.#of(kind);
    const event = { version: this.#version, type, object };
    events.push(event);
    for (const watcher of watchers) watcher(event);
  }

  #end(how: "end" | "gone"): void {
    for (const { watchers } of this.#collections.values()) for (const watcher of [...watchers]) watcher(how);
  }

  async #answer(request: Request): Promise<Response> {
    const instead = await this.interfere?.(request);
    if (instead) return instead;
    const url = new URL(request.url);
    const [, base, namespace, plural, name, part] =
      /^(\/api\/v1|\/apis\/[^/]+\/v1)(?:\/namespaces\/([^/]+))?\/(nodes|pods|configmaps|namespaces|networkpolicies|events|daemonsets)(?:\/([^/]+))?(?:\/(status))?$/.exec(
        url.pathname,
      ) ?? [];
    const collection = this.#collections.get(`${base}/${plural}`);
    if (request.headers.get("authorization") !== `Bearer ${this.token}`) {
      this.asked.refused++;
      return status(401, "Unauthorized");
    }
    if (!collection) return status(404, "the server could not find the requested resource");
    if (name !== undefined || request.method !== "GET")
      return this.#object(collection, request, `${namespace ?? ""}/${name ?? ""}`, part);
    if (url.searchParams.get("watch") !== "true") return this.#list(collection, url.searchParams);
    return this.#watch(collection, Number(url.searchParams.get("resourceVersion")));
  }

  /**
   * One object: read, made, replaced (by who knows its version), its specification merged with a patch of that version, or its
   * status patched, conditions by their type.
   */
  async #object(
    { kind, objects }: Collection,
    request: Request,
    key: string,
    part: string | undefined,
  ): Promise<Response> {
    const before = objects.get(key);
    if (request.method === "GET")
      return before ? Response.json(before) : status(404, `${kind} "${key}" not found`);
    const body = (await request.json()) as Json;
    if (request.method === "POST") {
      if (objects.has(keyOf(body))) return status(409, `${kind} "${keyOf(body)}" already exists`);
      this.apply({ ...body, kind });
      return Response.json(objects.get(keyOf(body)), { status: 201 });
    }
    const stored = objects.get(key);
    if (!stored) return status(404, `${kind} "${key}" not found`);
    const version = ({ metadata }: Json) => (metadata as { resourceVersion?: string }).resourceVersion;
    if (request.method === "PUT") {
      if (version(body) !== undefined && version(body) !== version(stored))
        return status(409, "the object has been modified; please apply your changes to the latest version");
      this.apply({ ...body, kind });
    } else if (request.headers.get("content-type") === "application/merge-patch+json") {
      if (version(body) !== version(stored)) return status(409, "the object has been modified");
      this.apply({ ...stored, spec: { ...(stored["spec"] as object), ...(body["spec"] as object) } });
    } else {
      if (part !== "status") return status(405, "only the status is patched here");
      type Status = { conditions?: { type: string }[] };
      const [old, patch] = [stored["status"], body["status"]] as [Status?, Status?];
      const changed = patch?.conditions ?? [];
      const kept = (old?.conditions ?? []).filter((each) => !changed.some(({ type }) => type === each.type));
      this.apply({ ...stored, status: { ...old, conditions: [...kept, ...changed] } });
    }
    return Response.json(objects.get(key));
  }

  #list({ kind, objects }: Collection, query: URLSearchParams): Response {
    this.asked.list++;
    const all = [...objects.values()];
    const from = Number(query.get("continue") ?? 0);
    const to = from + Math.min(this.pageSize, Number(query.get("limit") ?? all.length));
    // As the real one: items of a list do not say their kind.
    const items = all.slice(from, to).map(({ kind: _kind, ...rest }) => rest);
    const metadata = {
      resourceVersion: String(this.#version),
      ...(to < all.length ? { continue: String(to) } : {}),
    };
    return Response.json({ kind: `${kind}List`, apiVersion: "v1", metadata, items });
  }

  #watch({ events, watchers }: Collection, from: number): Response {
    this.asked.watch++;
    if (from < this.#oldest) return status(410, `too old resource version: ${from} (${this.#oldest})`);
    let watcher: (event: Event | "end" | "gone") => void = () => {};
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        const send = (json: unknown) =>
          controller.enqueue(new TextEncoder().encode(`${JSON.stringify(json)}\n`));
        watcher = (event) => {
          if (typeof event === "object") return send({ type: event.type, object: event.object });
          if (event === "gone")
            send({
              type: "ERROR",
              object: { kind: "Status", code: 410, message: "too old resource version" },
            });
          watchers.delete(watcher);
          controller.close();
        };
        for (const event of events) if (event.version > from) watcher(event);
        send({ type: "BOOKMARK", object: { metadata: { resourceVersion: String(this.#version) } } });
        watchers.add(watcher);
      },
      cancel: () => void watchers.delete(watcher),
    });
    return new Response(stream, { headers: { "content-type": "application/json" } });
  }
}

function collection(kind: string): Collection {
  return { kind, objects: new Map(), events: [], watchers: new Set() };
}

const keyOf = ({ metadata }: Json) => `${metadata.namespace ?? ""}/${metadata.name}`;

function status(code: number, message: string): Response {
  return Response.json(
    { kind: "Status", apiVersion: "v1", status: "Failure", code, message },
    { status: code },
  );
}
