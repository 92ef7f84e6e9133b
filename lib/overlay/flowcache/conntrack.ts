// Settings of conntrack that the flow cache needs. A map of the programs records which of them were off before: any process that
// removes the programs restores the settings.
import type { BpfMap } from "../../bpf/map.ts";
import { atOnce } from "../../clock/slices.ts";
import { type SysctlChange, Sysctls } from "../../host/reconcile/sysctls.ts";
import { sysctlGet, sysctlSet } from "../../host/sysctl.ts";
import { loosenTcpConnections } from "../../netlink/conntrack.ts";
import { NetlinkError } from "../../netlink/message.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../netlink/socket.ts";
import { CONTROL } from "./maps.ts";

/**
 * conntrack sees few packets of a cached TCP connection. Without these settings it marks packets outside its last known window, and
 * the RST, as invalid. They are set even while conntrack sees no bridged packets: once something else changes that, cached connections
 * would stall until the router notices.
 */
const NAMES = [
  "net/netfilter/nf_conntrack_tcp_be_liberal",
  "net/netfilter/nf_conntrack_tcp_ignore_invalid_rst",
];
const [OFF, ON] = ["0", "1"];

type Control = BpfMap<number, number>;

/** The settings as desired state. */
export class LooseConntrack extends Sysctls {
  constructor(private readonly control: Control) {
    const wanted = NAMES.map((name) => ({ name, value: ON }));
    super("conntrack of cached flows", ["settings"], () => wanted);
  }

  override apply(changes: readonly SysctlChange[]): void {
    const bits = changes.reduce((sum, { sysctl }) => sum | (1 << NAMES.indexOf(sysctl.name)), 0);
    this.control.set(CONTROL.loosened, (this.control.get(CONTROL.loosened) ?? 0) | bits);
    super.apply(changes);
  }
}

/** Restore the settings for new connections. Existing ones stay liberal: conntrack has missed packets of those that were cached. */
export function restoreConntrack(control: Control): void {
  const bits = control.get(CONTROL.loosened) ?? 0;
  if (bits === 0) return;
  try {
    using nf = new NetlinkSocket(NETLINK_NETFILTER);
    atOnce(loosenTcpConnections(nf));
  } catch (error) {
    // Without ctnetlink (CONFIG_NF_CT_NETLINK), rules that drop invalid packets break these connections. Restore the settings anyway.
    if (!(error instanceof NetlinkError)) throw error;
  }
  for (const [i, name] of NAMES.entries())
    if ((bits & (1 << i)) !== 0 && sysctlGet(name) === ON) sysctlSet(name, OFF);
  control.set(CONTROL.loosened, 0);
}
