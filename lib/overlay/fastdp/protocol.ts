// The protocol of the fast datapath between the two ends of a connection (weave: router/fastdp.go), and the environment of a
// forwarder. Frames and heartbeats go by VXLAN, control messages over the control connection.
import type { IPv4 } from "../../address/ipv4.ts";
import { viewOf } from "../../bytes/view.ts";
import type { Clock } from "../../clock/clock.ts";
import type { NeighbourEntry, ReceivedHeartbeat } from "../datapath/maps.ts";
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
  // Only between peers with TESTS_PATHS:
  /** Tell the last test that has come. Numbers of both messages are u16, big-endian. */
  anyTest: 5,
  testReceived: 6,
} as const;

/** The feature of peers that acknowledge heartbeats in close succession, and report missing ones. */
export const ACKNOWLEDGES = { feature: "HeartbeatAcks", value: "close" } as const;

/** The feature of peers that acknowledge tests of the path MTU. */
export const TESTS_PATHS = { feature: "PathMTU", value: "heartbeats" } as const;

/** Largest MTU of the overlay. A heartbeat with a size above that is a test, and the size its mark. */
export const MAX_MTU = 65_000;
export const FIRST_TEST = 0xfe00;
export const TESTS = 0x1_0000 - FIRST_TEST;

/** What the peer has received when it is asked for a test. */
export interface TestAnswer {
  /** The mark in the question. */
  readonly asked: number;
  /** Mark and size in bytes of the last test that has come; zeros for none. */
  readonly mark: number;
  readonly mtu: number;
}

/** Encode anyTest. */
export const encodeQuestion = (mark: number): Uint8Array => bigEndian([mark]);

/** Encode testReceived. */
export const encodeAnswer = ({ asked, mark, mtu }: TestAnswer): Uint8Array => bigEndian([asked, mark, mtu]);

/** Decode anyTest; undefined for a message that is none. */
export function decodeQuestion(message: Uint8Array): number | undefined {
  return message.length === 2 ? viewOf(message).getUint16(0, false) : undefined;
}

/** Decode testReceived; undefined for a message that is none. */
export function decodeAnswer(message: Uint8Array): TestAnswer | undefined {
  if (message.length !== 6) return undefined;
  const view = viewOf(message);
  return { asked: view.getUint16(0, false), mark: view.getUint16(2, false), mtu: view.getUint16(4, false) };
}

function bigEndian(numbers: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(2 * numbers.length);
  const view = viewOf(bytes);
  numbers.forEach((number, i) => {
    view.setUint16(2 * i, number, false);
  });
  return bytes;
}

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
  /** Tests of the path MTU; undefined where the peer lacks TESTS_PATHS. */
  readonly tests: PathTests | undefined;
  /** Return the bytes of payload that a frame of the overlay may have. */
  mtu(): number;
  /** Established flows take the fast path; encrypted ones past the bridge only. */
  readonly flowCache?: boolean;
  /** UDP port of the fast datapath, for error texts. */
  readonly port: number;
  /** Send a heartbeat; `whole`: of full length. Returns 0 or an errno. */
  sendHeartbeat(to: IPv4, whole: boolean): number;
  /** Called once it has stopped. */
  stopped(): void;
  /** Poll for heartbeats of the peer now. */
  look(): void;
  /** Return the age in ms of the last heartbeat of this connection, as of the last poll; undefined for never. */
  heartbeatMs(): number | undefined;
  /** Return the traffic with the peer's host, as of the last poll. */
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

/** What tests of the path MTU need beside a forwarder. */
export interface PathTests {
  /** Return the most bytes of payload that the kernel sends to that address; undefined without a route. */
  limit(to: IPv4): number | undefined;
  send(to: IPv4, mark: number, mtu: number): void;
  /** Return the peer's last heartbeat or test of this connection. */
  last(): ReceivedHeartbeat | undefined;
  outgrown(): void;
  /** Called when the measured MTU changes. */
  changed(): void;
}
