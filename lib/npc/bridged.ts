// Frames that a bridge passes from port to port never come by the filter of IP packets, unless br_netfilter hands them
// over: between the pods of a host, and from and to other hosts, all depends on it.
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const SWITCHES = ["iptables", "ip6tables"].map((name) => `/proc/sys/net/bridge/bridge-nf-call-${name}`);

/** Turns it on, in the network namespace of this thread; returns a warning where the kernel does not have it. */
export function filterBridged(): string | undefined {
  if (!SWITCHES.every((path) => existsSync(path))) {
    return "the kernel has no br_netfilter, so policies are not enforced between pods: 'modprobe br_netfilter' loads it";
  }
  for (const path of SWITCHES) if (readFileSync(path, "utf8").trim() !== "1") writeFileSync(path, "1");
  return undefined;
}
