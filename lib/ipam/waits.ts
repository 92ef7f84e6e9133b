// What requests for addresses wait for, for their senders, the log and the status.
import { cidrRange, formatCidr, formatIPv4, rangeContains } from "../address/ipv4.ts";
import { findObstacle, undividedReason } from "./obstacle.ts";
import type { AllocatorParts } from "./parts.ts";
import type { Waiting } from "./pending.ts";

/** Return what a request waits for. */
export function waitReason(parts: AllocatorParts, { kind, cidr, subnet }: Waiting): string {
  const { config, replicator } = parts;
  const { ring } = replicator;
  const outside = cidr !== undefined && !rangeContains(cidrRange(config.universe), cidr.address);
  if (ring.empty && !outside) return undividedReason(parts);
  if (kind === "claim" && cidr) {
    const owner = outside ? undefined : ring.owner(cidr.address);
    if (owner === undefined || owner === config.ourName)
      return `checking whether a container still uses ${formatIPv4(cidr.address)}`;
    const peer = replicator.nicknames.annotate(owner);
    return config.isKnownPeer(owner)
      ? `asking ${peer} for ${formatIPv4(cidr.address)}, which it owns`
      : `${formatIPv4(cidr.address)} belongs to ${peer}, which cannot be reached`;
  }
  const wanted = subnet ?? config.universe;
  return (
    findObstacle(parts, wanted)?.reason ?? `asking other peers for free addresses of ${formatCidr(wanted)}`
  );
}
