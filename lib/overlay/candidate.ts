// An overlay as the switch of a connection uses it (switch.ts).
import type { IPv4 } from "../address/ipv4.ts";
import type { OverlayConnection, OverlayParams } from "../mesh/overlay.ts";
import type { OverlayTrouble } from "./trouble.ts";

/** Where a neighbour's frames go: to its address by VXLAN, or by a link of the sleeve engine. */
export type Route =
  | { readonly kind: "fastdp"; readonly address: IPv4 }
  | { readonly kind: "sleeve"; readonly link: number };

/** A connection, as an overlay is given it. */
export interface CandidateParams extends OverlayParams {
  /** Called with why frames do not get through any more; with undefined when they do again. */
  health(trouble: OverlayTrouble | undefined): void;
  /** The connection's frames go by this overlay. */
  preferred(): boolean;
}

/** An overlay's part in one connection. */
export interface CandidateConnection extends OverlayConnection {
  /** Undefined while frames must not go this way. */
  readonly route: Route | undefined;
  /** Bytes of payload that the path carries, as tested; undefined where no test has passed. */
  readonly pathMtu?: number | undefined;
  /** Source UDP port of the peer's datagrams; undefined before the first, or if the overlay does not know it. */
  readonly remotePort?: number | undefined;
  /** Another overlay's frames do not get through any more: test whether the path MTU has shrunk. */
  suspect?(): void;
}

/** An overlay with the name that peers know it by. */
export interface NamedOverlay {
  readonly name: string;
  /** UDP port. */
  readonly port: number;
  prepare(params: CandidateParams): CandidateConnection;
}
