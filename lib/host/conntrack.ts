// The kernel's table of tracked connections: when it is full, the first packet of each further connection is dropped, those
// between hosts (VXLAN) among them.
import type { ProblemReport } from "../sys/trouble.ts";
import { sysctlGet } from "./sysctl.ts";

const LIMIT = "net/netfilter/nf_conntrack_max";
/** The table of this namespace; the limit counts for each namespace. */
const COUNT = "net/netfilter/nf_conntrack_count";
/** The kernel evicts a few connections that saw no reply, so a full table has some room at times. */
const FULL = 0.99;

/** Return the problem of a full table; none where the kernel tracks no connections. */
export function conntrackProblems(read: (name: string) => string | undefined = sysctlGet): ProblemReport[] {
  const [count, limit] = [COUNT, LIMIT].map((name) => Number(read(name) ?? 0));
  if (!count || !limit || count < FULL * limit) return [];
  return [
    {
      Check: "conntrack",
      Found: `the conntrack table is full, with ${count} of ${limit} connections: the kernel drops new ones, between hosts too`,
      Advice: `'sysctl -w net.netfilter.nf_conntrack_max=${2 * limit}', and see in /proc/net/nf_conntrack or by 'conntrack -L' what fills it`,
    },
  ];
}
