// Frames that a bridge passes from port to port never come by the filter of IP packets, unless br_netfilter hands them
// over: between the pods of a host, and from and to other hosts, network policy and kube-proxy depend on it.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { reasonOf } from "../sys/reason.ts";
import { loadModule } from "./modules.ts";

const MODULE = "br_netfilter";
const SWITCHES = ["iptables", "ip6tables"].map((name) => `/proc/sys/net/bridge/bridge-nf-call-${name}`);
const isThere = () => SWITCHES.every((path) => existsSync(path));

/**
 * Turns it on, in the network namespace of this thread, loading the kernel's module where that is needed and possible;
 * returns a warning where the kernel does not have it.
 */
export function filterBridged(): string | undefined {
  let why = "";
  try {
    if (!isThere()) loadModule(MODULE);
  } catch (error) {
    why = ` (${reasonOf(error)})`;
  }
  if (!isThere()) {
    return `the kernel has no ${MODULE}, so policies are not enforced between pods: 'modprobe ${MODULE}' loads it${why}`;
  }
  try {
    for (const path of SWITCHES) if (readFileSync(path, "utf8").trim() !== "1") writeFileSync(path, "1");
    return undefined;
  } catch (error) {
    return `bridged packets are not filtered, so policies are not enforced between pods: ${reasonOf(error)}`;
  }
}
