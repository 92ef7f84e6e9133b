// Links of kind vxlan (linux/if_link.h: IFLA_VXLAN_*).
import type { AttributeEncoder, Attributes } from "../attributes.ts";
import type { NetlinkSocket } from "../socket.ts";
import { setKind } from "./message.ts";

const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_COLLECT_METADATA = 25;

/** A VXLAN link as the kernel has it. */
export interface Vxlan {
  /** UDP port. */
  readonly port: number;
  /** Peer and network id come with each packet. */
  readonly external: boolean;
  /** It learns where Ethernet addresses are. */
  readonly learning: boolean;
}

/** Encode IFLA_INFO_DATA of an external link that learns nothing. */
export function encodeVxlan(encoder: AttributeEncoder, port: number): void {
  encoder.u8(IFLA_VXLAN_LEARNING, 0).u16be(IFLA_VXLAN_PORT, port).u8(IFLA_VXLAN_COLLECT_METADATA, 1);
}

/** Stop a VXLAN link from learning where Ethernet addresses are. `what` names it in errors. */
export function vxlanStopLearning(nl: NetlinkSocket, what: string, index: number): void {
  setKind(nl, `link set ${what} nolearning`, index, "vxlan", (data) => data.u8(IFLA_VXLAN_LEARNING, 0));
}

/** Read IFLA_INFO_DATA of a VXLAN link. */
export function decodeVxlan(data: Attributes | undefined): Vxlan {
  return {
    port: data?.get(IFLA_VXLAN_PORT)?.u16be ?? 0,
    external: (data?.get(IFLA_VXLAN_COLLECT_METADATA)?.u8 ?? 0) !== 0,
    learning: (data?.get(IFLA_VXLAN_LEARNING)?.u8 ?? 0) !== 0,
  };
}
