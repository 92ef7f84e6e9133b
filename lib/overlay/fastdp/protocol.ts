// What the two ends of a connection say to each other of the fast datapath (weave: router/fastdp.go), and what a forwarder
// needs to take part. Frames and heartbeats go by VXLAN; all else goes over the control connection.
import type { IPv4 } from "../../address/ipv4.ts";
import type { Clock } from "../../clock/clock.ts";
import type { NeighbourEntry } from "../datapath/maps.ts";
import type { OverlayTrouble } from "../trouble.ts";

/** Control messages between the two ends. */
export const CONTROL = {
  heartbeatAck: 0,
  cryptoInitSaRemote: 1,
  /** These only between peers that ACKNOWLEDGE. Are there any? What is found is acknowledged first. */
  anyHeartbeats: 2,
  noMoreHeartbeats: 3,
  /** A slow heartbeat has not come. */
  missingHeartbeat: 4,
} as const;

/** The feature of peers that acknowledge heartbeats that follow each other closely, and miss those that do not come. */
export const ACKNOWLEDGES = { feature: "HeartbeatAcks", value: "close" } as const;

/** How frames are kept from others' eyes, if they have to be. */
export interface Security {
  readonly encrypted: boolean;
  /** Prepares for frames of the peer. Throws where the kernel refuses. */
  start(): void;
  /** The peer has prepared for ours, and says how. Throws likewise. */
  offered(message: Uint8Array): void;
  end(): void;
}

export interface ForwarderParams {
  readonly clock: Clock;
  readonly connectionUid: bigint;
  readonly remoteAddress: IPv4;
  readonly security: Security;
  /** The peer ACKNOWLEDGES more than the first heartbeat. */
  readonly acknowledges: boolean;
  /** Bytes of payload that a frame of the overlay may have. */
  readonly mtu: number;
  /** UDP port of the fast datapath, for error texts. */
  readonly port: number;
  /** Sends one; as long as a frame may be, where that is to be tried. Returns the errno of a refusal, else 0. */
  sendHeartbeat(to: IPv4, whole: boolean): number;
  /** Looks for heartbeats of the peer now. */
  look(): void;
  /** Milliseconds since the last heartbeat of this connection's peer came; undefined for never. */
  heartbeatMs(): number | undefined;
  /** What came from the peer's host and went there. */
  neighbour(): NeighbourEntry;
  /** Milliseconds since a moment of CLOCK_MONOTONIC, in ns. */
  ageMs(at: bigint): number;
  /** What is wrong with the links that frames leave by; heartbeats have a socket, and leave all the same. */
  linkTrouble(): string | undefined;
  sendControl(tag: number, message: Uint8Array): void;
  established(): void;
  failed(error: Error): void;
  /** Frames do not get through any more, and why; undefined when they do again. */
  health(trouble: OverlayTrouble | undefined): void;
  /** The peer's address or the forwarder's usability has changed. */
  changed(): void;
}
