// From one set of rules to the next: what the kernel has to be told, and no more. Both are compared by identity where
// they can be (see compiler.ts), so that it costs what has changed.
import { familyOf, type Ip } from "../address/ip.ts";
import { addChain, deleteChain, type Chain as NftChain } from "../netlink/nftables/chain.ts";
import { addElements, deleteElements, type Element, type FilledSet } from "../netlink/nftables/element.ts";
import { addRule, flushChain } from "../netlink/nftables/rule.ts";
import { addSet, deleteSet, type SetDefinition } from "../netlink/nftables/set.ts";
import { renewTable } from "../netlink/nftables/table.ts";
import type { Request } from "../netlink/socket.ts";
import { BASE, baseChains, baseRules, type Settings } from "./basechain.ts";
import { DIRECTIONS } from "./objects.ts";
import { type Chain, NO_RULES, type RuleSet, type Ruleset } from "./ruleset.ts";
import {
  addressElements,
  baseSets,
  blockedChains,
  chainName,
  contentDefinition,
  contentElements,
  FAMILIES,
  isolatedAddresses,
  isolatedElement,
  isolatedMap,
  isolatedSet,
  ofThatFamily,
  peersChains,
  podChain,
  portsMaps,
  selfElement,
  selfSet,
  TABLE,
} from "./tables.ts";

/** The messages that put the whole table in place of what is there under its name. */
export function wholeTable(rules: Ruleset, settings: Settings): Request[] {
  const empty = baseSets().map((definition) => addSet(TABLE, definition));
  // Those that others jump to first.
  const chains = [...blockedChains(), ...baseChains(settings)];
  return [
    ...renewTable(TABLE),
    ...empty,
    ...chains.map((chain) => addChain(TABLE, chain)),
    ...chains.flatMap(rulesOf),
    ...changes(NO_RULES, rules),
  ];
}

/** The messages that make `next` out of `before`; none where they are the same. */
export function changes(before: Ruleset, next: Ruleset): Request[] {
  const first = setChanges(before, next);
  const last: Request[] = [];
  const hadPeers = peersOf(before.chains, next.chains);
  const hasPeers = peersOf(next.chains, before.chains);
  for (const chain of hasPeers.values()) first.push(addChain(TABLE, chain), ...rulesOf(chain));
  for (const [key, chain] of next.chains) {
    if (before.chains.has(key)) continue;
    const pods = podChain(chain);
    first.push(...portsMaps(chain).flatMap(newSet), addChain(TABLE, pods), ...rulesOf(pods));
  }
  for (const [key, chain] of before.chains) {
    if (next.chains.has(key)) continue;
    const maps = portsMaps(chain).map(({ definition }) => deleteSet(TABLE, definition.name));
    last.push(...deleteChain(TABLE, chainName(key)), ...maps);
  }
  for (const { name } of hadPeers.values()) last.push(...deleteChain(TABLE, name));
  for (const set of before.sets.values())
    if (isBlocks(set) && !next.sets.has(set.key))
      for (const family of FAMILIES) last.push(deleteSet(TABLE, contentDefinition(set, family).name));
  return [...first, ...podChanges(before, next), ...last];
}

/** The messages that make this generation the present one (see generation.ts). */
export function generationChanges(generation: number): Request[] {
  return [flushChain(TABLE, BASE), ...rulesOf({ name: BASE, rules: baseRules(generation) })];
}

/** Whether `next` may block a connection that `before` lets through. */
export function restricts(before: Ruleset, next: Ruleset): boolean {
  for (const [key, set] of before.sets) {
    const now = next.sets.get(key);
    if (now && now !== set && !isEmpty(missing(set, now))) return true;
  }
  // Chains of one name are the same, but for the sets that they look up.
  return DIRECTIONS.some((direction) =>
    next.isolated[direction]
      .entries()
      .some(([address, chain]) => before.isolated[direction].get(address) !== chain),
  );
}

function isEmpty(set: RuleSet): boolean {
  if (set.kind === "pods") return set.addresses.size === 0;
  return set.kind === "endpoints" ? set.endpoints.size === 0 : set.ranges.length === 0;
}

