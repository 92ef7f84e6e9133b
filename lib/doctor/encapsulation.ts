// Encapsulation overhead on this host: of the connections that its router reports, else of the overlays that its kernel supports.
import { ENCAPSULATION, encapsulationOf, type OverlayInUse } from "../overlay/encapsulation.ts";

export interface Encapsulation {
  /** The most around the IP packet of a frame, in bytes. */
  readonly bytes: number;
  /** "fastdp", "encrypted sleeve". */
  readonly by: string;
}

const named = (overlay: string, encrypted: boolean) => (encrypted ? `encrypted ${overlay}` : overlay);

/** Return the largest encapsulation of the given connections; undefined where there are none. */
export function usedEncapsulation(connections: readonly OverlayInUse[]): Encapsulation | undefined {
  return connections
    .map((each) => ({
      bytes: encapsulationOf(each),
      by: named(String(each.name), each.encrypted === true),
    }))
    .sort((a, b) => b.bytes - a.bytes)[0];
}

/** Return the encapsulation to expect of a connection to a peer of this version; `lacks`: features of this kernel. */
export function expectedEncapsulation(
  encrypted: boolean,
  lacks: (feature: string) => boolean,
): Encapsulation {
  const { fastdp, sleeve } = ENCAPSULATION;
  if (lacks("VXLAN") || (encrypted && lacks("ESP")))
    return { bytes: encrypted ? sleeve["aegis-256"] : sleeve.plain, by: named("sleeve", encrypted) };
  return { bytes: encrypted ? fastdp.esp : fastdp.plain, by: named("fastdp", encrypted) };
}
