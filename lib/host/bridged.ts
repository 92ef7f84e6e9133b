// Frames that a bridge passes from port to port never come by the filter of IP packets, unless br_netfilter hands them
// over: between the pods of a host, and from and to other hosts, network policy and kube-proxy depend on it.
import { reasonOf } from "../sys/reason.ts";
import { loadModule } from "./modules.ts";
import { type Change, keeper, type Resource } from "./reconcile/resource.ts";
import { type Sysctl, sysctlGet, sysctlSet } from "./sysctl.ts";

const MODULE = "br_netfilter";
const SWITCHES = ["iptables", "ip6tables"].map((name) => `net/bridge/bridge-nf-call-${name}`);
const UNENFORCED = "policies are not enforced between pods";

interface Switch extends Change {
  readonly name: string;
}

/**
 * The switches of br_netfilter as desired state, in the network namespace of this thread; its module is loaded where that is
 * needed and possible. The kernel tells nobody when they are turned off.
 */
export class BridgedPackets
  implements Resource<readonly Sysctl[], ReadonlyMap<string, string | undefined>, Switch>
{
  readonly name = "bridged packets";
  readonly sources = ["silent"] as const;

  constructor(
    /** Told why they are not filtered; undefined where they are. */
    readonly trouble: (reason: string | undefined) => void = () => {},
  ) {}

  desired(): readonly Sysctl[] {
    return SWITCHES.map((name) => ({ name, value: "1" }));
  }

  observe(desired: readonly Sysctl[]): ReadonlyMap<string, string | undefined> {
    return new Map(desired.map(({ name }) => [name, sysctlGet(name)]));
  }

  difference(desired: readonly Sysctl[], found: ReadonlyMap<string, string | undefined>): Switch[] {
    return desired.flatMap(({ name, value }) => {
      const is = found.get(name);
      const wrong = is === undefined ? "missing" : `${is} instead of ${value}`;
      return is === value ? [] : [{ object: `sysctl ${name.replaceAll("/", ".")}`, wrong, name }];
    });
  }

  apply(switches: readonly Switch[]): void {
    for (const { name } of switches) turnOn(name);
  }
}

/** Throws where the kernel does not have it, or it must not be written. */
function turnOn(name: string): void {
  if (sysctlGet(name) === undefined) {
    const need = `the kernel has no ${MODULE}, so ${UNENFORCED}: 'modprobe ${MODULE}' loads it`;
    try {
      loadModule(MODULE);
    } catch (error) {
      throw new Error(`${need} (${reasonOf(error)})`, { cause: error });
    }
    if (sysctlGet(name) === undefined) throw new Error(need);
  }
  if (!sysctlSet(name, "1"))
    throw new Error(`bridged packets are not filtered, so ${UNENFORCED}: /proc/sys is read-only`);
}

/** Turns them on, once; returns a warning where that cannot be. */
export function enableBridgeNetfilter(): string | undefined {
  try {
    keeper(new BridgedPackets()).reconcile(() => true);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}
