// Whether all is well with a router, in a few words.
import type { IpamReport } from "../ipam/report.ts";
import type { Report } from "./report.ts";

/** Return the state of address allocation, in words. */
export function ipamStatus({ Entries, PendingAllocates, Paxos, WaitsFor }: IpamReport): string {
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

/** The verdict: "all is well", what is waited for, or how many problems there are. */
export function healthText({ Ready, Problems = [], IPAM, Router }: Report): string {
  if (Problems.length > 0) return Problems.length === 1 ? "1 problem" : `${Problems.length} problems`;
  if (!Ready) return "starting: not ready yet";
  const ring = IPAM ? ipamStatus(IPAM) : "idle";
  if (ring !== "ready" && ring !== "idle") return `no address can be given out: ${ring}`;
  const established = Router.Connections.filter(({ State }) => State === "established");
  // Sleeve by configuration is no problem.
  const slow = established.filter(({ Trouble }) => Trouble && Trouble.Cause !== "switched off").length;
  if (slow === 0) return "all is well";
  return `all is well, but ${slow} of ${established.length} connections by sleeve; 'weave status connections' says why`;
}
