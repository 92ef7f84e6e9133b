// One connection's part of sleeve, as a pure state machine (weave: router/sleeve.go): fast heartbeats until the peer
// acknowledges them, slow ones after that; the peer's address, learned from its heartbeats; fragments and MTU of the path
// (path.ts). The engine forwards the frames.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Clock, Timer } from "../../clock/clock.ts";
import type { OverlayConnection, OverlayVitals } from "../../mesh/overlay.ts";
import { TrafficMeter } from "../meter.ts";
import { isTransient, refusal as refusalTrouble } from "../refusal.ts";
import { type OverlayTrouble, overlayTrouble } from "../trouble.ts";
import {
  AEGIS,
  type Cipher,
  CONTROL,
  DISCOVERY_SIZE,
  decodeMtuVerified,
  encodeMtuVerified,
  FRAGMENT_TEST_SIZE,
  HEARTBEAT_SIZE,
  MAX_DATAGRAM,
  mtuTestSize,
  overhead,
} from "./format.ts";
import type { LinkSettings, Remote, SpecialFrame } from "./link.ts";
import { Path } from "./path.ts";

export const FAST_HEARTBEAT_MS = 500;
/** Further first heartbeats, ms after confirmation: the peer may not be ready for the first. */
const EARLY_HEARTBEATS_MS = [30, 100];
const SLOW_HEARTBEAT_MS = 10_000;
/** Datagrams do not get through if nothing comes for so long: six slow heartbeats. */
const SILENCE_MS = 60_000;
/** Nothing arrives at a peer that answers no test for so long, after a first search without answers of 20 s. */
const UNANSWERED_MS = 40_000;
/**
 * The path is tested this long after the peer has acknowledged a heartbeat, if frames go by it then; else as soon as they
 * do, or within UNUSED_MS: routers that start together would test each path to each other at once.
 */
const TESTS_MS = 300;
const UNUSED_MS = 30_000;
/** Errors of our own kernel count as trouble after this: several heartbeats. */
const REFUSED_MS = 1_500;

export interface SleeveForwarderParams {
  readonly clock: Clock;
  readonly connectionUid: bigint;
  readonly cipher: Cipher | undefined;
  /** The peer's UDP address; the end that accepted the connection learns it from a heartbeat. */
  readonly remote: Remote | undefined;
  /** Our address on the control connection. */
  readonly local: number;
  /** UDP port of sleeve, for texts. */
  readonly port: number;
  /** Send a special frame: a heartbeat with `uid`, else zeros; `probe` as for PathParams.test. */
  sendSpecial(df: boolean, size: number, uid?: bigint, probe?: boolean): void;
  sendControl(tag: number, message: Uint8Array): void;
  established(): void;
  /** Called with why frames do not get through any more; with undefined when they do again. */
  health(trouble: OverlayTrouble | undefined): void;
  /** Called with new settings for the engine. */
  changed(settings: LinkSettings): void;
  log(text: string): void;
  /** Return true while frames of pods go by this overlay. */
  preferred(): boolean;
  /** Called when the path takes more than the MTU that the kernel has cached. */
  outgrown(): void;
  // Times by the engine: of the last datagram from the peer, of the last frame of pods to it; only changes count.
  heard(): number;
  carried(): number;
  /** Return the bytes of frames of pods by the engine's link. */
  frames(): { readonly received: number; readonly sent: number };
  /** Return the errno of the last datagram to the peer, 0 where it was sent. */
  refusal(): number;
}

export class SleeveForwarder implements OverlayConnection {
  #remote: Remote | undefined;
  #confirmed = false;
  #stopped = false;
  #acknowledgedOurs = false;
  #acknowledgedTheirs = false;
  #confirmedAt = 0;
  /** When the first heartbeat was acknowledged, ms. */
  #acknowledgedAt = 0;
  #testing: Timer | undefined;
  #trouble: OverlayTrouble | undefined;
  /** Since when our own kernel has refused all datagrams. */
  #refusedSince: number | undefined;
  /** When a tick last found that datagrams of the peer had come. */
  #lastHeard: number;
  #lastHeartbeat = 0;
  // As of the last tick.
  #heard = 0;
  #carried = 0;
  #lastSent = Number.NEGATIVE_INFINITY;
  readonly #path: Path;
  readonly #traffic: TrafficMeter;

