// What a mesh router is configured with, runs on, and tells.
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import type { Encryption } from "./handshake.ts";
import type { PeerName } from "./name.ts";
import type { Overlay } from "./overlay.ts";
import type { Peer, readTopology } from "./peer.ts";
import type { Transport } from "./transport.ts";

export const DEFAULT_CONNECTION_LIMIT = 200;

export interface MeshConfig {
  readonly name: PeerName;
  readonly nickName: string;
  readonly port?: number;
  readonly encryption?: Encryption | undefined;
  /** Return whether an address is on a network where frames need no encryption. */
  readonly trusts?: (ip: string) => boolean;
  readonly connectionLimit?: number;
  readonly discovery?: boolean;
  /** The lowest protocol version accepted; unless given, 2 with encryption, else 1. */
  readonly minVersion?: number | undefined;
  /** Our first short id; drawn unless given. */
  readonly shortId?: number;
}

export interface MeshDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport;
  readonly overlay: Overlay;
  readonly log: Log;
  /** Decodes topology updates; unless given, readTopology(). */
  readonly readTopology?: typeof readTopology;
}

/** What the rooms above are told. */
export interface MeshListener {
  /** Routes may have changed. */
  routesChanged?(): void;
  shortIdsChanged?(): void;
  /** Peers became unreachable, and are unknown still: parts of a crowd, each peer once. */
  peersGone?(peers: readonly Peer[]): void;
  /** Heartbeats of a peer are missing; at the last look, they were not. */
  fellSilent?(peer: Peer): void;
}
