// One connection's part of the fast datapath, as a pure state machine (weave: router/fastdp.go): heartbeats to the peer
// (schedule.ts) and from it, and whether frames still get through.
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
import { TrafficMeter } from "../meter.ts";
import { isTransient, refusal } from "../refusal.ts";
import { overlayTrouble } from "../trouble.ts";
import { PathHealth, silence } from "./health.ts";
import { FastdpPath, testAnswer } from "./path.ts";
import { PeerHeartbeats } from "./peerheartbeats.ts";
import { CONTROL, decodeAnswer, encodeQuestion, FIRST_TEST, type ForwarderParams } from "./protocol.ts";
import { HeartbeatSchedule, SLOW_HEARTBEAT_MS } from "./schedule.ts";

/** The path is active for so long after a frame. */
const ACTIVE_MS = 5_000;
/** Errors in a row from our own kernel until they count as trouble. */
const REFUSALS = 3;
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
const NO_OFFER = "the peer has offered no ESP association";

export class Forwarder implements CandidateConnection {
  established = false;
  remoteAddress: IPv4;
  #confirmed = false;
  #stopped = false;
  readonly #health: PathHealth;
  readonly #theirs: PeerHeartbeats;
  // Times, ms: of a heartbeat or frame; of a frame.
  #lastHeard: number;
  #lastFrame = Number.NEGATIVE_INFINITY;
  readonly #schedule: HeartbeatSchedule;
  /** The peer has been asked for acknowledgements. */
  #asked = false;
  /** The peer has answered, before the path was established, that it has received no heartbeat. */
  #reportedNone = false;
  #confirmedAt = 0;
  #traffic: TrafficMeter | undefined;
  /** An offer that came before we were ready for it. */
  #offer: Uint8Array | undefined;
  /** Frames of ours are encrypted, or need not be. */
  #secured: boolean;
  /** Undefined where the peer does not acknowledge tests. */
  readonly #path: FastdpPath | undefined;

