// The protocol of the fast datapath between the two ends of a connection (weave: router/fastdp.go), and the environment of a
// forwarder. Frames and heartbeats go by VXLAN, control messages over the control connection.
import type { IPv4 } from "../../address/ipv4.ts";
import type { Clock } from "../../clock/clock.ts";
import type { NeighbourEntry } from "../datapath/maps.ts";
import type { OverlayTrouble } from "../trouble.ts";

/** Tags of control messages. */
export const CONTROL = {
  heartbeatAck: 0,
  cryptoInitSaRemote: 1,
  // Only between peers with ACKNOWLEDGES:
  /** Acknowledge the heartbeats that have come, then answer noMoreHeartbeats. */
  anyHeartbeats: 2,
  noMoreHeartbeats: 3,
  /** A slow heartbeat is missing: test the path. */
  missingHeartbeat: 4,
} as const;

/** The feature of peers that acknowledge heartbeats in close succession, and report missing ones. */
export const ACKNOWLEDGES = { feature: "HeartbeatAcks", value: "close" } as const;

/** Encryption of a connection's frames, or its absence. */
export interface Security {
  readonly encrypted: boolean;
  /** Prepare to receive. Throws where the kernel refuses. */
  start(): void;
  /** Take the peer's offer, and prepare to send. Throws likewise. */
  offered(message: Uint8Array): void;
  end(): void;
}

export interface ForwarderParams {
  readonly clock: Clock;
  readonly connectionUid: bigint;
  readonly remoteAddress: IPv4;
  readonly security: Security;
  /** The peer has the feature ACKNOWLEDGES. */
  readonly acknowledges: boolean;
  /** Bytes of payload that a frame of the overlay may have. */
  readonly mtu: number;
  /** Established flows take the fast path; encrypted ones past the bridge only. */
  readonly flowCache?: boolean;
  /** UDP port of the fast datapath, for error texts. */
  readonly port: number;
  /** Send a heartbeat; `whole`: of full length. Returns 0 or an errno. */
  sendHeartbeat(to: IPv4, whole: boolean): number;
  /** Poll for heartbeats of the peer now. */
  look(): void;
  /** Return the age in ms of the last heartbeat of this connection; undefined for never. */
  heartbeatMs(): number | undefined;
  /** Return the traffic with the peer's host. */
  neighbour(): NeighbourEntry;
  /** Return the age in ms of a time of CLOCK_MONOTONIC in ns. */
  ageMs(at: bigint): number;
  /** Return what is wrong with the links of frames; heartbeats do not need them. */
  linkTrouble(): string | undefined;
  sendControl(tag: number, message: Uint8Array): void;
  established(): void;
  failed(error: Error): void;
  /** Called with why frames do not get through any more; with undefined when they do again. */
  health(trouble: OverlayTrouble | undefined): void;
  /** Called when the peer's address or `usable` changes. */
  changed(): void;
}
