// Links of kind bridge (linux/if_link.h: IFLA_BR_*).
import type { Attributes } from "../attributes.ts";
import type { NetlinkSocket } from "../socket.ts";
import { setKind } from "./message.ts";

const IFLA_BR_AGEING_TIME = 4;
const IFLA_BR_STP_STATE = 5;
const IFLA_BR_VLAN_FILTERING = 7;
const IFLA_BR_MCAST_SNOOPING = 23;
const IFLA_BR_NF_CALL_IPTABLES = 36;

/** Settings of a bridge. */
export interface BridgeMode {
  /** Lifetime of learned Ethernet addresses, in 1/100 s. */
  readonly ageingTime: number;
  readonly stp: boolean;
  readonly vlanFiltering: boolean;
  readonly multicastSnooping: boolean;
}

/** A bridge as the kernel describes it. */
export interface FoundBridge extends Partial<BridgeMode> {
  /** It hands frames to the packet filter, whatever br_netfilter's sysctl says. */
  readonly filtered?: boolean;
}

/** Change settings of a bridge. `what` names it in errors. */
export function bridgeSet(nl: NetlinkSocket, what: string, index: number, mode: Partial<BridgeMode>): void {
  const { ageingTime, stp, vlanFiltering, multicastSnooping } = mode;
  setKind(nl, `bridge set ${what}`, index, "bridge", (data) => {
    if (ageingTime !== undefined) data.u32(IFLA_BR_AGEING_TIME, ageingTime);
    if (stp !== undefined) data.u32(IFLA_BR_STP_STATE, Number(stp));
    if (vlanFiltering !== undefined) data.u8(IFLA_BR_VLAN_FILTERING, Number(vlanFiltering));
    if (multicastSnooping !== undefined) data.u8(IFLA_BR_MCAST_SNOOPING, Number(multicastSnooping));
  });
}

/** Read IFLA_INFO_DATA of a bridge; a kernel may be built without VLANs or snooping. */
export function decodeBridge(data: Attributes | undefined): FoundBridge {
  const [ageingTime, stp] = [data?.get(IFLA_BR_AGEING_TIME)?.u32, data?.get(IFLA_BR_STP_STATE)?.u32];
  const vlanFiltering = data?.get(IFLA_BR_VLAN_FILTERING)?.u8;
  const multicastSnooping = data?.get(IFLA_BR_MCAST_SNOOPING)?.u8;
  const filtered = data?.get(IFLA_BR_NF_CALL_IPTABLES)?.u8;
  return {
    ...(ageingTime !== undefined && { ageingTime }),
    ...(stp !== undefined && { stp: stp !== 0 }),
    ...(vlanFiltering !== undefined && { vlanFiltering: vlanFiltering !== 0 }),
    ...(multicastSnooping !== undefined && { multicastSnooping: multicastSnooping !== 0 }),
    ...(filtered !== undefined && { filtered: filtered !== 0 }),
  };
}
