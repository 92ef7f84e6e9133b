// One connection's part of the fast datapath, as a pure state machine (weave: router/fastdp.go): fast heartbeats until the
// peer acknowledges them, slow ones after that; heartbeats of the peer; and whether frames still get through.
//
// The original acknowledges only the first heartbeat: of its path it can only be known that it has fallen silent. Peers
// with the feature ACKNOWLEDGES acknowledge each heartbeat that closely follows another, as they do while pods talk: the
// sender learns within seconds that its frames do not arrive. An idle path has few heartbeats and no acknowledgements; a
// missing heartbeat is reported, and makes them fast for a while. A busy peer answers late, and its path is not blocked:
// before it is held to be, the peer is asked over the control connection, and answers once it has looked for heartbeats.
import type { IPv4 } from "../../address/ipv4.ts";
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { OverlayVitals } from "../../mesh/overlay.ts";
import { EMSGSIZE } from "../../sys/errno.ts";
import type { CandidateConnection, Route } from "../candidate.ts";
import type { ReceivedHeartbeat } from "../datapath/maps.ts";
import { Meter } from "../meter.ts";
import { isTransient, refusal } from "../refusal.ts";
import { type OverlayTrouble, overlayTrouble } from "../trouble.ts";
import { FastdpPath } from "./path.ts";
import {
  CONTROL,
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
  FIRST_TEST,
  type ForwarderParams,
} from "./protocol.ts";

/** Fast until the first is acknowledged, and while one is missing. */
export const FAST_HEARTBEAT_MS = 500;
/** While frames come from the peer. */
const ACTIVE_HEARTBEAT_MS = 1_000;
export const SLOW_HEARTBEAT_MS = 10_000;
/** The path is active for so long after a frame. */
const ACTIVE_MS = 5_000;
/** An acknowledgement is expected for a heartbeat sent within this after another … */
const CLOSE_MS = 3_000;
/** … and given to one that arrives within this: one in between may be lost. */
const ACKNOWLEDGED_MS = 5_000;
/** A slow heartbeat counts as missing after this; either end may poll late. */
const MISSING_MS = SLOW_HEARTBEAT_MS + 2_500;
/** An idle path gets short heartbeats, and one of full length after this, which tests the MTU. */
const WHOLE_MS = 3 * SLOW_HEARTBEAT_MS;
/** An idle peer acknowledges within this. */
const LOOK_MS = 1_500;
/** After so many heartbeats without an acknowledgement the peer is asked for them. */
const UNACKNOWLEDGED = 3;
/** Errors in a row from our own kernel until they count as trouble. */
const REFUSALS = 3;
/** Acknowledgements in a row until the path counts as working again. */
const RECOVERED = 3;
/** A peer without ACKNOWLEDGES is silent after this: three slow heartbeats are missing. */
const SILENCE_MS = 3.5 * SLOW_HEARTBEAT_MS;
/**
 * A peer with ACKNOWLEDGES is asked for its first acknowledgement after this, and gets no more heartbeats until it answers: a
 * busy peer would acknowledge each of them. If none has come when it answers again, the path is tested: its MTU may be too small.
 */
const ASK_MS = 700;
/** A new path that does not work is reported after this. */
const FIRST_MS = 5_000;
const FIRST_SILENCE = "heartbeats do not get through";

export class Forwarder implements CandidateConnection {
  established = false;
  remoteAddress: IPv4;
  #confirmed = false;
  #stopped = false;
  #acknowledgedOurs = false;
  #acknowledgedTheirs = false;
  /** Trouble with heartbeats. */
  #trouble: OverlayTrouble | undefined;
  /** As reported last. */
  #reported: OverlayTrouble | undefined;
  // Times, ms: of a heartbeat or frame; of a heartbeat, or of our report that one is missing; of a frame; …
  #lastHeard: number;
  #lastHeartbeat = Number.NEGATIVE_INFINITY;
  #lastFrame = Number.NEGATIVE_INFINITY;
  #lastSent = Number.NEGATIVE_INFINITY;
  #lastWhole = Number.NEGATIVE_INFINITY;
  /** Heartbeats without an acknowledgement; whether the peer has been asked for them. */
  #unacknowledged = 0;
  #asked = false;
  /** The peer has answered, before the path was established, that it has received no heartbeat. */
  #missed = false;
  #acknowledgements = 0;
  /** Errors in a row from our own kernel. */
  #refusals = 0;
  #confirmedAt = 0;
  #received: Meter | undefined;
  #sent: Meter | undefined;
  /** An offer that came before we were ready for it. */
  #offer: Uint8Array | undefined;
  /** Frames of ours are encrypted, or need not be. */
  #secured: boolean;
  /** Undefined where the peer does not acknowledge tests. */
  readonly #path: FastdpPath | undefined;

