// One connection's part of the fast datapath, as a pure state machine (weave: router/fastdp.go): fast heartbeats until the
// peer acknowledges them, slow ones after that; heartbeats of the peer; and whether frames still get through.
//
// The original acknowledges only the first heartbeat: of its path it can only be known that it has fallen silent. Peers
// with the feature ACKNOWLEDGES acknowledge each heartbeat that closely follows another, as they do while pods talk: the
// sender learns within seconds that its frames do not arrive. An idle path has few heartbeats and no acknowledgements; a
// missing heartbeat is reported, and makes them fast for a while. A busy peer answers late, and its path is not blocked:
// before it is held to be, the peer is asked over the control connection, and answers once it has looked for heartbeats.
import type { IPv4 } from "../../address/ipv4.ts";
import type { OverlayVitals } from "../../mesh/overlay.ts";
import { EMSGSIZE } from "../../sys/errno.ts";
import type { CandidateConnection, Route } from "../candidate.ts";
import type { ReceivedHeartbeat } from "../datapath/maps.ts";
import { Meter } from "../meter.ts";
import { isTransient, refusal } from "../refusal.ts";
import { type OverlayTrouble, overlayTrouble } from "../trouble.ts";
import { CONTROL, type ForwarderParams } from "./protocol.ts";

/** Fast until the first is acknowledged, and while one is missing. */
export const FAST_HEARTBEAT_MS = 500;
/** While frames come from the peer. */
const ACTIVE_HEARTBEAT_MS = 1_000;
export const SLOW_HEARTBEAT_MS = 10_000;
/** Frames came so recently that the path is in use. */
const ACTIVE_MS = 5_000;
/** Heartbeats that are sent within this follow each other closely: an answer is expected … */
const CLOSE_MS = 3_000;
/** … and given to those that arrive within this: one of them may be lost. */
const ANSWERED_MS = 5_000;
/** A slow heartbeat has not come: it may have been seen late, by a peer or by us. */
const MISSING_MS = SLOW_HEARTBEAT_MS + 2_500;
/** While nothing goes on, heartbeats are short, but for one now and then: a path that takes less is found by it. */
const WHOLE_MS = 3 * SLOW_HEARTBEAT_MS;
/** A peer that has nothing to do answers within this. */
const LOOK_MS = 1_500;
/** After so many heartbeats without an answer the peer is asked for them. */
const UNANSWERED = 3;
/** So many refusals in a row by our own kernel mean that it goes on refusing. */
const REFUSALS = 3;
/** So many answers in a row mean that they do again. */
const ANSWERS = 3;
/** Of a peer that does not answer each heartbeat: three slow ones have not come. */
const SILENCE_MS = 3.5 * SLOW_HEARTBEAT_MS;
/** A new connection gets so long until it is said that the path does not work. */
const FIRST_MS = 5_000;

export class Forwarder implements CandidateConnection {
  established = false;
  remoteAddress: IPv4;
  #confirmed = false;
  #stopped = false;
  #acknowledgedOurs = false;
  #acknowledgedTheirs = false;
  /** Of heartbeats. */
  #trouble: OverlayTrouble | undefined;
  /** As reported last. */
  #reported: OverlayTrouble | undefined;
  /** A heartbeat or frame of the peer; a heartbeat of the peer, or that we have said that one is missing; a frame. */
  #lastHeard: number;
  #lastHeartbeat = Number.NEGATIVE_INFINITY;
  #lastFrame = Number.NEGATIVE_INFINITY;
  #lastSent = Number.NEGATIVE_INFINITY;
  #lastWhole = Number.NEGATIVE_INFINITY;
  /** Heartbeats without an answer; and the peer has been asked for them. */
  #unanswered = 0;
  #asked = false;
  #answers = 0;
  /** Heartbeats in a row that our own kernel would not send. */
  #refusals = 0;
  #confirmedAt = 0;
  #received: Meter | undefined;
  #sent: Meter | undefined;
  /** What the peer said before we were ready for it. */
  #offer: Uint8Array | undefined;
  /** Frames of ours are encrypted, or need not be. */
  #secured: boolean;

  constructor(private readonly params: ForwarderParams) {
    this.remoteAddress = params.remoteAddress;
    this.#secured = !params.security.encrypted;
    this.#lastHeard = params.clock.now();
  }

  /** Frames may be taken from the peer: confirmed and not given up. */
  get usable(): boolean {
    return this.#confirmed && !this.#stopped;
  }

  get route(): Route | undefined {
    return this.usable ? { kind: "fastdp", address: this.remoteAddress } : undefined;
  }

  /** Heartbeats and their answers are to be looked for often. */
  get watched(): boolean {
    const missing = this.#unanswered > 0 || this.#refusals > 0;
    return !this.established || missing || this.#trouble !== undefined || this.#active;
  }

