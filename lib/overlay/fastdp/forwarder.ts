// One connection's part of the fast datapath, as a pure state machine: heartbeats to the peer until it acknowledges
// them, and ever slower after that; heartbeats of the peer, and silence (weave: router/fastdp.go).

import type { IPv4 } from "../../address/ipv4.ts";
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import type { OverlayConnection } from "../../mesh/overlay.ts";
import type { ReceivedHeartbeat } from "./maps.ts";

export const FAST_HEARTBEAT_MS = 500;
export const SLOW_HEARTBEAT_MS = 10_000;
/** Six slow heartbeats: nothing at all for so long means that frames do not get through. */
export const HEARTBEAT_TIMEOUT_MS = 60_000;

/** Control messages between the two ends. */
export const CONTROL = { heartbeatAck: 0, cryptoInitSaRemote: 1 } as const;

export interface ForwarderParams {
  readonly clock: Clock;
  readonly connectionUid: bigint;
  readonly remoteAddress: IPv4;
  /** Bytes of payload that a frame of the overlay may have; heartbeats are that long. */
  readonly mtu: number;
  /** UDP port of the fast datapath, for error texts. */
  readonly port: number;
  sendHeartbeat(to: IPv4): void;
  sendControl(tag: number, message: Uint8Array): void;
  established(): void;
  failed(error: Error): void;
  /** The peer's address or the forwarder's usability has changed. */
  changed(): void;
}

export class Forwarder implements OverlayConnection {
  established = false;
  remoteAddress: IPv4;
  #confirmed = false;
  #stopped = false;
  #acknowledgedOurs = false;
  #acknowledgedTheirs = false;
  #lastHeard: number;
  #lastSent = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  constructor(private readonly params: ForwarderParams) {
    this.remoteAddress = params.remoteAddress;
    this.#lastHeard = params.clock.now();
  }

  /** May be used for frames: confirmed and not given up. */
  get usable(): boolean {
    return this.#confirmed && !this.#stopped;
  }

  confirm(): void {
    this.#confirmed = true;
    this.#lastHeard = this.params.clock.now();
    this.params.changed();
    this.#beat();
    this.#timer = every(this.params.clock, FAST_HEARTBEAT_MS, () => this.#beat());
  }

  control(tag: number): void {
    if (tag !== CONTROL.heartbeatAck) return;
    this.#acknowledgedOurs = true;
    this.#maybeEstablish();
  }

  /** A heartbeat that claims to be of this connection's peer has come in. */
  heartbeat(received: ReceivedHeartbeat): void {
    if (
      this.#stopped ||
      received.connectionUid !== this.params.connectionUid ||
      received.size !== received.length
    )
      return;
    this.heard();
    if (received.sender !== this.remoteAddress) {
      this.remoteAddress = received.sender;
      this.params.changed();
    }
    if (this.#acknowledgedTheirs) return;
    this.#acknowledgedTheirs = true;
    this.params.sendControl(CONTROL.heartbeatAck, new Uint8Array());
    this.#maybeEstablish();
  }

  /** Any frame of the peer is a sign of life. */
  heard(): void {
    this.#lastHeard = this.params.clock.now();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#timer?.cancel();
    this.params.changed();
  }

  attributes(): Record<string, string | number> {
    return { name: "fastdp", mtu: this.params.mtu };
  }

  /** Frames have been seen to get through both ways. */
  #maybeEstablish(): void {
    if (this.established || !this.#acknowledgedOurs || !this.#acknowledgedTheirs) return;
    this.established = true;
    this.params.established();
  }

  #beat(): void {
    const now = this.params.clock.now();
    if (now - this.#lastHeard > HEARTBEAT_TIMEOUT_MS) {
      this.stop();
      const seconds = HEARTBEAT_TIMEOUT_MS / 1000;
      return this.params.failed(
        new Error(
          `no heartbeat within ${seconds} s over the fast datapath: is UDP ${this.params.port} blocked, or the MTU too large?`,
        ),
      );
    }
    const interval = this.#acknowledgedOurs ? SLOW_HEARTBEAT_MS : FAST_HEARTBEAT_MS;
    if (now - this.#lastSent < interval) return;
    this.#lastSent = now;
    this.params.sendHeartbeat(this.remoteAddress);
  }
}