  constructor(private readonly params: ForwarderParams) {
    this.remoteAddress = params.remoteAddress;
    this.#secured = !params.security.encrypted;
    this.#lastHeard = params.clock.now();
    const { tests } = params;
    this.#path =
      tests &&
      new FastdpPath({
        clock: params.clock,
        limit: () => tests.limit(this.remoteAddress),
        test: (mark, mtu) => tests.send(this.remoteAddress, mark, mtu),
        ask: (mark) => params.sendControl(CONTROL.anyTest, encodeQuestion(mark)),
        outgrown: () => tests.outgrown(),
        changed: () => tests.changed(),
      });
  }

  /** Bytes of payload that the path carries, as tested; undefined as long as no test has passed. */
  get pathMtu(): number | undefined {
    return this.usable ? this.#path?.mtu : undefined;
  }

  get connectionUid(): bigint {
    return this.params.connectionUid;
  }

  /** Frames of the peer are accepted. */
  get usable(): boolean {
    return this.#confirmed && !this.#stopped;
  }

  get route(): Route | undefined {
    return this.usable ? { kind: "fastdp", address: this.remoteAddress } : undefined;
  }

  /** Heartbeats have to be polled for often. */
  get watched(): boolean {
    const missing = this.#unacknowledged > 0 || this.#refusals > 0;
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

  /** To be called every FAST_HEARTBEAT_MS or more often where `watched`, else every second or two. */
  tick(): void {
    if (!this.usable) return;
    this.#report();
    this.#checkSilence();
    this.#sendDue();
    this.#path?.tick();
  }

  /** The MTU of the network has changed: where tests of that size have passed, trouble with larger frames is over. */
  mtuChanged(): void {
    if (!this.usable || this.#trouble === undefined) return;
    const fits = (this.pathMtu ?? 0) >= this.params.mtu() && this.#refusals === 0;
    if (!fits || !this.established) return this.#sendNow();
    this.#unacknowledged = 0;
    this.#setTrouble(undefined);
  }

  control(tag: number, message: Uint8Array = new Uint8Array()): void {
    if (this.#stopped) return;
    // One offer a connection: a peer that goes on offering would fill the kernel with associations.
    if (tag === CONTROL.cryptoInitSaRemote && !this.#secured) {
      if (this.#confirmed) this.#secure(message);
      else this.#offer = message.slice();
    }
    if (tag === CONTROL.heartbeatAck) this.#takeAcknowledgement();
    if (tag === CONTROL.anyTest) this.#answerTest(message);
    if (tag === CONTROL.testReceived) {
      const answer = decodeAnswer(message);
      if (answer) this.#path?.answered(answer);
    }
    if (!this.params.acknowledges) return;
    if (tag === CONTROL.anyHeartbeats) {
      this.params.look();
      this.params.sendControl(CONTROL.noMoreHeartbeats, new Uint8Array());
    }
    if (tag === CONTROL.missingHeartbeat) this.#unacknowledged = Math.max(1, this.#unacknowledged);
    if (tag === CONTROL.noMoreHeartbeats) {
      this.#asked = false;
      if (!this.established) {
        this.params.look();
        if (!this.established) this.#noneCame();
      } else if (this.#unacknowledged >= UNACKNOWLEDGED && this.#refusals === 0) {
        this.#acknowledgements = 0;
        this.#setTrouble(this.#silent("heartbeats do not arrive any more"));
        this.#path?.suspect();
      }
    }
  }

  #answerTest(message: Uint8Array): void {
    const asked = decodeQuestion(message);
    if (asked === undefined || !this.params.tests) return;
    const last = this.params.tests.last();
    const isTest = last !== undefined && last.size >= FIRST_TEST && last.sender === this.remoteAddress;
    const [mark, mtu] = isTest ? [last.size, last.length - ETHERNET_HEADER] : [0, 0];
    this.params.sendControl(CONTROL.testReceived, encodeAnswer({ asked, mark, mtu }));
  }

  /** Take a heartbeat that claims to be of this connection's peer. */
  heartbeat(received: ReceivedHeartbeat): void {
    if (this.#stopped) return;
    if (received.size !== received.length) {
      if (received.size >= FIRST_TEST) this.#lastHeard = this.params.clock.now();
      return;
    }
    this.#lastHeard = this.params.clock.now();
    // ESP is between two addresses: one from another address is not the peer's.
    if (received.sender !== this.remoteAddress && this.params.security.encrypted) return;
    if (received.sender !== this.remoteAddress) {
      this.remoteAddress = received.sender;
      this.params.changed();
    }
    const first = !this.#acknowledgedTheirs;
    const close = this.#lastHeard - this.#lastHeartbeat < ACKNOWLEDGED_MS;
    this.#acknowledgedTheirs = true;
    this.#lastHeartbeat = this.#lastHeard;
    if (first || (this.params.acknowledges && close)) {
      this.params.sendControl(CONTROL.heartbeatAck, new Uint8Array());
    }
    this.#maybeEstablish();
    // The peer was not ready for the heartbeats that we sent before.
    if (first && this.params.acknowledges && !this.#acknowledgedOurs) this.#sendNow();
    if (!this.params.acknowledges && this.#refusals === 0) this.#setTrouble(undefined);
  }

  /** Frames of the peer's pods have come in: it is alive, and the path active. */
  heard(): void {
    this.#lastHeard = this.params.clock.now();
    this.#lastFrame = this.#lastHeard;
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.params.stopped();
    this.#path?.stop();
    if (this.#confirmed) this.#try(() => this.params.security.end());
    this.params.changed();
  }

  /** Take the counters of bytes from and to the peer's host; to be called every few seconds. */
  counted(received: bigint, sent: bigint): void {
    const now = this.params.clock.now();
    this.#received ??= new Meter(now, Number(received));
    this.#sent ??= new Meter(now, Number(sent));
    this.#received.sample(now, Number(received));
    this.#sent.sample(now, Number(sent));
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
    const { mtu, flowCache, security } = this.params;
    const path = flowCache && { path: security.encrypted ? "vxlan" : "direct" };
    return { name: "fastdp", mtu: this.pathMtu ?? mtu(), ...path };
  }

  /** Run what the kernel may refuse. Returns false where it does; then this forwarder has failed. */
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

  /** Tests hide a heartbeat, of which the peer sees the last frame only: the first has to be acknowledged before. */
  #startTests(): void {
    if (this.#secured) this.#path?.start();
  }

  #takeAcknowledgement(): void {
    this.#acknowledgedOurs = true;
    this.#unacknowledged = 0;
    this.#acknowledgements++;
    this.#maybeEstablish();
    if (this.params.acknowledges && this.#acknowledgements >= RECOVERED && this.#refusals === 0)
      this.#setTrouble(undefined);
  }

  get #active(): boolean {
    return this.params.clock.now() - this.#lastFrame < ACTIVE_MS;
  }

  /** No trouble and no traffic. */
  get #idle(): boolean {
    const sound = this.established && this.#trouble === undefined && this.#unacknowledged === 0;
    return sound && this.params.acknowledges && !this.#active;
  }

  #maybeEstablish(): void {
    if (this.established || !this.#acknowledgedOurs || !this.#acknowledgedTheirs) return;
    this.established = true;
    this.#trouble = undefined;
    this.params.established();
    // `established` implies that there is no trouble.
    this.#reported = undefined;
    this.#report();
    this.#startTests();
  }

  #setTrouble(trouble: OverlayTrouble | undefined): void {
    if (this.#stopped || trouble?.reason === this.#trouble?.reason) return;
    this.#trouble = trouble;
    this.#acknowledgements = 0;
    this.#report();
  }

  #report(): void {
    const link = this.params.linkTrouble();
    const trouble = link === undefined ? this.#trouble : overlayTrouble("links", link, this.params.port);
    if (this.#stopped || trouble?.reason === this.#reported?.reason) return;
    this.#reported = trouble;
    this.params.health(trouble);
    // The peer's frames may be lost, too: have it test its path.
    if (link !== undefined && this.params.acknowledges)
      this.params.sendControl(CONTROL.missingHeartbeat, new Uint8Array());
  }

  #sendNow(): void {
    this.#lastSent = Number.NEGATIVE_INFINITY;
    this.#sendDue();
  }

  #sendDue(): void {
    const now = this.params.clock.now();
    const waits = this.#asked && !this.established;
    if (!this.#secured || waits || now - this.#lastSent < this.#interval) return;
    const close = now - this.#lastSent < CLOSE_MS;
    this.#lastSent = now;
    const whole = !this.#idle || now - this.#lastWhole >= WHOLE_MS;
    if (whole) this.#lastWhole = now;
    if (!this.#send(whole)) return;
    // Tests may hide a heartbeat: the peer sees the last frame only.
    if ((close && !this.#path?.searching) || !this.established) this.#unacknowledged++;
    if (
      this.established &&
      this.params.acknowledges &&
      this.#unacknowledged >= UNACKNOWLEDGED &&
      !this.#asked
    ) {
      this.#ask();
    }
  }

  /** Ask the peer to acknowledge the heartbeats that it has received. */
  #ask(): void {
    this.#asked = true;
    this.params.sendControl(CONTROL.anyHeartbeats, new Uint8Array());
  }

  /**
   * Handle the answer that no heartbeat has come. After the first such answer send one more and ask again: earlier heartbeats may
   * have come before the peer was ready.
   */
  #noneCame(): void {
    const first = !this.#missed;
    this.#missed = true;
    if (first) {
      this.#sendNow();
      return this.#ask();
    }
    this.#startTests();
    if (this.#isLate) this.#setTrouble(this.#silent(FIRST_SILENCE));
  }

  /** Send a heartbeat. Returns false where our own kernel refuses it: no acknowledgement can come. */
  #send(whole: boolean): boolean {
    let errno = this.params.sendHeartbeat(this.remoteAddress, whole);
    if (errno === EMSGSIZE && this.#path) {
      // The network's MTU falls with that of the path.
      this.#path.refused();
      errno = this.params.sendHeartbeat(this.remoteAddress, whole);
    }
    if (errno === 0 || isTransient(errno)) {
      this.#path?.covered();
      // Of peers with ACKNOWLEDGES, acknowledgements end the trouble.
      if (this.#refusals > 0 && this.established && !this.params.acknowledges) this.#setTrouble(undefined);
      this.#refusals = 0;
      return true;
    }
    this.#refusals++;
    this.#acknowledgements = 0;
    if (this.#refusals >= REFUSALS || errno === EMSGSIZE)
      this.#setTrouble(refusal("heartbeats cannot be sent", errno, this.params.port));
    return false;
  }

  get #interval(): number {
    if (!this.#acknowledgedOurs) return FAST_HEARTBEAT_MS;
    if (this.#refusals > 0) return this.#trouble === undefined ? FAST_HEARTBEAT_MS : ACTIVE_HEARTBEAT_MS;
    if (!this.params.acknowledges) return SLOW_HEARTBEAT_MS;
    if (this.#trouble !== undefined) return ACTIVE_HEARTBEAT_MS;
    if (this.#unacknowledged === 0) return this.#active ? ACTIVE_HEARTBEAT_MS : SLOW_HEARTBEAT_MS;
    // An idle peer polls once a second only: give it time for the first.
    return this.#unacknowledged === 1 && !this.#active ? LOOK_MS : FAST_HEARTBEAT_MS;
  }

  /** A new path has had the time that it needs, if both ends look for heartbeats. */
  get #isLate(): boolean {
    const time = this.params.clock.now() - this.#confirmedAt;
    return !this.established && time > FIRST_MS && this.#refusals === 0;
  }

  #silent(what: string): OverlayTrouble {
    const { port } = this.params;
    return overlayTrouble("silent", `${what}: is UDP ${port} blocked, or the MTU too large?`, port);
  }

  #checkSilence(): void {
    const now = this.params.clock.now();
    if (!this.established) {
      if (this.#trouble !== undefined || this.#asked) return;
      if (!this.params.acknowledges) {
        if (this.#isLate) this.#setTrouble(this.#silent(FIRST_SILENCE));
      } else if (
        this.#isLate ||
        (!this.#missed && !this.#acknowledgedOurs && now - this.#confirmedAt >= ASK_MS)
      )
        this.#ask();
    } else if (this.params.acknowledges) {
      if (now - this.#lastHeartbeat < MISSING_MS) return;
      this.#lastHeartbeat = now;
      this.params.sendControl(CONTROL.missingHeartbeat, new Uint8Array());
    } else if (now - this.#lastHeard > SILENCE_MS && this.#refusals === 0) {
      this.#setTrouble(this.#silent(`nothing heard for ${SILENCE_MS / 1000} s`));
    }
  }
}
