// VXLAN (RFC 7348) as the fast datapath uses it: the network identifier holds the short ids of two peers.
import { SHORT_ID_BITS } from "../mesh/bounds.ts";

export const VXLAN_HEADER = 8;
const FLAG_VNI = 0x08;

/** Return the network identifier of a frame between two peers, by their short ids. */
export function networkIdentifier(source: number, destination: number): number {
  return source | (destination << SHORT_ID_BITS);
}

/** Write the header in front of a frame. */
export function putVxlanHeader(view: DataView, at: number, vni: number): void {
  view.setUint32(at, FLAG_VNI << 24, false);
  view.setUint32(at + 4, vni * 256, false);
}
