// The state of the cluster as the API server tells it, object by object. What follows from it is never kept here, nor
// counted along with the events: it is computed from the objects as they are (see compiler.ts).
import type { Ip } from "../address/ip.ts";
import { KINDS, type Kind, type KubeObject, type Namespace, type Pod, type Policy } from "./objects.ts";

/** What a change may have consequences for. */
export interface Touched {
  /** Pods, by key. */
  readonly pods: ReadonlySet<string>;
  /** Namespaces whose policies have changed. */
  readonly policies: ReadonlySet<string>;
}

export interface Change {
  readonly type: "set" | "delete";
  readonly object: KubeObject;
}

/** The key of a pod or policy. */
export function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

const none = new Map<string, never>();

export class Model {
  readonly namespaces = new Map<string, Namespace>();
  readonly pods = new Map<string, Pod>();
  readonly #podsIn = new Map<string, Map<string, Pod>>();
  readonly #policiesIn = new Map<string, Map<string, Policy>>();
  /**
   * Keys of the pods that say they have an address, and since which change: more than one, where one has gone and we do not
   * know it yet.
   */
  readonly #byAddress = new Map<Ip, Map<string, number>>();
  #changes = 0;
  /** Pod keys by namespace, label and value: a cache of labels looked up, cleared when a pod of the namespace changes. */
  readonly #byLabel = new Map<string, Map<string, Map<string, string[]>>>();

  /** The namespaces that pods are in. */
  get podNamespaces(): Iterable<string> {
    return this.#podsIn.keys();
  }

  /** The pods of a namespace, by key. */
  podsIn(namespace: string): ReadonlyMap<string, Pod> {
    return this.#podsIn.get(namespace) ?? none;
  }

  /** The keys of the pods of a namespace that have this label with this value. */
  podsLabelled(namespace: string, label: string, value: string): readonly string[] {
    const labels = this.#byLabel.get(namespace) ?? new Map<string, Map<string, string[]>>();
    this.#byLabel.set(namespace, labels);
    const known = labels.get(label) ?? this.#keysByValue(namespace, label);
    labels.set(label, known);
    return known.get(value) ?? [];
  }

