// Overlays, as the mesh sees them: each connection has one, which carries frames beside it.
import type { Trouble } from "../sys/trouble.ts";
import type { Features } from "./handshake.ts";
import type { Peer } from "./peer.ts";

/** A new connection. */
export interface OverlayParams {
  readonly remotePeer: Peer;
  /** Addresses of both ends of the control connection, without ports. */
  readonly localIp: string;
  readonly remoteIp: string;
  /** The TCP port of the far end; for an outbound connection, the port that the peer listens on. */
  readonly remotePort: number;
  readonly outbound: boolean;
  /** The same at both ends. */
  readonly connectionUid: bigint;
  /** Present where frames have to be encrypted. */
  readonly sessionKey: Uint8Array | undefined;
  readonly features: Features;
  /** Send a message to the overlay at the far end, with one of the overlay tags (message.ts). */
  sendControl(tag: number, message: Uint8Array): void;
  /** Frames get through: routes use the connection from now on. */
  established(): void;
  /** This overlay cannot carry frames. */
  failed(error: Error): void;
  /** This host lost what both ends agreed on: end the connection, and dial the peer again at once. */
  restart(error: Error): void;
}

/** Bytes of frames, in all and each second lately. */
export interface Traffic {
  readonly bytes: number;
  readonly perSecond: number;
}

/** Signs of life of a peer, as an overlay sees them. */
export interface OverlayVitals {
  /** ms since the peer's router was heard; undefined for never. */
  readonly heardMs: number | undefined;
  /** Longest interval at which the peer's router sends something; undefined where it need not. */
  readonly beatMs: number | undefined;
  /** ms since a frame of the peer's containers; undefined for never. */
  readonly framesMs: number | undefined;
  /** Undefined where frames are not counted. */
  readonly received?: Traffic | undefined;
  readonly sent?: Traffic | undefined;
  /** The same by overlay, where a connection has several. */
  readonly byOverlay?: readonly OverlayTraffic[];
}

/** Bytes of frames that went by one overlay. */
export interface OverlayTraffic {
  readonly overlay: string;
  readonly received: number;
  readonly sent: number;
}

/** The overlay of one connection. */
export interface OverlayConnection {
  /** Both ends have accepted the connection: forwarding may begin. */
  confirm(): void;
  /** Handle a message of the overlay at the far end. */
  control(tag: number, message: Uint8Array): void;
  stop(): void;
  vitals?(): OverlayVitals;
  /** Return why frames go by a slower overlay than they could; undefined where they do not. */
  slowness?(): Trouble | undefined;
  /** For status: name, mtu, … */
  attributes(): Record<string, string | number | boolean>;
}

export interface Overlay {
  /** Return the features to announce in the handshake. */
  features(): Record<string, string>;
  /** Throws where the peer and we have no overlay in common. */
  prepare(params: OverlayParams): OverlayConnection;
}

/** An overlay that carries nothing and is established at once, for simulations. */
export const nullOverlay: Overlay = {
  features: () => ({}),
  prepare: (params) => ({
    confirm: () => params.established(),
    control() {},
    stop() {},
    attributes: () => ({ name: "none" }),
  }),
};
