// Whether the other end of a connection is there: it ends the handshake in time, sends heartbeats, and its host acknowledges ours.
import type { Clock, Timer } from "../clock/clock.ts";
import { every } from "../clock/clock.ts";
import { ConnectionError } from "./errors.ts";
import type { Stream } from "./transport.ts";
import { HEARTBEAT_MS } from "./vitals.ts";

const SILENCE_MS = 2 * HEARTBEAT_MS;
const HANDSHAKE_MS = 30_000;

export interface LivenessEvents {
  /** Send a heartbeat. */
  probe(): void;
  /** Called with why the other end counts as gone. */
  failed(error: ConnectionError): void;
}

export class Liveness {
  #lastHeard: number;
  /** The end of the handshake, or the next heartbeat. */
  #timer: Timer;
  #checking: Timer | undefined;

  /** Begins with the handshake. */
  constructor(
    private readonly clock: Clock,
    private readonly stream: Pick<Stream, "unacknowledgedMs">,
    private readonly events: LivenessEvents,
  ) {
    this.#lastHeard = clock.now();
    this.#timer = clock.after(HANDSHAKE_MS, () =>
      events.failed(new ConnectionError("timeout during handshake", "silent")),
    );
  }

  /** Something has come from the other end. */
  heard(): void {
    this.#lastHeard = this.clock.now();
  }

  /** Ms since the other end was last heard. */
  get silentMs(): number {
    return this.clock.now() - this.#lastHeard;
  }

  /** The handshake has ended. */
  agreed(): void {
    this.#timer.cancel();
  }

  /** Send heartbeats from now on, and expect them. */
  beat(): void {
    this.#timer = every(this.clock, HEARTBEAT_MS, () => {
      if (this.silentMs <= SILENCE_MS) return this.events.probe();
      this.events.failed(new ConnectionError(`nothing heard for ${SILENCE_MS / 1000} s`, "silent"));
    });
  }

  /** Fail for this reason, unless the other end's host acknowledges something within `ms`. */
  check(ms: number, reason: string): void {
    this.events.probe();
    // Something may have changed since the last check began.
    this.#checking?.cancel();
    this.#checking = this.clock.after(ms, () => {
      this.#checking = undefined;
      if (this.stream.unacknowledgedMs() < ms) return;
      const why = `${reason}, and the peer acknowledges nothing on this connection`;
      this.events.failed(new ConnectionError(why, "silent"));
    });
  }

  stop(): void {
    this.#timer.cancel();
    this.#checking?.cancel();
  }
}