  constructor(private readonly params: SleeveForwarderParams) {
    this.#remote = params.remote;
    this.#lastHeard = params.clock.now();
    this.#traffic = new TrafficMeter(this.#lastHeard, 0, 0);
    const { clock, cipher, sendSpecial } = params;
    this.#path = new Path({
      clock,
      cipher,
      test: (mtu, probe) => sendSpecial(true, mtuTestSize(mtu), undefined, probe),
      testFragments: () => sendSpecial(false, FRAGMENT_TEST_SIZE),
      askKernel: () => sendSpecial(true, Math.min(DISCOVERY_SIZE, MAX_DATAGRAM - overhead(cipher))),
      outgrown: () => params.outgrown(),
      changed: () => this.#changed(),
      log: (text) => params.log(text),
    });
    this.#changed();
  }

  /** Frames can be sent. */
  get usable(): boolean {
    return this.#confirmed && !this.#stopped && this.#remote !== undefined;
  }

  /** Bytes of payload that the path carries, as tested; undefined as long as no search has ended. */
  get pathMtu(): number | undefined {
    return this.usable ? this.#path.measured : undefined;
  }

  /** Source UDP port of the peer's heartbeats. */
  get remotePort(): number | undefined {
    return this.#acknowledgedTheirs ? this.#remote?.port : undefined;
  }

  /** Heartbeats are fast: the peer has not acknowledged, or our kernel refuses datagrams. */
  get hurried(): boolean {
    return this.#confirmed && (!this.#acknowledgedOurs || this.#refusedSince !== undefined);
  }

  confirm(): void {
    if (this.#confirmed) return;
    this.#confirmed = true;
    this.#lastHeard = this.params.clock.now();
    this.#confirmedAt = this.#lastHeard;
    this.#changed();
    this.tick();
    for (const ms of EARLY_HEARTBEATS_MS) {
      this.params.clock.after(ms, () => {
        if (!this.#stopped && !this.#acknowledgedOurs) this.#sendHeartbeat();
      });
    }
  }

  /** To be called every FAST_HEARTBEAT_MS where `hurried`, else every few seconds. */
  tick(): void {
    if (!this.#confirmed || this.#stopped) return;
    const now = this.params.clock.now();
    this.#watch(now);
    const carried = this.params.carried();
    const carrying = carried !== this.#carried;
    this.#carried = carried;
    const used = carrying || (this.params.preferred() && now - this.#acknowledgedAt >= TESTS_MS);
    if (this.#acknowledgedOurs && used) this.#startTests();
    this.#path.tick({ preferred: this.params.preferred(), carrying });
    const interval = this.hurried ? FAST_HEARTBEAT_MS : SLOW_HEARTBEAT_MS;
    if (now - this.#lastSent < interval) return;
    this.#sendHeartbeat();
  }

  control(tag: number, message: Uint8Array): void {
    switch (tag) {
      case CONTROL.established:
        return this.#acknowledged();
      case CONTROL.fragmentsReceived:
        if (!this.#stopped) this.#path.fragmentsReceived();
        return;
      case CONTROL.mtuVerified: {
        const mtu = decodeMtuVerified(message);
        if (mtu !== undefined && !this.#stopped) this.#path.verified(mtu);
        return;
      }
      default:
        this.params.log(`ignoring unknown control message ${tag}`);
    }
  }

  /** Take a special frame of the peer. */
  special(frame: SpecialFrame): void {
    if (this.#stopped) return;
    if (frame.length === HEARTBEAT_SIZE) return this.#heartbeat(frame);
    if (!frame.zeros) return;
    if (frame.length === FRAGMENT_TEST_SIZE) {
      return this.params.sendControl(CONTROL.fragmentsReceived, new Uint8Array());
    }
    this.params.sendControl(CONTROL.mtuVerified, encodeMtuVerified(frame.length - ETHERNET_HEADER));
  }

  /** Our kernel refused a datagram: the path takes packets of `mtu` bytes, with all headers. */
  tooBig(mtu: number): void {
    if (!this.#stopped) this.#path.tooBig(mtu);
  }

  /** Test whether large packets still get through. */
  suspect(): void {
    if (this.#stopped || !this.#acknowledgedOurs) return;
    this.#startTests();
    this.#path.suspect();
  }

  stop(): void {
    this.#stopped = true;
    this.#testing?.cancel();
    this.#path.stop();
  }

  vitals(): OverlayVitals {
    const now = this.params.clock.now();
    this.#hear(now);
    const { received, sent } = this.params.frames();
    const works = this.usable && this.#acknowledgedTheirs && this.#trouble === undefined;
    return {
      // Frames of pods, too, show that the peer's router is alive.
      heardMs: this.#heard === 0 ? undefined : now - this.#lastHeard,
      beatMs: works ? SLOW_HEARTBEAT_MS : undefined,
      framesMs: undefined,
      ...this.#traffic.traffic(now, received, sent),
    };
  }

  attributes(): Record<string, string | number> {
    const { cipher } = this.params;
    return { name: "sleeve", mtu: this.#path.mtu, ...(cipher === AEGIS.value && { cipher }) };
  }

  #heartbeat({ uid, from }: SpecialFrame): void {
    if (uid !== this.params.connectionUid) return;
    this.#lastHeartbeat = this.params.clock.now();
    this.#hear(this.#lastHeartbeat);
    const known = this.#remote;
    if (known?.address !== from.address || known.port !== from.port) {
      if (known) this.params.log(`the UDP address of the peer has changed to ${addressText(from)}`);
      this.#remote = from;
      this.#changed();
      if (this.#confirmed) this.#sendHeartbeat();
    }
    if (!this.#acknowledgedTheirs) {
      this.#acknowledgedTheirs = true;
      this.params.sendControl(CONTROL.established, new Uint8Array());
    }
  }

  #acknowledged(): void {
    if (this.#acknowledgedOurs) return;
    this.#acknowledgedOurs = true;
    this.#acknowledgedAt = this.params.clock.now();
    this.params.established();
    if (this.#stopped) return;
    this.#path.look();
    this.#testing = this.params.clock.after(TESTS_MS, () => {
      if (this.params.preferred()) return this.#startTests();
      const spread = Number(this.params.connectionUid % BigInt(UNUSED_MS));
      this.#testing = this.params.clock.after(spread, () => this.#startTests());
    });
  }

  #startTests(): void {
    this.#testing?.cancel();
    this.#path.start(this.#acknowledgedAt - this.#confirmedAt);
  }

  #changed(): void {
    const remote = this.#confirmed && !this.#stopped ? this.#remote : undefined;
    const { mtu, fragments } = this.#path;
    this.params.changed({ remote, local: this.params.local, mtu, fragments });
  }

  #sendHeartbeat(): void {
    if (!this.#remote) return;
    this.#lastSent = this.params.clock.now();
    this.params.sendSpecial(true, HEARTBEAT_SIZE, this.params.connectionUid);
  }

  #hear(now: number): void {
    const heard = this.params.heard();
    if (heard !== this.#heard) this.#lastHeard = now;
    this.#heard = heard;
  }

  #watch(now: number): void {
    this.#hear(now);
    const { received, sent } = this.params.frames();
    this.#traffic.sample(now, received, sent);
    const refusal = this.params.refusal();
    if (refusal === 0 || isTransient(refusal)) this.#refusedSince = undefined;
    else this.#refusedSince ??= now;
    const trouble = this.#troubleAt(now, refusal);
    if (trouble?.reason === this.#trouble?.reason) return;
    this.#trouble = trouble;
    this.params.health(trouble);
  }

  #troubleAt(now: number, refusal: number): OverlayTrouble | undefined {
    const { port } = this.params;
    if (this.#refusedSince !== undefined && now - this.#refusedSince >= REFUSED_MS)
      return refusalTrouble("datagrams cannot be sent", refusal, port);
    const silent = (what: string) => overlayTrouble("silent", `${what}: is UDP ${port} blocked?`, port);
    if (now - this.#lastHeard > SILENCE_MS) return silent(`nothing heard for ${SILENCE_MS / 1000} s`);
    // A peer that sends heartbeats meanwhile is not busy: it would answer tests that arrive.
    const since = this.#path.unansweredSince;
    const isOneWay = since !== undefined && now - since > UNANSWERED_MS && this.#lastHeartbeat > since;
    return isOneWay ? silent("nothing arrives at the peer any more") : undefined;
  }
}

export function addressText({ address, port }: Remote): string {
  return `${[24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".")}:${port}`;
}
