// Addresses in the report, with the field names of the original (weave: ipam/status.go).
import { type Cidr, cidrSize, formatCidr, formatIPv4, rangeSize } from "../address/ipv4.ts";
import { type Clock, dateOf } from "../clock/clock.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import type { AllocatorParts } from "./parts.ts";

export interface IpamReport {
  Paxos: { Elector: boolean; KnownNodes: number; Quorum: number } | null;
  Range: string;
  RangeNumIPs: number;
  ActiveIPs: number;
  DefaultSubnet: string;
  /** In words, as `weave status` shows it. */
  Status?: string;
  Entries:
    | {
        Token: string;
        Size: number;
        Peer: string;
        Nickname: string;
        IsKnownPeer: boolean;
        /** When it went, where that is known. */
        UnreachableSince?: string;
        Version: number;
      }[]
    | null;
  /** Named peers that have to be heard before the range is divided. */
  WaitsFor?: string[];
  PendingClaims: { Ident: string; CIDR: string }[] | null;
  PendingAllocates: string[] | null;
}

/** Return the state of address allocation, in words. */
export function ipamStatus(
  report: Pick<IpamReport, "PendingAllocates" | "Paxos" | "WaitsFor"> & {
    Entries: readonly { Size: number; IsKnownPeer: boolean }[] | null;
  },
): string {
  const { Entries, PendingAllocates, Paxos, WaitsFor } = report;
  if (Entries) {
    if (!Entries.some((entry) => entry.Size > 0 && entry.IsKnownPeer)) {
      return "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead";
    }
    return PendingAllocates ? "waiting for IP(s) to become available" : "ready";
  }
  if (!Paxos) return "idle";
  if (!Paxos.Elector) return "priming";
  if (WaitsFor) {
    return `waiting for ${WaitsFor.join(", ")}, which may know the ring - use 'forget' for peers that are gone`;
  }
  return `awaiting consensus (quorum: ${Paxos.Quorum}, known: ${Paxos.KnownNodes})`;
}

/** What is wrong: between our ring and those of others, and with addresses in use here. */
export interface IpamProblems {
  readonly ring: readonly string[];
  readonly addresses: readonly string[];
}

/** Return the section of an allocator; `defaultSubnet` is that of requests that name none. */
export function ipamReport(
  { config, replicator, space, pending }: Omit<AllocatorParts, "holders" | "gateways" | "releaser">,
  defaultSubnet: Cidr,
  clock: Clock,
): IpamReport {
  const { bootstrap, nicknames, ring, unreachable } = replicator;
  const { elector, known, quorum } = bootstrap.progress;
  const orNull = <T>(list: T[]) => (list.length > 0 ? list : null);
  const isKnown = (peer: PeerName) => peer !== UNKNOWN_PEER && config.isKnownPeer(peer);
  const state = {
    Paxos: bootstrap.awaited ? { Elector: elector, KnownNodes: known, Quorum: quorum } : null,
    ...(bootstrap.awaited && bootstrap.unheard.length > 0 && { WaitsFor: [...bootstrap.unheard] }),
    PendingAllocates: orNull(pending.list("allocate").map(({ text }) => text)),
  };
  // One range of a known peer is enough for the status, and peers can make the ring long.
  const reachable = [{ Size: 1, IsKnownPeer: ring.peerNames().values().some(isKnown) }];
  let entries: IpamReport["Entries"] | undefined;
  return {
    ...state,
    Status: ipamStatus({ ...state, Entries: ring.empty ? null : reachable }),
    Range: formatCidr(config.universe),
    RangeNumIPs: cidrSize(config.universe),
    ActiveIPs: space.usedCount,
    DefaultSubnet: formatCidr(defaultSubnet),
    get Entries() {
      entries ??= orNull(
        ring.ranges().map(({ entry: { peer, version }, range }) => {
          const IsKnownPeer = isKnown(peer);
          const since = IsKnownPeer ? undefined : unreachable.get(peer);
          return {
            Token: formatIPv4(range.start),
            Size: rangeSize(range),
            Peer: peer,
            Nickname: nicknames.get(peer) ?? "",
            IsKnownPeer,
            ...(since !== undefined && { UnreachableSince: dateOf(clock, since).toISOString() }),
            Version: version,
          };
        }),
      );
      return entries;
    },
    PendingClaims: orNull(pending.list("claim").map(({ id, text }) => ({ Ident: id, CIDR: text }))),
  };
}

const CONTRADICTION =
  "a peer took over from a live one, or its ring is corrupt: 'weave status ipam' on both; 'weave reset' on the one whose ring is to go";

/** Return the problems of an allocator, with what to do about them. */
export function ipamProblems({ ring, addresses }: IpamProblems): ProblemReport[] {
  return [
    ...ring.map((Found) => ({ Check: "ring", Found, Advice: CONTRADICTION })),
    ...addresses.map((Found) => ({ Check: "addresses", Found, Advice: "restart the container" })),
  ];
}