  constructor(private readonly params: ForwarderParams) {
    this.remoteAddress = params.remoteAddress;
    this.#schedule = new HeartbeatSchedule(params.acknowledges);
    this.#theirs = new PeerHeartbeats(params.acknowledges);
    this.#health = new PathHealth({
      port: params.port,
      linkTrouble: () => params.linkTrouble(),
      health: (trouble) => {
        params.health(trouble);
        // The peer's frames may be lost, too: have it test its path.
        if (trouble?.cause === "links" && params.acknowledges)
          params.sendControl(CONTROL.missingHeartbeat, new Uint8Array());
      },
    });
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
        changed: () => {
          tests.changed();
          this.#endTroubleOfLarger();
        },
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
    return !this.established || this.#schedule.isMissing || this.#health.isTroubled || this.#active;
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
    this.#health.tell();
    this.#checkSilence();
    this.#sendDue();
    this.#path?.tick();
  }

  /** The MTU of the network has changed. */
  mtuChanged(): void {
    if (this.usable && this.#health.isTroubled && !this.#endTroubleOfLarger()) this.#sendNow();
  }

  control(tag: number, message: Uint8Array = new Uint8Array()): void {
    if (this.#stopped) return;
    // One offer a connection: a peer that goes on offering would fill the kernel with associations.
    if (tag === CONTROL.cryptoInitSaRemote && !this.#secured) {
      if (this.#confirmed) this.#secure(message);
      else this.#offer = message.slice();
    }
    if (tag === CONTROL.heartbeatAck) this.#takeAcknowledgement();
    if (tag === CONTROL.anyTest && this.params.tests) {
      const answer = testAnswer(message, this.params.tests.last(), this.remoteAddress);
      if (answer) this.params.sendControl(CONTROL.testReceived, answer);
    }
    if (tag === CONTROL.testReceived) {
      const answer = decodeAnswer(message);
      if (answer) this.#path?.answered(answer);
    }
    if (!this.params.acknowledges) return;
    if (tag === CONTROL.anyHeartbeats) {
      this.params.look();
      if (this.#theirs.answersQuestion(this.params.clock.now())) this.#acknowledgeTheirs();
      this.params.sendControl(CONTROL.noMoreHeartbeats, new Uint8Array());
    }
    if (tag === CONTROL.missingHeartbeat)
      this.#schedule.unacknowledged = Math.max(1, this.#schedule.unacknowledged);
    if (tag === CONTROL.noMoreHeartbeats) {
      this.#asked = false;
      if (!this.established) {
        this.params.look();
        if (!this.established) this.#noneCame();
      } else if (this.#schedule.hasToAsk && this.#schedule.refusals === 0) {
        this.#health.unacknowledged();
        this.#health.set(silence("heartbeats do not arrive any more", this.params.port));
        this.#path?.suspect();
      }
    }
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
    const first = !this.#theirs.any;
    if (this.#theirs.take(this.#lastHeard)) this.#acknowledgeTheirs();
    this.#maybeEstablish();
    // The peer was not ready for the heartbeats that we sent before.
    if (first && this.params.acknowledges && !this.#schedule.acknowledged) this.#sendNow();
    if (!this.params.acknowledges && this.#schedule.refusals === 0) this.#health.set(undefined);
  }

  /** Frames of the peer's pods have come in: it is alive, and the path active. */
  heard(): void {
    this.#lastHeard = this.params.clock.now();
    this.#lastFrame = this.#lastHeard;
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#health.stop();
    this.params.stopped();
    this.#path?.stop();
    if (this.#confirmed) this.#try(() => this.params.security.end());
    this.params.changed();
  }

  /** Take the counters of bytes from and to the peer's host; to be called every few seconds. */
  counted(received: bigint, sent: bigint): void {
    const now = this.params.clock.now();
    this.#traffic ??= new TrafficMeter(now, Number(received), Number(sent));
    this.#traffic.sample(now, Number(received), Number(sent));
  }

  vitals(): OverlayVitals {
    const works = this.usable && this.established && this.#health.works;
    const { seen, received, sent } = this.params.neighbour();
    const now = this.params.clock.now();
    return {
      heardMs: this.params.heartbeatMs(),
      beatMs: works ? SLOW_HEARTBEAT_MS : undefined,
      framesMs: seen === 0n ? undefined : this.params.ageMs(seen),
      ...this.#traffic?.traffic(now, Number(received), Number(sent)),
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

  #acknowledgeTheirs(): void {
    this.params.sendControl(CONTROL.heartbeatAck, new Uint8Array());
  }

  #takeAcknowledgement(): void {
    this.#schedule.acknowledge();
    this.#health.acknowledged();
    this.#maybeEstablish();
    if (this.params.acknowledges && this.#health.isRecovered && this.#schedule.refusals === 0)
      this.#health.set(undefined);
  }

  get #active(): boolean {
    return this.params.clock.now() - this.#lastFrame < ACTIVE_MS;
  }

  #maybeEstablish(): void {
    if (this.established || !this.#schedule.acknowledged || !this.#theirs.any) return;
    this.established = true;
    this.params.established();
    this.#health.established();
    this.#startTests();
  }

  /** End trouble with larger frames than the network's MTU, once tests of that have passed. Returns whether it did. */
  #endTroubleOfLarger(): boolean {
    const passed = this.#path?.isDoubtful ? 0 : (this.pathMtu ?? 0);
    if (!this.#health.isTroubled || !this.established || this.#schedule.refusals > 0) return false;
    if (passed < this.params.mtu()) return false;
    this.#schedule.unacknowledged = 0;
    this.#health.set(undefined);
    return true;
  }

  #sendNow(): void {
    this.#schedule.hurry();
    this.#sendDue();
  }

  #sendDue(): void {
    if (!this.#secured || (this.#asked && !this.established)) return;
    const path = {
      established: this.established,
      troubled: this.#health.isTroubled,
      active: this.#active,
    };
    const due = this.#schedule.next(this.params.clock.now(), path);
    if (!due || !this.#send(due.whole)) return;
    // Tests may hide a heartbeat: the peer sees the last frame only.
    if ((due.close && !this.#path?.searching) || !this.established) this.#schedule.unacknowledged++;
    if (this.established && this.params.acknowledges && this.#schedule.hasToAsk && !this.#asked) this.#ask();
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
    const first = !this.#reportedNone;
    this.#reportedNone = true;
    if (first) {
      this.#sendNow();
      return this.#ask();
    }
    this.#startTests();
    if (this.#isLate) this.#health.set(silence(FIRST_SILENCE, this.params.port));
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
      if (this.#schedule.refusals > 0 && this.established && !this.params.acknowledges)
        this.#health.set(undefined);
      this.#schedule.refusals = 0;
      return true;
    }
    this.#schedule.refusals++;
    this.#health.unacknowledged();
    if (this.#schedule.refusals >= REFUSALS || errno === EMSGSIZE)
      this.#health.set(refusal("heartbeats cannot be sent", errno, this.params.port));
    return false;
  }

  /** A new path has had the time that it needs, if both ends look for heartbeats. */
  get #isLate(): boolean {
    const time = this.params.clock.now() - this.#confirmedAt;
    return !this.established && time > FIRST_MS && this.#schedule.refusals === 0;
  }

  #checkSilence(): void {
    const now = this.params.clock.now();
    if (!this.#secured) {
      // Offers come by the control connection: no packet of the path is missing.
      if (this.#isLate) this.#health.set(overlayTrouble("not offered", NO_OFFER, this.params.port));
    } else if (!this.established) {
      if (this.#health.isTroubled || this.#asked) return;
      if (!this.params.acknowledges) {
        if (this.#isLate) this.#health.set(silence(FIRST_SILENCE, this.params.port));
      } else if (
        this.#isLate ||
        (!this.#reportedNone && !this.#schedule.acknowledged && now - this.#confirmedAt >= ASK_MS)
      )
        this.#ask();
    } else if (this.params.acknowledges) {
      if (this.#theirs.misses(now)) this.params.sendControl(CONTROL.missingHeartbeat, new Uint8Array());
    } else if (now - this.#lastHeard > SILENCE_MS && this.#schedule.refusals === 0) {
      this.#health.set(silence(`nothing heard for ${SILENCE_MS / 1000} s`, this.params.port));
    }
  }
}
