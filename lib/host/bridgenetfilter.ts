// br_netfilter: hands frames that a bridge forwards from port to port to the filter of IP packets. Network policy and
// kube-proxy depend on it, between the pods of a host and between hosts.
import { reasonOf } from "../sys/reason.ts";
import { loadModule, BR_NETFILTER as MODULE } from "./modules.ts";
import { type Change, keeper, type Resource, type Source } from "./reconcile/resource.ts";
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
  readonly sources: readonly Source[];
  readonly #needed: () => boolean;
  /** Told why bridged packets are not filtered; undefined where they are, or need not be. */
  readonly trouble: (reason: string | undefined) => void;

  /** `needed` is asked where the switches are off. */
  constructor({
    trouble = () => {},
    needed = () => true,
    source = "silent",
  }: {
    trouble?: (reason: string | undefined) => void;
    needed?: () => boolean;
    source?: Source;
  } = {}) {
    this.trouble = trouble;
    this.#needed = needed;
    this.sources = [source];
  }

  desired(): readonly Sysctl[] {
    return SWITCHES.map((name) => ({ name, value: "1" }));
  }

  observe(desired: readonly Sysctl[]): ReadonlyMap<string, string | undefined> {
    const found = new Map(desired.map(({ name }) => [name, sysctlGet(name)]));
    const isOn = desired.every(({ name, value }) => found.get(name) === value);
    return isOn || this.#needed() ? found : new Map(desired.map(({ name, value }) => [name, value]));
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