/** The chains for ports that only the first of the two has. */
function peersOf(
  chains: ReadonlyMap<string, Chain>,
  others: ReadonlyMap<string, Chain>,
): ReadonlyMap<string, NftChain> {
  const found = new Map<string, NftChain>();
  const own = [...chains].filter(([key]) => !others.has(key));
  for (const [, chain] of own) for (const peers of peersChains(chain)) found.set(peers.name, peers);
  // A range of ports of another chain may lead to the same.
  if (found.size > 0)
    for (const chain of others.values()) for (const { name } of peersChains(chain)) found.delete(name);
  return found;
}

function rulesOf({ name, rules }: NftChain): Request[] {
  return rules.map((rule) => addRule(TABLE, name, rule));
}

function newSet({ definition, elements }: FilledSet): Request[] {
  return [addSet(TABLE, definition), ...addElements(TABLE, definition, elements)];
}

/** Return the messages that add new sets of blocks, which never change, and update the elements of the others. */
function setChanges(before: Ruleset, next: Ruleset): Request[] {
  const [gone, come] = [onlyIn(before, next), onlyIn(next, before)];
  return [
    ...contentOf(come.filter(isBlocks)).flatMap(newSet),
    ...contentOf(gone.filter(isShared)).flatMap(({ definition, elements }) =>
      deleteElements(TABLE, definition, elements),
    ),
    ...contentOf(come.filter(isShared)).flatMap(({ definition, elements }) =>
      addElements(TABLE, definition, elements),
    ),
  ];
}

const isBlocks = ({ kind }: RuleSet) => kind === "blocks";
const isShared = (set: RuleSet) => !isBlocks(set);

/** Return sets with the elements that only `rules` has. */
function onlyIn(rules: Ruleset, other: Ruleset): RuleSet[] {
  return [...rules.sets.values()].flatMap((set) => {
    const there = other.sets.get(set.key);
    if (!there) return [set];
    // Sets of blocks never change.
    return there === set || isBlocks(set) ? [] : [missing(set, there)];
  });
}

/** Return the content of these sets by set of the kernel. */
function contentOf(sets: readonly RuleSet[]): FilledSet[] {
  const content = new Map<string, { definition: SetDefinition; elements: Element[] }>();
  for (const set of sets) {
    for (const family of FAMILIES) {
      const definition = contentDefinition(set, family);
      const filled = content.get(definition.name) ?? { definition, elements: [] };
      for (const element of contentElements(set, family)) filled.elements.push(element);
      content.set(definition.name, filled);
    }
  }
  return [...content.values()];
}

/** What of a set is not in the other. */
function missing(set: RuleSet, other: RuleSet): RuleSet {
  if (set.kind === "pods" && other.kind === "pods") {
    return { ...set, addresses: set.addresses.difference(other.addresses) };
  }
  if (set.kind === "endpoints" && other.kind === "endpoints") {
    return { ...set, endpoints: new Map([...set.endpoints].filter(([key]) => !other.endpoints.has(key))) };
  }
  return { kind: "blocks", key: set.key, ranges: [] };
}

/** Pods that come, go, or are isolated by another chain. */
function podChanges(before: Ruleset, next: Ruleset): Request[] {
  const requests: Request[] = [];
  const [wereIsolated, areIsolated] = [isolatedAddresses(before), isolatedAddresses(next)];
  for (const family of FAMILIES) {
    const isolated = isolatedSet(family);
    const only = (from: Ruleset, other: Ruleset) =>
      ofThatFamily(from.local.keys(), family).filter((address) => !other.local.has(address));
    requests.push(
      ...deleteElements(TABLE, selfSet(family), only(before, next).map(selfElement)),
      ...addElements(TABLE, selfSet(family), only(next, before).map(selfElement)),
      ...deleteElements(TABLE, isolated, addressElements(wereIsolated.difference(areIsolated), family)),
      ...addElements(TABLE, isolated, addressElements(areIsolated.difference(wereIsolated), family)),
    );
    for (const direction of DIRECTIONS) {
      const map = isolatedMap(direction, family);
      const [old, now] = [before.isolated[direction], next.isolated[direction]];
      const differing = (from: ReadonlyMap<Ip, string>, other: ReadonlyMap<Ip, string>) =>
        [...from]
          .filter(([address, chain]) => familyOf(address) === family && other.get(address) !== chain)
          .map(([address, chain]) => isolatedElement(address, chain));
      requests.push(
        ...deleteElements(TABLE, map, differing(old, now)),
        ...addElements(TABLE, map, differing(now, old)),
      );
    }
  }
  return requests;
}