  confirm(): void {
    this.#confirmed = true;
    this.#lastHeard = this.params.clock.now();
    this.#confirmedAt = this.#lastHeard;
    if (!this.#try(() => this.params.security.start())) return;
    if (this.#offer) this.#secure(this.#offer);
    if (this.#stopped) return;
    this.params.changed();
    this.#sendDue();
  }

  /** To be called every FAST_HEARTBEAT_MS or more often where `watched`, else once in a second or two. */
  tick(): void {
    if (!this.usable) return;
    this.#report();
    this.#checkSilence();
    this.#sendDue();
  }

  control(tag: number, message: Uint8Array = new Uint8Array()): void {
    if (this.#stopped) return;
    if (tag === CONTROL.cryptoInitSaRemote && this.params.security.encrypted) {
      if (this.#confirmed) this.#secure(message);
      else this.#offer = message.slice();
    }
    if (tag === CONTROL.heartbeatAck) this.#acknowledged();
    if (!this.params.acknowledges) return;
    if (tag === CONTROL.anyHeartbeats) {
      this.params.look();
      this.params.sendControl(CONTROL.noMoreHeartbeats, new Uint8Array());
    }
    if (tag === CONTROL.missingHeartbeat) this.#unanswered = Math.max(1, this.#unanswered);
    if (tag === CONTROL.noMoreHeartbeats) {
      this.#asked = false;
      if (this.#unanswered >= UNANSWERED && this.#refusals === 0) {
        this.#answers = 0;
        this.#setTrouble(this.#silent("heartbeats do not arrive any more"));
      }
    }
  }

  /** A heartbeat that claims to be of this connection's peer has come in. */
  heartbeat(received: ReceivedHeartbeat): void {
    if (
      this.#stopped ||
      received.connectionUid !== this.params.connectionUid ||
      received.size !== received.length
    )
      return;
    this.#lastHeard = this.params.clock.now();
    // ESP is between two addresses; another one would be another's.
    if (received.sender !== this.remoteAddress && this.params.security.encrypted) return;
    if (received.sender !== this.remoteAddress) {
      this.remoteAddress = received.sender;
      this.params.changed();
    }
    const first = !this.#acknowledgedTheirs;
    const close = this.#lastHeard - this.#lastHeartbeat < ANSWERED_MS;
    this.#acknowledgedTheirs = true;
    this.#lastHeartbeat = this.#lastHeard;
    if (first || (this.params.acknowledges && close)) {
      this.params.sendControl(CONTROL.heartbeatAck, new Uint8Array());
    }
    this.#maybeEstablish();
    if (!this.params.acknowledges && this.#refusals === 0) this.#setTrouble(undefined);
  }

  /** Frames of the peer's pods have come in: a sign of life, and of use. */
  heard(): void {
    this.#lastHeard = this.params.clock.now();
    this.#lastFrame = this.#lastHeard;
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#confirmed) this.#try(() => this.params.security.end());
    this.params.changed();
  }

  /** Bytes of frames that have come from the peer's host and gone there; to be called every few seconds. */
  counted(received: bigint, sent: bigint): void {
    const now = this.params.clock.now();
    this.#received ??= new Meter(now, Number(received));
    this.#sent ??= new Meter(now, Number(sent));
    this.#received.look(now, Number(received));
    this.#sent.look(now, Number(sent));
  }

  vitals(): OverlayVitals {
    const works = this.usable && this.established && this.#reported === undefined;
    const { seen, received, sent } = this.params.neighbour();
    const now = this.params.clock.now();
    return {
      heardMs: this.params.heartbeatMs(),
      beatMs: works ? SLOW_HEARTBEAT_MS : undefined,
      framesMs: seen === 0n ? undefined : this.params.ageMs(seen),
      received: this.#received?.traffic(now, Number(received)),
      sent: this.#sent?.traffic(now, Number(sent)),
    };
  }

  attributes(): Record<string, string | number> {
    return { name: "fastdp", mtu: this.params.mtu };
  }

  /** Does what the kernel may refuse; where it does, that is the end of this forwarder. */
  #try(fn: () => void): boolean {
    try {
      fn();
      return true;
    } catch (error) {
      this.stop();
      this.params.failed(error instanceof Error ? error : new Error(String(error)));
      return false;
    }
  }

  #secure(offer: Uint8Array): void {
    this.#secured = this.#try(() => this.params.security.offered(offer));
    if (this.#secured) this.#sendDue();
  }

  #acknowledged(): void {
    this.#acknowledgedOurs = true;
    this.#unanswered = 0;
    this.#answers++;
    this.#maybeEstablish();
    if (this.params.acknowledges && this.#answers >= ANSWERS && this.#refusals === 0)
      this.#setTrouble(undefined);
  }

  get #active(): boolean {
    return this.params.clock.now() - this.#lastFrame < ACTIVE_MS;
  }

  /** Nothing is amiss, and nothing goes on. */
  get #idle(): boolean {
    const sound = this.established && this.#trouble === undefined && this.#unanswered === 0;
    return sound && this.params.acknowledges && !this.#active;
  }

  /** Frames have been seen to get through both ways. */
  #maybeEstablish(): void {
    if (this.established || !this.#acknowledgedOurs || !this.#acknowledgedTheirs) return;
    this.established = true;
    this.#trouble = undefined;
    this.params.established();
    // That it is established tells that all is well.
    this.#reported = undefined;
    this.#report();
  }

  #setTrouble(trouble: OverlayTrouble | undefined): void {
    if (this.#stopped || trouble?.reason === this.#trouble?.reason) return;
    this.#trouble = trouble;
    this.#answers = 0;
    this.#report();
  }

  #report(): void {
    const link = this.params.linkTrouble();
    const trouble = link === undefined ? this.#trouble : overlayTrouble("links", link, this.params.port);
    if (this.#stopped || trouble?.reason === this.#reported?.reason) return;
    this.#reported = trouble;
    this.params.health(trouble);
    // The peer's frames may be lost as well: it is to see whether its heartbeats arrive.
    if (link !== undefined && this.params.acknowledges)
      this.params.sendControl(CONTROL.missingHeartbeat, new Uint8Array());
  }

  #sendDue(): void {
    const now = this.params.clock.now();
    if (!this.#secured || now - this.#lastSent < this.#interval) return;
    const close = now - this.#lastSent < CLOSE_MS;
    this.#lastSent = now;
    const whole = !this.#idle || now - this.#lastWhole >= WHOLE_MS;
    if (whole) this.#lastWhole = now;
    if (!this.#send(whole)) return;
    if (close || !this.established) this.#unanswered++;
    if (this.established && this.params.acknowledges && this.#unanswered >= UNANSWERED && !this.#asked) {
      this.#asked = true;
      this.params.sendControl(CONTROL.anyHeartbeats, new Uint8Array());
    }
  }

  /** Sends a heartbeat; returns false where our own kernel refuses it, so that no answer can come. */
  #send(whole: boolean): boolean {
    const errno = this.params.sendHeartbeat(this.remoteAddress, whole);
    if (errno === 0 || isTransient(errno)) {
      // A peer that acknowledges says by itself when they arrive again.
      if (this.#refusals > 0 && this.established && !this.params.acknowledges) this.#setTrouble(undefined);
      this.#refusals = 0;
      return true;
    }
    this.#refusals++;
    this.#answers = 0;
    if (this.#refusals >= REFUSALS || errno === EMSGSIZE)
      this.#setTrouble(refusal("heartbeats cannot be sent", errno, this.params.port));
    return false;
  }

  get #interval(): number {
    if (!this.#acknowledgedOurs) return FAST_HEARTBEAT_MS;
    if (this.#refusals > 0) return this.#trouble === undefined ? FAST_HEARTBEAT_MS : ACTIVE_HEARTBEAT_MS;
    if (!this.params.acknowledges) return SLOW_HEARTBEAT_MS;
    if (this.#trouble !== undefined) return ACTIVE_HEARTBEAT_MS;
    if (this.#unanswered === 0) return this.#active ? ACTIVE_HEARTBEAT_MS : SLOW_HEARTBEAT_MS;
    // One is missing: the next come soon. But a peer with nothing to do looks for them once a second only.
    return this.#unanswered === 1 && !this.#active ? LOOK_MS : FAST_HEARTBEAT_MS;
  }

  #silent(what: string): OverlayTrouble {
    const { port } = this.params;
    return overlayTrouble("silent", `${what}: is UDP ${port} blocked, or the MTU too large?`, port);
  }

  #checkSilence(): void {
    const now = this.params.clock.now();
    if (!this.established) {
      if (now - this.#confirmedAt > FIRST_MS && this.#refusals === 0)
        this.#setTrouble(this.#silent("heartbeats do not get through"));
    } else if (this.params.acknowledges) {
      if (now - this.#lastHeartbeat < MISSING_MS) return;
      this.#lastHeartbeat = now;
      this.params.sendControl(CONTROL.missingHeartbeat, new Uint8Array());
    } else if (now - this.#lastHeard > SILENCE_MS && this.#refusals === 0) {
      this.#setTrouble(this.#silent(`nothing heard for ${SILENCE_MS / 1000} s`));
    }
  }
}
