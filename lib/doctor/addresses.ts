// Addresses, by a router's report: whether the range is divided, reachable, and has one left.
import * as v from "valibot";
import type { Trouble } from "../sys/trouble.ts";
import { type Finding, problem, warning } from "./finding.ts";

export const IpamSchema = v.object({
  Range: v.string(),
  RangeNumIPs: v.number(),
  Paxos: v.nullish(v.object({ Elector: v.boolean(), KnownNodes: v.number(), Quorum: v.number() })),
  Entries: v.nullish(
    v.array(v.object({ Size: v.number(), Peer: v.string(), Nickname: v.string(), IsKnownPeer: v.boolean() })),
  ),
  WaitsFor: v.optional(v.array(v.string())),
  PendingAllocates: v.nullish(v.array(v.string())),
});
type Ipam = v.InferOutput<typeof IpamSchema>;

const CHECK = "addresses";
/** Unreachable share of the range that is worth a warning. */
const UNREACHABLE = 0.05;

/** `obstacle`: why no address can be allocated now, from the router. */
export function addressFindings(ipam: Ipam, obstacle?: Trouble): Finding[] {
  const undivided = divisionFinding(ipam);
  if (undivided) return [undivided];
  const unreachable = unreachableFinding(ipam);
  return [
    ...(obstacle === undefined ? waiting(ipam) : [problem(CHECK, obstacle.reason, obstacle.remedy)]),
    ...(unreachable ? [unreachable] : []),
  ];
}

/** The range is not divided yet, and a request waits for it. */
function divisionFinding({ Entries, Paxos, Range, WaitsFor = [] }: Ipam): Finding | undefined {
  if (Entries || !Paxos) return undefined;
  if (WaitsFor.length > 0) {
    return problem(
      CHECK,
      `range ${Range} is not divided yet: no answer from ${WaitsFor.join(", ")}, which may know the ring`,
      "launch weave there, or 'weave forget' peers that are gone",
    );
  }
  if (!Paxos.Elector) {
    return problem(
      CHECK,
      `range ${Range} is not divided yet: this host has no vote in it`,
      "launch or connect the peers that have one",
    );
  }
  const { KnownNodes: known, Quorum: quorum } = Paxos;
  return problem(
    CHECK,
    `no quorum: ${known} of at least ${quorum} peers for the division of range ${Range} are known`,
    "launch and connect the others; on hosts that start a network of another size, --ipalloc-init consensus=COUNT",
  );
}

function unreachableFinding({ Entries, RangeNumIPs }: Ipam): Finding | undefined {
  const unreachable = (Entries ?? []).filter(({ IsKnownPeer }) => !IsKnownPeer);
  const share = unreachable.reduce((sum, { Size }) => sum + Size, 0) / RangeNumIPs;
  if (!(share > UNREACHABLE)) return undefined;
  const names = new Set(unreachable.map(({ Peer, Nickname }) => (Nickname ? `${Nickname} (${Peer})` : Peer)));
  return warning(
    CHECK,
    `${Math.round(share * 100)} % of the range belongs to peers that cannot be reached: ${[...names].join(", ")}`,
    "'weave rmpeer NAME' takes over from those that are gone for good",
  );
}

function waiting({ PendingAllocates }: Ipam): Finding[] {
  const count = (PendingAllocates ?? []).length;
  if (count === 0) return [];
  return [problem(CHECK, `${count} containers wait for addresses`, "see 'weave status ipam'")];
}
