// Events of Kubernetes about objects (v1 Event), for those who look at an object there and not into our log.
import type { Clock } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import { CONFLICT, type KubeClient, KubeError } from "../kube/client.ts";
import { reasonOf } from "../sys/reason.ts";
import type { KubeObject } from "./objects.ts";

/** Events at once, and on the whole; those above are in the log alone. */
const BURST = 50;
const EVENTS_PER_S = 1;
/** The name of an event has at most 253 characters, the digest among them. */
const MAX_NAME = 200;
const MAX_MESSAGE = 1_000;
const DIGEST_LENGTH = 16;

const API_VERSION = { Namespace: "v1", Pod: "v1", NetworkPolicy: "networking.k8s.io/v1" } as const;

/** An event about an object. Its name follows from what it says, so that it is made once, not once a node. */
function eventFor(
  { kind, object }: KubeObject,
  reason: string,
  text: string,
  node: string,
  at: Date,
): { readonly path: string; readonly body: object } {
  const own = kind === "Namespace" ? undefined : object.namespace;
  const namespace = own ?? "default";
  const message = text.slice(0, MAX_MESSAGE);
  const id = kind === "Namespace" ? "" : object.uid;
  const digest = new Bun.CryptoHasher("sha256").update(`${kind} ${id} ${reason} ${message}`).digest("hex");
  const time = at.toISOString().replace(/\.\d+Z$/, "Z");
  const body = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { namespace, name: `${object.name.slice(0, MAX_NAME)}.${digest.slice(0, DIGEST_LENGTH)}` },
    involvedObject: {
      apiVersion: API_VERSION[kind],
      kind,
      name: object.name,
      ...(own !== undefined && { namespace: own }),
      ...(id && { uid: id }),
    },
    ...{ type: "Warning", reason, message, count: 1, firstTimestamp: time, lastTimestamp: time },
    source: { component: "weave-npc", host: node },
  };
  return { path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`, body };
}

export class EventWriter {
  readonly #events: TokenBucket;

  constructor(
    private readonly client: KubeClient,
    private readonly node: string,
    private readonly clock: Clock,
    private readonly failed: (text: string) => void,
  ) {
    this.#events = new TokenBucket(BURST, EVENTS_PER_S, clock.now());
  }

  /** Creates a warning about an object, in the background. */
  warn(object: KubeObject, reason: string, text: string): void {
    if (!this.#events.take(this.clock.now())) return;
    const { path, body } = eventFor(object, reason, text, this.node, new Date(this.clock.wall()));
    this.client.write("create", path, body).catch((error: unknown) => {
      // Another node was first.
      if (error instanceof KubeError && error.status === CONFLICT) return;
      this.failed(`cannot create an event: ${reasonOf(error)}`);
    });
  }
}
