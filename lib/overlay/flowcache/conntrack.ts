// Settings of conntrack that the flow cache needs. Which of them were off before is noted in the kernel, beside the programs that need
// them: whoever removes those puts the settings back, whichever process made them.
import type { BpfMap } from "../../bpf/map.ts";
import { atOnce } from "../../clock/slices.ts";
import { type SysctlChange, Sysctls } from "../../host/reconcile/sysctls.ts";
import { sysctlGet, sysctlSet } from "../../host/sysctl.ts";
import { loosenTcpConnections } from "../../netlink/conntrack.ts";
import { NetlinkError } from "../../netlink/message.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../netlink/socket.ts";
import { CONTROL } from "./maps.ts";

/**
 * conntrack sees few of the packets of a cached TCP connection: what is beyond the windows that it knows of would be invalid, and the
 * reset of such a connection. Others decide whether it sees bridged packets at all, and a connection that is then cached would stall
 * until the router has noticed: they are needed before.
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

/** Put back the settings that were off before, for connections from now on: of those that were cached conntrack has missed packets. */
export function restoreConntrack(control: Control): void {
  const bits = control.get(CONTROL.loosened) ?? 0;
  if (bits === 0) return;
  try {
    using nf = new NetlinkSocket(NETLINK_NETFILTER);
    atOnce(loosenTcpConnections(nf));
  } catch (error) {
    // Without ctnetlink (CONFIG_NF_CT_NETLINK) they end where something drops what is invalid; an admin's settings come back all the same.
    if (!(error instanceof NetlinkError)) throw error;
  }
  for (const [i, name] of NAMES.entries())
    if ((bits & (1 << i)) !== 0 && sysctlGet(name) === ON) sysctlSet(name, OFF);
  control.set(CONTROL.loosened, 0);
}
