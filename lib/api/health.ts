// Whether all is well with a router, in a few words.
import { type IpamReport, ipamStatus } from "../ipam/report.ts";
import { countsOf } from "../mesh/report/counts.ts";
import type { Report } from "./report.ts";

/** Return the state of address allocation, in words; that of a router which does not say it, from its ring. */
export const allocationStatus = (report: IpamReport): string => report.Status ?? ipamStatus(report);

/** The verdict: "all is well", what is waited for, or how many problems there are. */
export function healthText({ Ready, Problems = [], IPAM, Router }: Report): string {
  if (Problems.length > 0) return Problems.length === 1 ? "1 problem" : `${Problems.length} problems`;
  if (!Ready) return "starting: not ready yet";
  const ring = IPAM ? allocationStatus(IPAM) : "idle";
  if (ring !== "ready" && ring !== "idle") return `no address can be given out: ${ring}`;
  const { Slow = 0, Connections } = Router.Counts ?? countsOf(Router);
  if (Slow === 0) return "all is well";
  return `all is well, but ${Slow} of ${Connections["established"]} connections by sleeve; 'weave status connections' says why`;
}
