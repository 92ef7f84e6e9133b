// Encapsulation overhead of the overlays, around the IP packet of a frame: one table for sending, the choice of an MTU, messages
// and the manual.
import { ETHERNET_HEADER } from "../address/mac.ts";
import { overhead, UDP_OVERHEAD } from "./sleeve/format.ts";
import { VXLAN_HEADER } from "./vxlan.ts";

const VXLAN = UDP_OVERHEAD + VXLAN_HEADER + ETHERNET_HEADER;
/** AES-GCM in transport mode (RFC 4106): SPI, sequence and IV 16, trailer 2, ICV 16; the kernel pads to 4 bytes besides. */
const ESP = 34;

/** Bytes on the underlay by overlay and cipher. */
export const ENCAPSULATION = {
  fastdp: { plain: VXLAN, esp: VXLAN + ESP },
  sleeve: { plain: overhead(), secretbox: overhead("secretbox"), "aegis-256": overhead("aegis-256") },
} as const;

/**
 * MTU of a network that has measured nothing, and of Weave Net 2.x, in bytes: what paths of 1,460 bytes carry by the fast
 * datapath with ESP.
 */
export const DEFAULT_MTU = 1_460 - ENCAPSULATION.fastdp.esp;
/** A path that carries less does not limit the others, in bytes: sleeve fragments there. IPv6's least, 1,280, with ESP. */
export const LEAST_MTU = 1_280 - ENCAPSULATION.fastdp.esp;

/** What a router reports of a connection that carries frames. */
export interface OverlayInUse {
  readonly name?: unknown;
  readonly encrypted?: unknown;
  readonly cipher?: unknown;
}

/** Return the encapsulation of a connection, in bytes. */
export function encapsulationOf({ name, encrypted, cipher }: OverlayInUse): number {
  const { fastdp, sleeve } = ENCAPSULATION;
  if (name !== "sleeve") return encrypted ? fastdp.esp : fastdp.plain;
  if (!encrypted) return sleeve.plain;
  return cipher === "aegis-256" ? sleeve["aegis-256"] : sleeve.secretbox;
}
