// From the model to the rules of one node. What follows from the model is computed from the objects as they are; only what
// a change touches is computed again, and what has not changed stays the same object: that is how difference.ts sees it.
import { familyOf, type Ip, type IpRange, ipNumber } from "../address/ip.ts";
import { rangesContain } from "./blocks.ts";
import { buildChain, type NamedTerm, rangesText, type ScopedRule, type SetBuilder } from "./chain.ts";
import type { Model, Touched } from "./model.ts";
import { DIRECTIONS, type Direction, type Pod, type Policy } from "./objects.ts";
import { type Chain, digest, type Endpoint, endpointKey, type RuleSet, type Ruleset } from "./ruleset.ts";
import { type Selecting, Selection, selectionKey } from "./selection.ts";
import { selects } from "./selector.ts";

export interface CompilerOptions {
  /** The name of the node whose pods the rules are for; undefined for pods that have no node yet. */
  readonly node: string | undefined;
  /**
   * As before Kubernetes 1.7: pods are isolated by an annotation of their namespace, for ingress alone, and policies only
   * say what is allowed.
   */
  readonly legacy?: boolean;
}

/** How a set follows from selections. */
type Definition =
  | { readonly kind: "pods"; readonly selection: Selection }
  | { readonly kind: "endpoints"; readonly terms: readonly { selection: Selection; term: NamedTerm }[] };

/** A pod of our node as it is enforced. */
interface Enforced {
  readonly addresses: readonly Ip[];
  readonly nodeAddresses: readonly Ip[];
  readonly chains: Readonly<Record<Direction, string | undefined>>;
}

export class Compiler implements SetBuilder {
  readonly #selections = new Map<string, Selection>();
  readonly #definitions = new Map<string, Definition>();
  readonly #sets = new Map<string, RuleSet>();
  readonly #chains = new Map<string, Chain>();
  /** Chains by the rules they are of: pods that are selected by the same policies share one. */
  readonly #chainOf = new Map<string, string>();
  readonly #rulesText = new WeakMap<Policy, Record<Direction, readonly string[]>>();
  readonly #enforced = new Map<string, Enforced>();

  constructor(
    private readonly model: Model,
    private readonly options: CompilerOptions,
  ) {}

  /** The rules, after a change of the model. */
  update({ pods, policies }: Touched): Ruleset {
    this.#refill(new Set(this.#selections.values().filter((selection) => selection.update(pods))));
    const affected = new Set(pods);
    for (const namespace of policies) {
      for (const key of this.model.podsIn(namespace).keys()) affected.add(key);
    }
    for (const key of affected) this.#enforce(key);
    this.#sweep();
    return this.#ruleset();
  }

  /** The rules of the model as it is, from nothing. */
  all(): Ruleset {
    return this.update({ pods: new Set(this.model.pods.keys()), policies: new Set() });
  }

  /** The chain that these rules make for a pod. Its sets are in the rules of the next update, if it is used by then. */
  chain(direction: Direction, rules: readonly ScopedRule[], pod: Pod): Chain {
    return buildChain(direction, rules, pod.ports, this);
  }

  /** The sets that there are, by their keys. */
  get sets(): ReadonlyMap<string, RuleSet> {
    return this.#sets;
  }

  pods(selecting: readonly Selecting[]): string {
    const { key, selection } = this.#selection(selecting);
    return this.#define(digest(`pods ${key}`), { kind: "pods", selection });
  }