  #keysByValue(namespace: string, label: string): Map<string, string[]> {
    const keys = new Map<string, string[]>();
    for (const [key, { labels }] of this.podsIn(namespace)) {
      const value = labels?.[label];
      if (value === undefined) continue;
      const same = keys.get(value);
      if (same) same.push(key);
      else keys.set(value, [key]);
    }
    return keys;
  }

  /** The policies of a namespace, by key. */
  policiesIn(namespace: string): ReadonlyMap<string, Policy> {
    return this.#policiesIn.get(namespace) ?? none;
  }

  get policyCount(): number {
    return this.#policiesIn.values().reduce((sum, policies) => sum + policies.size, 0);
  }

  /**
   * The pod that an address belongs to. Of several that claim it, the one that has said so last: a pod whose sandbox is made
   * anew gets an address that one made later than itself may have had. Of those of one list, the one made last.
   */
  owner(address: Ip): Pod | undefined {
    let owner: { readonly pod: Pod; readonly since: number } | undefined;
    for (const [key, since] of this.#byAddress.get(address) ?? []) {
      const pod = this.pods.get(key);
      if (
        pod &&
        (!owner || isLater([since, pod.created, pod.uid], [owner.since, owner.pod.created, owner.pod.uid]))
      )
        owner = { pod, since };
    }
    return owner?.pod;
  }

  /** The addresses that are a pod's, and no later one's. */
  addressesOf(pod: Pod): readonly Ip[] {
    return pod.addresses.every((address) => this.#byAddress.get(address)?.size === 1)
      ? pod.addresses
      : pod.addresses.filter((address) => this.owner(address) === pod);
  }

  /** Objects of which a part cannot be read. */
  unreadable(): KubeObject[] {
    return KINDS.flatMap((kind) => this.#all(kind)).filter(({ object }) => object.problems.length > 0);
  }

  /** Takes objects in, or out. */
  apply(changes: Iterable<Change>): Touched {
    const pods = new Set<string>();
    const policies = new Set<string>();
    this.#changes++;
    for (const { type, object } of changes) {
      const set = type === "set";
      switch (object.kind) {
        case "Namespace":
          this.#setNamespace(object.object, set, pods, policies);
          break;
        case "Pod":
          this.#setPod(object.object, set, pods);
          break;
        case "NetworkPolicy":
          put(
            this.#policiesIn,
            object.object.namespace,
            keyOf(object.object),
            set ? object.object : undefined,
          );
          policies.add(object.object.namespace);
      }
    }
    return { pods, policies };
  }

  /** Replaces all objects of a kind: what a new list of them says, and no more. */
  replace(kind: Kind, objects: readonly KubeObject[]): Touched {
    const kept = new Set(objects.map((object) => identify(object)));
    const gone = this.#all(kind).filter((object) => !kept.has(identify(object)));
    return this.apply([
      ...gone.map((object): Change => ({ type: "delete", object })),
      ...objects.map((object): Change => ({ type: "set", object })),
    ]);
  }

  #all(kind: Kind): KubeObject[] {
    switch (kind) {
      case "Namespace":
        return Array.from(this.namespaces.values(), (object) => ({ kind, object }));
      case "Pod":
        return Array.from(this.pods.values(), (object) => ({ kind, object }));
      case "NetworkPolicy":
        return [...this.#policiesIn.values()].flatMap((policies) =>
          Array.from(policies.values(), (object) => ({ kind, object })),
        );
    }
  }

  #setNamespace(namespace: Namespace, set: boolean, pods: Set<string>, policies: Set<string>): void {
    if (set) this.namespaces.set(namespace.name, namespace);
    else this.namespaces.delete(namespace.name);
    for (const key of this.podsIn(namespace.name).keys()) pods.add(key);
    policies.add(namespace.name);
  }

  #setPod(pod: Pod, set: boolean, touched: Set<string>): void {
    const key = keyOf(pod);
    const before = this.pods.get(key);
    touched.add(key);
    this.#byLabel.delete(pod.namespace);
    const since = new Map<Ip, number>();
    for (const address of before?.addresses ?? []) {
      const claims = this.#byAddress.get(address);
      if (before?.uid === pod.uid) since.set(address, claims?.get(key) ?? this.#changes);
      claims?.delete(key);
      if (claims?.size === 0) this.#byAddress.delete(address);
      for (const other of claims?.keys() ?? []) touched.add(other);
    }
    put(this.#podsIn, pod.namespace, key, set ? pod : undefined);
    if (!set) {
      this.pods.delete(key);
      return;
    }
    this.pods.set(key, pod);
    for (const address of pod.addresses) {
      const claims = this.#byAddress.get(address) ?? new Map<string, number>();
      for (const other of claims.keys()) touched.add(other);
      this.#byAddress.set(address, claims.set(key, since.get(address) ?? this.#changes));
    }
  }
}

/** "namespace/name", or the name of a namespace. */
export function identify({ kind, object }: KubeObject): string {
  return kind === "Namespace" ? object.name : keyOf(object);
}

/** Compares element by element, the first that differs decides. */
function isLater(one: readonly (number | string)[], other: readonly (number | string)[]): boolean {
  const at = one.findIndex((value, i) => value !== other[i]);
  return (one[at] ?? 0) > (other[at] ?? 0);
}

function put<T>(maps: Map<string, Map<string, T>>, name: string, key: string, value: T | undefined): void {
  const map = maps.get(name) ?? new Map<string, T>();
  if (value === undefined) map.delete(key);
  else map.set(key, value);
  if (map.size === 0) maps.delete(name);
  else maps.set(name, map);
}
