// From the rules of policies to one chain: ports become ranges that do not overlap, each with all peers that may use it.
import { type IpRange, ipFromNumber } from "../address/ip.ts";
import { merged, without } from "./blocks.ts";
import type { Direction, NamedPort, PolicyRule, Protocol } from "./objects.ts";
import { type Chain, digest, type Peers, type PortRange } from "./ruleset.ts";
import { ALL_PODS, type Selecting, selectionKey } from "./selection.ts";

/** Where the sets that a chain looks up come from. */
export interface SetBuilder {
  /** A set of the addresses of all pods that are selected by one of these. Returns its key. */
  pods(selecting: readonly Selecting[]): string;
  blocks(ranges: readonly IpRange[]): string;
  /** A set of the ports of that name, of pods that are selected. */
  endpoints(named: readonly NamedTerm[]): string;
}

/** A port by its name, at one of the destinations. */
export interface NamedTerm {
  readonly selecting: readonly Selecting[];
  /** Of the pods that are selected, those with an address in these. */
  readonly within?: readonly IpRange[];
  readonly protocol: Protocol;
  readonly name: string;
}

/** A rule of a policy of a namespace. */
export interface ScopedRule {
  readonly namespace: string;
  readonly rule: PolicyRule;
}

/** Who a rule is about. */
interface Group {
  readonly everybody: boolean;
  readonly selecting: readonly Selecting[];
  readonly ranges: readonly IpRange[];
}

/**
 * What a chain may cost: ranges that overlap are split, and each part has a set of all who may use it, which can make of a
 * policy of a megabyte more than a host has room for. A set of pods counts for those that it may come to have.
 */
export const MAX_COST = 500_000;
const SELECTION_COST = 50;

/** Spends up to a bound; nothing more once something did not fit. */
class Budget {
  #left = MAX_COST;

  get exhausted(): boolean {
    return this.#left < 0;
  }

  spend(cost: number): boolean {
    if (!this.exhausted) this.#left -= cost;
    return !this.exhausted;
  }
}

/**
 * The chain of these rules for a pod. `ports` are the pod's own: what rules of ingress mean by names.
 */
export function buildChain(
  direction: Direction,
  rules: readonly ScopedRule[],
  ports: readonly NamedPort[],
  sets: SetBuilder,
): Chain {
  const any: Group[] = [];
  const spans: Span[] = [];
  const named: NamedTerm[] = [];
  const budget = new Budget();
  for (const scoped of rules) {
    const group = groupOf(scoped);
    for (const port of scoped.rule.ports ?? []) {
      const { protocol } = port;
      if ("first" in port.ports) spans.push({ protocol, ...port.ports, group });
      else if (direction === "ingress") {
        const { name } = port.ports;
        for (const own of ports) {
          if (own.name === name && own.protocol === protocol)
            spans.push({ protocol, first: own.port, last: own.port, group });
        }
      } else if (budget.spend(costOf([group]))) {
        const selecting = group.everybody ? [ALL_PODS] : group.selecting;
        const { name } = port.ports;
        if (selecting.length > 0) named.push({ selecting, protocol, name });
        // Pods have names for ports wherever a rule finds them.
        if (group.ranges.length > 0)
          named.push({ selecting: [ALL_PODS], within: merged(group.ranges), protocol, name });
      }
    }
    if (!scoped.rule.ports) any.push(group);
  }
  const chain = {
    direction,
    any: any.length > 0 ? peers(any, sets) : undefined,
    ports: splitPortRanges(spans, sets, budget),
    named: named.length > 0 ? sets.endpoints(named) : undefined,
    ...(budget.exhausted && { incomplete: true as const }),
  };
  return { key: digest(JSON.stringify(chain)), ...chain };
}

function costOf(groups: readonly Group[]): number {
  const selectors = groups.reduce((sum, { selecting }) => sum + selecting.length, 0);
  const ranges = groups.reduce((sum, group) => sum + group.ranges.length, 0);
  return 1 + ranges + selectors + (selectors > 0 ? SELECTION_COST : 0);
}

function groupOf({ namespace, rule }: ScopedRule): Group {
  if (!rule.peers) return { everybody: true, selecting: [], ranges: [] };
  const selecting: Selecting[] = [];
  const ranges: IpRange[] = [];
  for (const peer of rule.peers) {
    if ("block" in peer) ranges.push(...without(peer.block, peer.except));
    else selecting.push({ pods: peer.pods, namespaces: peer.namespaces ?? { name: namespace } });
  }
  return { everybody: false, selecting, ranges };
}

function peers(groups: readonly Group[], sets: SetBuilder): Peers {
  if (groups.some(({ everybody }) => everybody)) {
    return { key: "everybody", everybody: true, pods: undefined, blocks: undefined };
  }
  const selecting = new Map(
    groups.flatMap((group) => group.selecting).map((each) => [selectionKey(each), each]),
  );
  const ranges = merged(groups.flatMap((group) => group.ranges));
  const pods = selecting.size > 0 ? sets.pods([...selecting.values()]) : undefined;
  const blocks = ranges.length > 0 ? sets.blocks(ranges) : undefined;
  return { key: digest(`${pods} ${blocks}`), everybody: false, pods, blocks };
}

interface Span {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
  readonly group: Group;
}

/** Ranges without overlap, each with the groups of all spans over it; those that the budget does not allow are nobody's. */
function splitPortRanges(spans: readonly Span[], sets: SetBuilder, budget: Budget): PortRange[] {
  const ranges: PortRange[] = [];
  const numbers = new Map([...new Set(spans.map(({ group }) => group))].map((group, i) => [group, i]));
  const known = new Map<string, Peers>();
  const peersOf = (groups: readonly Group[]): Peers | undefined => {
    const id = groups.map((group) => numbers.get(group)).join();
    const before = known.get(id);
    if (before || !budget.spend(costOf(groups))) return before;
    const made = peers(groups, sets);
    known.set(id, made);
    return made;
  };
  for (const protocol of new Set(spans.map((span) => span.protocol))) {
    const edges = spans.flatMap(({ protocol: own, first, last, group }) =>
      own === protocol
        ? [
            { at: first, group, spans: 1 },
            { at: last + 1, group, spans: -1 },
          ]
        : [],
    );
    edges.sort((a, b) => a.at - b.at);
    /** How many spans of each group there are. */
    const over = new Map<Group, number>();
    let from = 0;
    const close = (to: number) => {
      if (over.size === 0 || to < from || !budget.spend(over.size)) return;
      const order = (group: Group) => numbers.get(group) ?? 0;
      const who = peersOf([...over.keys()].sort((a, b) => order(a) - order(b)));
      if (!who) return;
      const before = ranges.at(-1);
      if (before?.protocol === protocol && before.last + 1 === from && before.peers.key === who.key) {
        ranges[ranges.length - 1] = { ...before, last: to };
      } else ranges.push({ protocol, first: from, last: to, peers: who });
    };
    for (const { at, group, spans: more } of edges) {
      if (at > from) close(at - 1);
      from = at;
      const count = (over.get(group) ?? 0) + more;
      if (count > 0) over.set(group, count);
      else over.delete(group);
    }
  }
  return ranges;
}

/** Blocks as text, the same for the same addresses. */
export function rangesText(ranges: readonly IpRange[]): string {
  return ranges
    .map(({ family, first, last }) => `${ipFromNumber(family, first)}-${ipFromNumber(family, last)}`)
    .join();
}
