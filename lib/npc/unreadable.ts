// Objects of which a part cannot be read: each is told of when it is found, and when what is wrong with it changes.
import type { Metrics } from "./metrics.ts";
import { identify } from "./model.ts";
import type { Kind, KubeObject } from "./objects.ts";

/** Labels of metrics have to be few; further objects are counted together, under no name. */
const MAX_NAMED = 100;

export interface UnreadableListener {
  /** An object cannot be read, or for another reason than before; the text says which, why, and what follows. */
  found(object: KubeObject, text: string): void;
  mended(object: KubeObject): void;
}

interface Known {
  readonly object: KubeObject;
  readonly text: string;
}

export class Unreadable {
  readonly #known = new Map<string, Known>();

  constructor(
    private readonly metrics: Pick<Metrics, "unreadable">,
    private readonly listener: UnreadableListener,
  ) {}

  /** What there is to say, an object each. */
  get texts(): string[] {
    return Array.from(this.#known.values(), ({ text }) => text);
  }

  /** All objects of a kind. */
  listed(kind: Kind, objects: readonly KubeObject[]): void {
    const there = new Set(objects.map(keyOf));
    for (const [key, { object }] of this.#known)
      if (object.kind === kind && !there.has(key)) this.#known.delete(key);
    for (const object of objects) this.#look(object);
    this.#measure();
  }

  changed(type: "set" | "delete", object: KubeObject): void {
    if (type === "delete") this.#known.delete(keyOf(object));
    else this.#look(object);
    this.#measure();
  }

  #look(object: KubeObject): void {
    const key = keyOf(object);
    const before = this.#known.get(key);
    if (object.object.problems.length === 0) {
      if (this.#known.delete(key)) this.listener.mended(object);
      return;
    }
    const text = problemText(object);
    this.#known.set(key, { object, text });
    if (before?.text !== text) this.listener.found(object, text);
  }

  #measure(): void {
    const { unreadable } = this.metrics;
    unreadable.reset();
    let named = 0;
    for (const { object } of this.#known.values()) {
      const { kind } = object;
      if (named++ >= MAX_NAMED) unreadable.inc({ kind, namespace: "", name: "" });
      else if (kind === "Namespace") unreadable.set({ kind, namespace: "", name: object.object.name }, 1);
      else unreadable.set({ kind, namespace: object.object.namespace, name: object.object.name }, 1);
    }
  }
}

const keyOf = (object: KubeObject) => `${object.kind} ${identify(object)}`;

/** Which object, why it cannot be read, and what comes of it. */
export function problemText(object: KubeObject): string {
  return `${object.kind} ${identify(object)} cannot be read: ${object.object.problems.join("; ")}; ${consequence(object)}`;
}

function consequence({ kind, object }: KubeObject): string {
  switch (kind) {
    case "NetworkPolicy":
      return "it isolates the pods that it selects, and allows what could be read";
    case "Pod":
      return object.labels ? "that part is ignored" : "it is isolated, and no rule selects it";
    case "Namespace":
      return object.labels ? "that part is ignored" : "no rule selects its pods by labels of the namespace";
  }
}
