// What an overlay has to be for the switch of a connection (switch.ts).
import type { IPv4 } from "../address/ipv4.ts";
import type { OverlayConnection, OverlayParams } from "../mesh/overlay.ts";
import type { OverlayTrouble } from "./trouble.ts";

/** Where a neighbour's frames go: to its address by VXLAN, or by a link of the sleeve engine. */
export type Route =
  | { readonly kind: "fastdp"; readonly address: IPv4 }
  | { readonly kind: "sleeve"; readonly link: number };

/** What an overlay is told of a connection. */
export interface CandidateParams extends OverlayParams {
  /** Frames do not get through any more, and why; undefined when they do again. */
  health(trouble: OverlayTrouble | undefined): void;
  /** The connection's frames go by this overlay, if there are any. */
  preferred(): boolean;
}

/** An overlay's part in one connection. */
export interface CandidateConnection extends OverlayConnection {
  /** Present while frames may go there. */
  readonly route: Route | undefined;
  /** Another overlay's frames do not get through any more: perhaps the path takes less than before. */
  suspect?(): void;
}

/** An overlay with the name that peers know it by. */
export interface NamedOverlay {
  readonly name: string;
  /** UDP port. */
  readonly port: number;
  prepare(params: CandidateParams): CandidateConnection;
}
