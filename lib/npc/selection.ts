// The pods that a peer of a rule selects, kept as the model changes: for each pod that has changed it is asked again.
import type { Ip } from "../address/ip.ts";
import { keyOf, type Model } from "./model.ts";
import type { Pod } from "./objects.ts";
import { EVERYTHING, type Labels, type Selector, selects } from "./selector.ts";

/** What selects pods: by their labels, and by their namespace's name or its labels. */
export interface Selecting {
  readonly pods: Selector;
  readonly namespaces: Selector | { readonly name: string };
}

/** All pods of the cluster. */
export const ALL_PODS: Selecting = { pods: EVERYTHING, namespaces: EVERYTHING };

export function selectionKey({ pods, namespaces }: Selecting): string {
  return JSON.stringify([canonical(pods), "name" in namespaces ? namespaces.name : canonical(namespaces)]);
}

/** The same for selectors that are the same. */
function canonical({ labels, requirements }: Selector): unknown {
  return [
    Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)),
    requirements.map(({ key, operator, values }) => [key, operator, [...values].sort()].join("\0")).sort(),
  ];
}

export class Selection {
  readonly key: string;
  /** The selected pods that have addresses, by key. */
  readonly members = new Map<string, Pod>();
  /** Their addresses. */
  readonly addresses = new Set<Ip>();
  readonly #held = new Map<string, readonly Ip[]>();

  constructor(
    private readonly selecting: Selecting,
    private readonly model: Model,
  ) {
    this.key = selectionKey(selecting);
    const { namespaces } = selecting;
    const names =
      "name" in namespaces
        ? [namespaces.name]
        : new Set(model.pods.values().map(({ namespace }) => namespace));
    for (const name of names) {
      if (this.#takes(name)) for (const key of model.podsIn(name).keys()) this.#take(key);
    }
  }

  /** The addresses of one of its members. */
  addressesOf(key: string): readonly Ip[] {
    return this.#held.get(key) ?? [];
  }

  /** Looks at pods again; true when any of their addresses has come or gone, or they are others. */
  update(touched: ReadonlySet<string>): boolean {
    let changed = false;
    // An address may pass from one to the other: first who gives up, then who takes.
    for (const key of touched) {
      const addresses = this.#held.get(key);
      if (!addresses) continue;
      const pod = this.model.pods.get(key);
      if (
        pod &&
        pod === this.members.get(key) &&
        this.#selects(pod) &&
        same(addresses, this.model.addressesOf(pod))
      )
        continue;
      for (const address of addresses) this.addresses.delete(address);
      this.#held.delete(key);
      this.members.delete(key);
      changed = true;
    }
    for (const key of touched) if (!this.#held.has(key) && this.#take(key)) changed = true;
    return changed;
  }

  #take(key: string): boolean {
    const pod = this.model.pods.get(key);
    if (!pod || !this.#selects(pod)) return false;
    const addresses = this.model.addressesOf(pod);
    if (addresses.length === 0) return false;
    this.#held.set(keyOf(pod), addresses);
    this.members.set(keyOf(pod), pod);
    for (const address of addresses) this.addresses.add(address);
    return true;
  }

  #selects(pod: Pod): boolean {
    return pod.labels !== undefined && selects(this.selecting.pods, pod.labels) && this.#takes(pod.namespace);
  }

  #takes(namespace: string): boolean {
    const { namespaces } = this.selecting;
    if ("name" in namespaces) return namespaces.name === namespace;
    const labels = namespaceLabels(this.model, namespace);
    return labels !== undefined && selects(namespaces, labels);
  }
}

/** Of a namespace that we have not heard of yet, the name is known. */
function namespaceLabels(model: Model, name: string): Labels | undefined {
  const namespace = model.namespaces.get(name);
  return namespace ? namespace.labels : { "kubernetes.io/metadata.name": name };
}

const same = (a: readonly Ip[], b: readonly Ip[]) => a.length === b.length && a.every((ip, i) => ip === b[i]);