  endpoints(named: readonly NamedTerm[]): string {
    const terms = named.map((term) => ({ ...this.#selection(term.selecting), term }));
    const texts = terms.map(({ key, term: { protocol, name, within = [] } }) =>
      [key, protocol, name, rangesText(within)].join(" "),
    );
    const key = digest(`endpoints ${[...new Set(texts)].sort().join()}`);
    return this.#define(key, { kind: "endpoints", terms });
  }

  blocks(ranges: readonly IpRange[]): string {
    const key = digest(`blocks ${rangesText(ranges)}`);
    if (!this.#sets.has(key)) this.#sets.set(key, { kind: "blocks", key, ranges });
    return key;
  }

  #selection(selecting: readonly Selecting[]): { readonly key: string; readonly selection: Selection } {
    const distinct = new Map(selecting.map((each) => [selectionKey(each), each]));
    const key = [...distinct.keys()].sort().join();
    let selection = this.#selections.get(key);
    if (!selection) {
      selection = new Selection([...distinct.values()], this.model);
      this.#selections.set(key, selection);
    }
    return { key, selection };
  }

  #define(key: string, definition: Definition): string {
    if (!this.#definitions.has(key)) {
      this.#definitions.set(key, definition);
      this.#sets.set(key, fill(key, definition, this.model));
    }
    return key;
  }

  #refill(changed: ReadonlySet<Selection>): void {
    if (changed.size === 0) return;
    for (const [key, definition] of this.#definitions) {
      if (selectionsOf(definition).some((selection) => changed.has(selection)))
        this.#sets.set(key, fill(key, definition, this.model));
    }
  }

  #enforce(key: string): void {
    const pod = this.model.pods.get(key);
    if (!pod || pod.node !== this.options.node) {
      this.#enforced.delete(key);
      return;
    }
    const addresses = this.model.addressesOf(pod);
    const chains = { ingress: this.#chainFor(pod, "ingress"), egress: this.#chainFor(pod, "egress") };
    this.#enforced.set(key, { addresses, nodeAddresses: pod.nodeAddresses, chains });
  }

  /** The key of the chain of a pod; undefined where nothing isolates it. */
  #chainFor(pod: Pod, direction: Direction): string | undefined {
    const policies = isolating(this.model, pod, direction, this.options.legacy);
    if (!policies) return undefined;
    const texts = policies.flatMap((policy) => this.#textsOf(policy)[direction]);
    const own = pod.ports.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`);
    const id = digest(JSON.stringify([direction, pod.namespace, [...new Set(texts)].sort(), own]));
    const known = this.#chainOf.get(id);
    if (known !== undefined && this.#chains.has(known)) return known;
    const rules = policies.flatMap(({ namespace, ...policy }) =>
      (policy[direction] ?? []).map((rule) => ({ namespace, rule })),
    );
    const chain = this.chain(direction, rules, pod);
    this.#chains.set(chain.key, chain);
    this.#chainOf.set(id, chain.key);
    return chain.key;
  }

  #textsOf(policy: Policy): Record<Direction, readonly string[]> {
    let texts = this.#rulesText.get(policy);
    if (!texts) {
      const of = (direction: Direction) =>
        (policy[direction] ?? []).map((rule) => JSON.stringify(rule, plain));
      texts = { ingress: of("ingress"), egress: of("egress") };
      this.#rulesText.set(policy, texts);
    }
    return texts;
  }

  /** Forgets chains, sets and selections that nothing needs any more. */
  #sweep(): void {
    const chains = new Set<string | undefined>();
    for (const { chains: own } of this.#enforced.values()) chains.add(own.ingress).add(own.egress);
    for (const key of this.#chains.keys()) if (!chains.has(key)) this.#chains.delete(key);
    for (const [id, key] of this.#chainOf) if (!chains.has(key)) this.#chainOf.delete(id);
    const sets = new Set(this.#chains.values().flatMap(setsOf));
    for (const key of this.#sets.keys()) if (!sets.has(key)) this.#sets.delete(key);
    for (const key of this.#definitions.keys()) if (!sets.has(key)) this.#definitions.delete(key);
    const selections = new Set(this.#definitions.values().flatMap(selectionsOf));
    for (const [key, selection] of this.#selections)
      if (!selections.has(selection)) this.#selections.delete(key);
  }

  #ruleset(): Ruleset {
    const local = new Map<Ip, string>();
    const node = new Set<Ip>();
    const isolated = { ingress: new Map<Ip, string>(), egress: new Map<Ip, string>() };
    for (const [key, { addresses, nodeAddresses, chains }] of this.#enforced) {
      for (const address of nodeAddresses) node.add(address);
      for (const address of addresses) {
        local.set(address, key);
        for (const direction of DIRECTIONS) {
          const chain = chains[direction];
          if (chain !== undefined) isolated[direction].set(address, chain);
        }
      }
    }
    return { node, local, isolated, chains: new Map(this.#chains), sets: new Map(this.#sets) };
  }
}

/** The policies that isolate a pod in a direction; undefined where it is not isolated. Legacy semantics: see CompilerOptions. */
export function isolating(
  model: Model,
  pod: Pod,
  direction: Direction,
  legacy = false,
): Policy[] | undefined {
  const { labels } = pod;
  // Nobody knows which policies are about it.
  if (!labels) return [];
  const policies = [...model.policiesIn(pod.namespace).values()].filter(
    (policy) => policy[direction] !== undefined && selects(policy.pods, labels),
  );
  if (!legacy) return policies.length > 0 ? policies : undefined;
  const isolated = direction === "ingress" && model.namespaces.get(pod.namespace)?.isolated;
  return isolated ? policies : undefined;
}

/** The keys of the sets that a chain looks up. */
function setsOf({ any, ports, named }: Chain): string[] {
  return [any?.pods, any?.blocks, ...ports.flatMap(({ peers }) => [peers.pods, peers.blocks]), named].filter(
    (key) => key !== undefined,
  );
}

function selectionsOf(definition: Definition): readonly Selection[] {
  return definition.kind === "pods"
    ? [definition.selection]
    : definition.terms.map(({ selection }) => selection);
}

function fill(key: string, definition: Definition, model: Model): RuleSet {
  if (definition.kind === "pods") {
    const addresses = new Set<Ip>();
    for (const own of definition.selection.members.values())
      for (const address of own) addresses.add(address);
    return { kind: "pods", key, addresses };
  }
  const endpoints = new Map<string, Endpoint>();
  for (const { selection, term } of definition.terms) {
    for (const [member, addresses] of selection.members) {
      for (const { name, protocol, port } of model.pods.get(member)?.ports ?? []) {
        if (name !== term.name || protocol !== term.protocol) continue;
        for (const ip of addresses) {
          if (term.within && !rangesContain(term.within, familyOf(ip), ipNumber(ip))) continue;
          const endpoint = { ip, protocol, port };
          endpoints.set(endpointKey(endpoint), endpoint);
        }
      }
    }
  }
  return { kind: "endpoints", key, endpoints };
}

const plain = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
