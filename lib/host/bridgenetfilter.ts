// br_netfilter: hands frames that a bridge forwards from port to port to the filter of IP packets. Network policy and
// kube-proxy depend on it, between the pods of a host and between hosts.
import { reasonOf } from "../sys/reason.ts";
import { loadModule, BR_NETFILTER as MODULE } from "./modules.ts";
import { type Change, keeper, type Resource } from "./reconcile/resource.ts";
import { type Sysctl, sysctlGet, sysctlSet } from "./sysctl.ts";

const SWITCHES = ["iptables", "ip6tables"].map((name) => `net/bridge/bridge-nf-call-${name}`);
const UNENFORCED = "policies are not enforced between pods";

interface Switch extends Change {
  readonly name: string;
}

/**
 * The sysctls of br_netfilter as desired state, in the network namespace of this thread; loads the module where it is missing.
 * The kernel does not notify of changes.
 */
export class BridgeNetfilter
  implements Resource<readonly Sysctl[], ReadonlyMap<string, string | undefined>, Switch>
{
  readonly name = "bridged packets";
  readonly sources = ["silent"] as const;

  constructor(
    /** Told why bridged packets are not filtered; undefined where they are. */
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

/** Turn a switch on; throws where the kernel lacks it, or /proc/sys is read-only. */
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

/** Enable br_netfilter once; return a warning where that is not possible. */
export function enableBridgeNetfilter(): string | undefined {
  try {
    keeper(new BridgeNetfilter()).reconcile(() => true);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}
