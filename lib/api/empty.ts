// Texts for empty parts of the status.
import { allocationStatus } from "./health.ts";
import type { Report } from "./report.ts";

/** `part` is one of `weave status`. */
export function emptyText(part: string, { DNS, IPAM }: Report): string {
  switch (part) {
    case "targets":
      return "no targets: this host was told of no peer; 'weave connect HOST' names one";
    case "connections":
      return "no connections: 'weave connect HOST' connects to a peer";
    case "dns":
      return `no names: containers with a host name in ${DNS?.Domain} get one`;
    case "ipam":
      return IPAM
        ? `the address range is not divided among peers yet: ${allocationStatus(IPAM)}`
        : "no addresses are allocated: the router was launched with an empty --ipalloc-range";
    default:
      return `no ${part}`;
  }
}
