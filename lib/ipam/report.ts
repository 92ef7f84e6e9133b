// Addresses in the report, with the field names of the original (weave: ipam/status.go).
import { type Cidr, cidrSize, formatCidr, formatIPv4, rangeSize } from "../address/ipv4.ts";
import { type Clock, dateOf } from "../clock/clock.ts";
import { UNKNOWN_PEER } from "../mesh/name.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import type { Allocator } from "./allocator.ts";

export interface IpamReport {
  Paxos: { Elector: boolean; KnownNodes: number; Quorum: number } | null;
  Range: string;
  RangeNumIPs: number;
  ActiveIPs: number;
  DefaultSubnet: string;
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

/** Return the section of an allocator; `defaultSubnet`: where a request names none. */
export function ipamReport(allocator: Allocator, defaultSubnet: Cidr, clock: Clock): IpamReport {
  const { config, space, pending, sharing } = allocator;
  const { ring, division } = sharing;
  const { consensus } = division;
  const orNull = <T>(list: T[]) => (list.length > 0 ? list : null);
  const paxos = () => {
    if (!consensus) return { Elector: false, KnownNodes: 0, Quorum: 0 };
    return { Elector: true, KnownNodes: consensus.state.size, Quorum: consensus.quorum };
  };
  return {
    Paxos: sharing.division.awaited ? paxos() : null,
    ...(division.awaited && division.unheard.length > 0 && { WaitsFor: [...division.unheard] }),
    Range: formatCidr(config.universe),
    RangeNumIPs: cidrSize(config.universe),
    ActiveIPs: space.usedCount,
    DefaultSubnet: formatCidr(defaultSubnet),
    Entries: orNull(
      ring.ranges().map(({ entry, range }) => {
        const known = entry.peer !== UNKNOWN_PEER && config.isKnownPeer(entry.peer);
        const since = known ? undefined : sharing.unreachable.get(entry.peer);
        return {
          Token: formatIPv4(range.start),
          Size: rangeSize(range),
          Peer: entry.peer,
          Nickname: sharing.nicknames.get(entry.peer) ?? "",
          IsKnownPeer: known,
          ...(since !== undefined && { UnreachableSince: dateOf(clock, since).toISOString() }),
          Version: entry.version,
        };
      }),
    ),
    PendingClaims: orNull(pending.list("claim").map(({ id, text }) => ({ Ident: id, CIDR: text }))),
    PendingAllocates: orNull(pending.list("allocate").map(({ text }) => text)),
  };
}

const CONTRADICTION =
  "a peer took over from a live one, or lies: 'weave status ipam' on both; 'weave reset' on the one whose ring is to go";

/** Return the names of the peers that own a part of the range. */
export const rangeOwners = ({ sharing }: Allocator): ReadonlySet<string> =>
  new Set(sharing.ring.ranges().map(({ entry }) => entry.peer));

/** What is wrong with the ring and with addresses. */
export function ipamProblems({ sharing, homeless }: Allocator): ProblemReport[] {
  return [
    ...sharing.problems().map((Found) => ({ Check: "ring", Found, Advice: CONTRADICTION })),
    ...homeless.problems().map((Found) => ({ Check: "addresses", Found, Advice: "restart the container" })),
  ];
}
