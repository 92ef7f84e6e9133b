// What the mesh asks of an overlay: for each connection, a forwarder that carries frames beside it.
import type { Trouble } from "../sys/trouble.ts";
import type { Features } from "./handshake.ts";
import type { Peer } from "./peer.ts";

/** What an overlay is told of a new connection. */
export interface OverlayParams {
  readonly remotePeer: Peer;
  /** Addresses of the control connection's ends, without ports. */
  readonly localIp: string;
  readonly remoteIp: string;
  /** The TCP port of the far end; only that of an outbound connection is the peer's own. */
  readonly remotePort: number;
  readonly outbound: boolean;
  /** The same number at both ends. */
  readonly connectionUid: bigint;
  /** Present where frames have to be encrypted. */
  readonly sessionKey: Uint8Array | undefined;
  readonly features: Features;
  /** Sends a message to the overlay at the far end, under one of the tags for overlays (message.ts). */
  sendControl(tag: number, message: Uint8Array): void;
  /** Frames get through: the connection counts for routes from now on. */
  established(): void;
  /** This overlay cannot carry frames (any more). */
  failed(error: Error): void;
  /** What the ends have agreed on is lost on this host: the connection is to end, and be made anew at once. */
  restart(error: Error): void;
}

/** Bytes that frames had, in all and a second of late. */
export interface Traffic {
  readonly bytes: number;
  readonly perSecond: number;
}

/** Signs of life of a peer, as an overlay sees them at a moment. */
export interface OverlayVitals {
  /** ms since the peer's router was heard; undefined where it never was. */
  readonly heardMs: number | undefined;
  /** The peer's router sends something this often at least; undefined where that is not to be relied on. */
  readonly beatMs: number | undefined;
  /** ms since a frame of the peer's containers came; undefined where none did. */
  readonly framesMs: number | undefined;
  /** Undefined where frames are not counted. */
  readonly received?: Traffic | undefined;
  readonly sent?: Traffic | undefined;
}

/** An overlay's part in one connection. */
export interface OverlayConnection {
  /** The connection is accepted at both ends; forwarding may begin. */
  confirm(): void;
  /** A message of the overlay at the far end, and its tag. */
  control(tag: number, message: Uint8Array): void;
  stop(): void;
  vitals?(): OverlayVitals;
  /** Why frames go by a slower overlay than they could; undefined where they do not. */
  slowness?(): Trouble | undefined;
  /** For status: name, mtu, … */
  attributes(): Record<string, string | number | boolean>;
}

export interface Overlay {
  /** Features to announce in the handshake. */
  features(): Record<string, string>;
  /** Throws when the peer and we have no overlay in common. */
  prepare(params: OverlayParams): OverlayConnection;
}

/** Carries nothing and is established at once: for control planes and simulations. */
export const nullOverlay: Overlay = {
  features: () => ({}),
  prepare: (params) => ({
    confirm: () => params.established(),
    control() {},
    stop() {},
    attributes: () => ({ name: "none" }),
  }),
};
