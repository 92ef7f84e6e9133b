// Why no address of a subnet can be allocated now, and what to do about it.
import {
  type AddressRange,
  type Cidr,
  cidrRange,
  formatCidr,
  hostRange,
  rangeSize,
  rangesOverlap,
} from "../address/ipv4.ts";
import type { Trouble } from "../sys/trouble.ts";
import type { RefusedPeers } from "./config.ts";
import type { AllocatorParts } from "./parts.ts";

export const OBSTACLE_CAUSES = [
  "leaving",
  "out of range",
  "undivided",
  "refused",
  "unreachable",
  "exhausted",
] as const;
export type ObstacleCause = (typeof OBSTACLE_CAUSES)[number];

export type AddressObstacle = Trouble<ObstacleCause>;

const REMEDIES: Record<ObstacleCause, string> = {
  leaving: "'weave stop' and then 'weave launch' join the network again",
  "out of range": "ask for a subnet within --ipalloc-range: 'weave status ipam' shows it",
  undivided: "launch and connect the other peers, or 'weave forget' those that are gone",
  refused: "'weave status connections' says why",
  unreachable: "reconnect them, or 'weave rmpeer NAME' takes over from those that are gone for good",
  exhausted:
    "remove containers that are not needed ('weave ps'); a larger --ipalloc-range needs 'weave reset' on all hosts",
};

/** Return the obstacle of a cause, with its remedy. */
export const addressObstacle = (cause: ObstacleCause, reason: string): AddressObstacle => ({
  cause,
  reason,
  remedy: REMEDIES[cause],
});

type Parts = Pick<AllocatorParts, "config" | "replicator" | "gateways" | "space">;

/** Return why no address of a subnet can be allocated; undefined where one can, or a peer may have one. */
export function findObstacle(parts: Parts, subnet: Cidr): AddressObstacle | undefined {
  const { config, replicator, space } = parts;
  const outside = outOfRange(parts, subnet);
  if (outside !== undefined) return addressObstacle("out of range", outside);
  replicator.establish();
  if (replicator.ring.empty) return undividedObstacle(parts);
  const hosts = hostRange(subnet);
  if (space.canAllocate(hosts, notAllocatable(parts))) return undefined;
  const donors = replicator.ring.donors(hosts.start, hosts.end, () => 1);
  if (donors.some(config.isKnownPeer)) return undefined;
  const exhausted = exhaustedReason(parts, subnet);
  if (donors.length === 0) return addressObstacle("exhausted", exhausted);
  const names = donors.map(replicator.nicknames.annotate).join(", ");
  return addressObstacle("unreachable", `${exhausted}; peers that have some cannot be reached: ${names}`);
}

/** Return why a subnet has no address to allocate at all; undefined where it lies in the range. */
export function outOfRange(
  { config: { universe } }: Pick<Parts, "config">,
  subnet: Cidr,
): string | undefined {
  if (rangesOverlap(cidrRange(universe), cidrRange(subnet))) return undefined;
  return `range ${formatCidr(subnet)} out of bounds: ${formatCidr(universe)}`;
}

/** Return why there is no ring: "refused" if only refused peers could agree on one. */
function undividedObstacle(parts: Pick<Parts, "config" | "replicator">): AddressObstacle {
  const { config, replicator } = parts;
  const reason = undividedReason(parts);
  const { peers, others } = config.refused?.() ?? NOBODY_REFUSED;
  const { unheard } = replicator.bootstrap;
  const [first] = peers;
  if (!first || (others && !peers.some(({ name }) => unheard.includes(name))))
    return addressObstacle("undivided", reason);
  return { ...addressObstacle("refused", reason), remedy: first.remedy };
}

const NOBODY_REFUSED: RefusedPeers = { peers: [], others: false };

/** Return why there is no ring yet, how many of the required peers are known, and which are refused. */
export function undividedReason({ config, replicator }: Pick<Parts, "config" | "replicator">): string {
  const range = formatCidr(config.universe);
  const { unheard } = replicator.bootstrap;
  const { peers } = config.refused?.() ?? NOBODY_REFUSED;
  const refused = peers.map(({ name, reason }) => `; ${name} refused: ${reason}`).join("");
  if (config.observer) return `no peer has sent the ring for the range ${range} yet${refused}`;
  const known = config.reachablePeers().length + 1;
  const what = `the peers have not divided the range ${range} yet: ${known} of ${config.quorum()} peers known`;
  const silent = unheard.filter((name) => !peers.some((each) => each.name === name));
  if (silent.length === 0) return `${what}${refused}`;
  return `${what}, waiting for ${silent.join(", ")}, which may know the ring; 'weave forget' peers that are gone${refused}`;
}

/** Return whether no peer, reachable or not, has a free address in a range. */
export function isExhausted(
  { replicator }: Pick<Parts, "replicator">,
  { start, end }: AddressRange,
): boolean {
  const { ring, contested } = replicator;
  return !ring.empty && contested.length === 0 && ring.donors(start, end, () => 1).length === 0;
}

/** Return how many addresses of a subnet are in use. */
export function exhaustedReason(
  { config, gateways }: Pick<Parts, "config" | "gateways">,
  subnet: Cidr,
): string {
  const [{ start, end }, universe] = [hostRange(subnet), cidrRange(config.universe)];
  const within = { start: Math.max(start, universe.start), end: Math.min(end, universe.end) };
  const total = rangeSize(within);
  const reserved = gateways.ranges.filter((range) => rangesOverlap(range, within)).length;
  const also = reserved > 0 ? `, ${reserved} reserved for gateways` : "";
  return `no free address in ${formatCidr(subnet)} (${total - reserved} of ${total} in use${also})`;
}

/** Return the ranges of ours that must not be allocated from now. */
export function notAllocatable({
  replicator,
  gateways,
}: Pick<Parts, "replicator" | "gateways">): readonly AddressRange[] {
  return [...replicator.contested, ...gateways.ranges];
}
