// What requests for addresses wait for, in words: for whoever waits, the log and the status.
import { type Cidr, cidrRange, formatCidr, formatIPv4, rangeContains } from "../address/ipv4.ts";
import type { AllocatorConfig } from "./allocator.ts";
import type { AddressObstacle } from "./obstacle.ts";
import type { Waiting } from "./pending.ts";
import type { Sharing } from "./sharing.ts";

/** What is looked at. */
export interface WaitSources {
  readonly config: AllocatorConfig;
  readonly sharing: Sharing;
  /** Why an address of a subnet cannot be given now. */
  obstacle(subnet: Cidr): AddressObstacle | undefined;
}

/** Return why the range is not divided yet, and how many of how many peers are known. */
export function undivided({ config, sharing }: Pick<WaitSources, "config" | "sharing">): string {
  const range = formatCidr(config.universe);
  if (config.observer) return `no peer has told yet how the range ${range} is divided`;
  const { unheard } = sharing.division;
  const known = config.reachablePeers().length + 1;
  const what = `the peers have not divided the range ${range} yet: ${known} of ${config.quorum()} peers known`;
  if (unheard.length === 0) return what;
  return `${what}, waiting for ${unheard.join(", ")}, which may know the ring; 'weave forget' peers that are gone`;
}

/** Return what a request waits for. */
export function waitsFor(sources: WaitSources, { kind, cidr, subnet }: Waiting): string {
  const { config, sharing } = sources;
  const { ring } = sharing;
  const outside = cidr !== undefined && !rangeContains(cidrRange(config.universe), cidr.address);
  if (ring.empty && !outside) return undivided(sources);
  if (kind === "claim" && cidr) {
    const owner = outside ? undefined : ring.owner(cidr.address);
    if (owner === undefined || owner === config.ourName)
      return `checking whether a container still uses ${formatIPv4(cidr.address)}`;
    const peer = sharing.nicknames.annotate(owner);
    return config.isKnownPeer(owner)
      ? `asking ${peer} for ${formatIPv4(cidr.address)}, which it owns`
      : `${formatIPv4(cidr.address)} belongs to ${peer}, which cannot be reached`;
  }
  const wanted = subnet ?? config.universe;
  return sources.obstacle(wanted)?.reason ?? `asking other peers for free addresses of ${formatCidr(wanted)}`;
}
