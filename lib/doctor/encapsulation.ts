// Encapsulation overhead on this host: of the connections that its router reports, else of the overlays that its kernel supports.
import { encapsulationOf, type OverlayInUse } from "../overlay/encapsulation.ts";

export interface Encapsulation {
  /** The most around the IP packet of a frame, in bytes. */
  readonly bytes: number;
  /** "fastdp", "encrypted sleeve". */
  readonly by: string;
}

const encapsulated = (overlay: OverlayInUse): Encapsulation => ({
  bytes: encapsulationOf(overlay),
  by: overlay.encrypted === true ? `encrypted ${overlay.name}` : String(overlay.name),
});

/** Return the largest encapsulation of the given connections; undefined where there are none. */
export function usedEncapsulation(connections: readonly OverlayInUse[]): Encapsulation | undefined {
  return connections.map(encapsulated).sort((a, b) => b.bytes - a.bytes)[0];
}

/** Return the encapsulation to expect of a connection to a peer of this version; `lacks`: features of this kernel. */
export function expectedEncapsulation(
  encrypted: boolean,
  lacks: (feature: string) => boolean,
): Encapsulation {
  const name = lacks("VXLAN") || (encrypted && lacks("ESP")) ? "sleeve" : "fastdp";
  return encapsulated({ name, encrypted, cipher: "aegis-256" });
}
