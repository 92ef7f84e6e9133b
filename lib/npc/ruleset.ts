// What policies come to for one node: for each address of a pod of its that is isolated, a chain; and sets that chains
// look up. A packet costs a handful of look-ups, however many policies there are: address -> chain, port -> peers, peer.
// The kernel gets it as nftables (tables.ts); decide() is the same in memory.
import { familyOf, type Ip, type IpRange, ipNumber } from "../address/ip.ts";
import { rangesContain } from "./blocks.ts";
import { DIRECTIONS, type Direction, type Protocol } from "./objects.ts";

/** What is wrong with rules of which a chain has only a part (see chain.ts). */
export const TOO_LARGE = "policies combine too many overlapping port ranges and peers";

/** Somebody at the other end. Sets by their keys. */
export interface Peers {
  readonly key: string;
  readonly everybody: boolean;
  readonly pods: string | undefined;
  readonly blocks: string | undefined;
}

/** The ports first … last of a protocol, and who may use them. */
export interface PortRange {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
  readonly peers: Peers;
}

/** What is allowed to, or from, the pods that share it; everything else is not. */
export interface Chain {
  readonly key: string;
  readonly direction: Direction;
  /** Who may do anything. */
  readonly any: Peers | undefined;
  /** In order, without overlap. */
  readonly ports: readonly PortRange[];
  /** Destinations with a port by its name: a set of endpoints. */
  readonly named: string | undefined;
  /** Some of what its rules allow is denied, as it would take too much room (see chain.ts). */
  readonly incomplete?: true;
}

export interface Endpoint {
  readonly ip: Ip;
  readonly protocol: Protocol;
  readonly port: number;
}

export type RuleSet =
  | { readonly kind: "pods"; readonly key: string; readonly addresses: ReadonlySet<Ip> }
  | { readonly kind: "blocks"; readonly key: string; readonly ranges: readonly IpRange[] }
  | { readonly kind: "endpoints"; readonly key: string; readonly endpoints: ReadonlyMap<string, Endpoint> };

export interface Ruleset {
  /** The node's own addresses: traffic from and to them is always allowed. */
  readonly node: ReadonlySet<Ip>;
  /** Addresses of the node's pods, and whose they are (keys of pods). */
  readonly local: ReadonlyMap<Ip, string>;
  /** Addresses of those that are isolated, and the key of the chain that says what is allowed all the same. */
  readonly isolated: Readonly<Record<Direction, ReadonlyMap<Ip, string>>>;
  readonly chains: ReadonlyMap<string, Chain>;
  readonly sets: ReadonlyMap<string, RuleSet>;
}

/** Yield the pods whose chain is incomplete, by key, or by address if they have no key. */
export function* incompletePods({
  chains,
  isolated,
  local,
}: Ruleset): Generator<{ readonly pod: string; readonly direction: Direction }> {
  for (const direction of DIRECTIONS)
    for (const [address, key] of isolated[direction])
      if (chains.get(key)?.incomplete) yield { pod: local.get(address) ?? address, direction };
}

export const NO_RULES: Ruleset = {
  node: new Set(),
  local: new Map(),
  isolated: { ingress: new Map(), egress: new Map() },
  chains: new Map(),
  sets: new Map(),
};

/** A short name for something by what it says. */
export function digest(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 20);
}

export function endpointKey({ ip, protocol, port }: Endpoint): string {
  return `${ip} ${protocol} ${port}`;
}

/** The first packet of a connection, with its final destination. */
export interface Packet {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: Protocol;
  readonly port: number;
}

/** Whether the pods of this node let a packet pass in a direction; `allowed` where it is not about any that is isolated. */
export function allows(ruleset: Ruleset, direction: Direction, packet: Packet): boolean {
  const { source, destination } = packet;
  if (ruleset.node.has(source) || ruleset.node.has(destination) || source === destination) return true;
  const [pod, peer] = direction === "ingress" ? [destination, source] : [source, destination];
  const chain = ruleset.chains.get(ruleset.isolated[direction].get(pod) ?? "");
  return !chain || chainAllows(ruleset.sets, chain, peer, packet);
}

/** Whether a chain allows a packet whose other end is `peer`. */
export function chainAllows(
  sets: ReadonlyMap<string, RuleSet>,
  { any, ports, named }: Chain,
  peer: Ip,
  packet: Packet,
): boolean {
  if (any && isOneOf(sets, any, peer)) return true;
  const { protocol, port } = packet;
  const range = ports.find((each) => each.protocol === protocol && each.first <= port && port <= each.last);
  if (range && isOneOf(sets, range.peers, peer)) return true;
  const endpoints = sets.get(named ?? "");
  return (
    endpoints?.kind === "endpoints" && endpoints.endpoints.has(endpointKey({ ip: peer, protocol, port }))
  );
}

function isOneOf(sets: ReadonlyMap<string, RuleSet>, { everybody, pods, blocks }: Peers, peer: Ip): boolean {
  if (everybody) return true;
  const addresses = sets.get(pods ?? "");
  if (addresses?.kind === "pods" && addresses.addresses.has(peer)) return true;
  const ranges = sets.get(blocks ?? "");
  return ranges?.kind === "blocks" && rangesContain(ranges.ranges, familyOf(peer), ipNumber(peer));
}
