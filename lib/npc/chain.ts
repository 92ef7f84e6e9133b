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
  readonly selecting: Selecting;
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
      } else {
        const selecting = group.everybody ? [ALL_PODS] : group.selecting;
        const { name } = port.ports;
        named.push(...selecting.map((each) => ({ selecting: each, protocol, name })));
        // Pods have names for ports wherever a rule finds them.
        if (group.ranges.length > 0)
          named.push({ selecting: ALL_PODS, within: merged(group.ranges), protocol, name });
      }
    }
    if (!scoped.rule.ports) any.push(group);
  }
  const chain = {
    direction,
    any: any.length > 0 ? peers(any, sets) : undefined,
    ports: splitPortRanges(spans, sets),
    named: named.length > 0 ? sets.endpoints(named) : undefined,
  };
  return { key: digest(JSON.stringify(chain)), ...chain };
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

/** Ranges without overlap, each with the groups of all spans over it. */
function splitPortRanges(spans: readonly Span[], sets: SetBuilder): PortRange[] {
  const ranges: PortRange[] = [];
  const known = new Map<string, Peers>();
  for (const protocol of new Set(spans.map((span) => span.protocol))) {
    const edges = spans.flatMap((span, i) =>
      span.protocol === protocol
        ? [
            { at: span.first, i, begins: true },
            { at: span.last + 1, i, begins: false },
          ]
        : [],
    );
    edges.sort((a, b) => a.at - b.at);
    const over = new Set<number>();
    let from = 0;
    const close = (to: number) => {
      if (over.size === 0 || to < from) return;
      const groups = [...over].sort((a, b) => a - b);
      const id = groups.join();
      const who =
        known.get(id) ??
        peers(
          groups.flatMap((i) => spans[i]?.group ?? []),
          sets,
        );
      known.set(id, who);
      const before = ranges.at(-1);
      if (before?.protocol === protocol && before.last + 1 === from && before.peers.key === who.key) {
        ranges[ranges.length - 1] = { ...before, last: to };
      } else ranges.push({ protocol, first: from, last: to, peers: who });
    };
    for (const { at, i, begins } of edges) {
      if (at > from) close(at - 1);
      from = at;
      if (begins) over.add(i);
      else over.delete(i);
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
