// The pods that peers of rules select, kept as the model changes: for each pod that has changed they are asked again.
// What one set needs is one selection: memory grows with the pods of a set, not with the selectors that it is made of.
import type { Ip } from "../address/ip.ts";
import type { Model } from "./model.ts";
import { EVERYTHING, type Selector, selects, selectsKnown } from "./selector.ts";

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

const NONE: readonly Ip[] = [];

/** The pods that any of some selectors selects. */
export class Selection {
  /** Addresses of the selected pods that have some, by the pods' keys. */
  readonly members = new Map<string, readonly Ip[]>();

  constructor(
    private readonly selecting: readonly Selecting[],
    private readonly model: Model,
  ) {
    for (const namespace of model.podNamespaces) {
      const selectors = this.#selectorsFor(namespace);
      if (selectors.length > 0)
        for (const key of candidates(model, namespace, selectors))
          this.#set(key, this.#addressesOf(key, selectors));
    }
  }

  /** Looks at pods again; true when any of their addresses has come or gone, or they are others. */
  update(touched: ReadonlySet<string>): boolean {
    const selectors = new Map<string, readonly Selector[]>();
    let changed = false;
    for (const key of touched) {
      const namespace = this.model.pods.get(key)?.namespace;
      const own = namespace === undefined ? [] : (selectors.get(namespace) ?? this.#selectorsFor(namespace));
      if (namespace !== undefined) selectors.set(namespace, own);
      const addresses = this.#addressesOf(key, own);
      // Another pod of that name has another list, be it of the same addresses.
      if (addresses === (this.members.get(key) ?? NONE)) continue;
      this.#set(key, addresses);
      changed = true;
    }
    return changed;
  }

  #set(key: string, addresses: readonly Ip[]): void {
    if (addresses.length > 0) this.members.set(key, addresses);
    else this.members.delete(key);
  }

  #addressesOf(key: string, selectors: readonly Selector[]): readonly Ip[] {
    const pod = this.model.pods.get(key);
    const labels = pod?.labels;
    if (!pod || !labels || !selectors.some((selector) => selects(selector, labels))) return NONE;
    const addresses = this.model.addressesOf(pod);
    return addresses.length > 0 ? addresses : NONE;
  }

  /** The selectors that are about pods of a namespace. */
  #selectorsFor(namespace: string): Selector[] {
    const takes = namespaceTest(this.model, namespace);
    return this.selecting
      .filter(({ namespaces }) => ("name" in namespaces ? namespaces.name === namespace : takes(namespaces)))
      .map(({ pods }) => pods);
  }
}

/** Return the keys of the pods of a namespace that a selector may match; few, if each selector has a label with a value. */
function candidates(model: Model, namespace: string, selectors: readonly Selector[]): Iterable<string> {
  const asked = selectors.map(({ labels }) => Object.entries(labels)[0]);
  if (!asked.every((label) => label !== undefined)) return model.podsIn(namespace).keys();
  return asked.flatMap(([label, value]) => model.podsLabelled(namespace, label, value));
}

/** Whether a selector takes a namespace. Of one that we have not heard of yet, its name is known and no more. */
function namespaceTest(model: Model, name: string): (selector: Selector) => boolean {
  const namespace = model.namespaces.get(name);
  if (!namespace) return (selector) => selectsKnown(selector, { "kubernetes.io/metadata.name": name });
  const { labels } = namespace;
  return (selector) => labels !== undefined && selects(selector, labels);
}
