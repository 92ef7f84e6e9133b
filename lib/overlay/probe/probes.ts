// Probes of this router, and echoes to probes of others. Only probes of a session are echoed, which the peer has announced
// over the authenticated mesh: nobody on the network can make us send frames to others. The packet socket is open only
// while there is a session.

import type { Clock, Timer } from "../../clock/clock.ts";
import type { Random } from "../../clock/random.ts";
import { TokenBucket } from "../../clock/tokenbucket.ts";
import { type LimitedWarning, limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { AskError } from "../../mesh/ask.ts";
import type { PeerName } from "../../mesh/name.ts";
import { realtimeNow } from "../../sys/clocks.ts";
import { EMSGSIZE, ENXIO } from "../../sys/errno.ts";
import type { Limit } from "../../sys/limit.ts";
import { reasonOf } from "../../sys/reason.ts";
import { decodeProbe, encodeProbe, MIN_PROBE, type ProbeFrame, type Way } from "./frame.ts";
import { ProbeRun, type RunResult } from "./run.ts";
import { ProbeSocket } from "./socket.ts";

/** Polling interval while frames come, and while none do. Arrival times are the kernel's, and do not depend on it. */
const POLL_MS = 2;
const IDLE_POLL_MS = 25;
/** Fast polling goes on for so long after the last frame. */
const BUSY_MS = 1_000;
/** Frames per poll. */
const POLL_FRAMES = 256;
/** Lifetime of a peer's session. */
const SESSION_MS = 60_000;
/** Delay of closing the socket after the last session. */
const IDLE_MS = 3_000;
const MAX_SESSIONS = 128;
const MAX_SESSIONS_OF_ONE = 4;
/** Rate limit of a session's echoes: burst, and per second. */
const BURST = 256;
const PER_S = 400;

/** The probes of a session that have arrived. */
export interface Arrived {
  /** Short ones. */
  readonly probes: number;
  /** Bytes of the largest frame; 0 for none. */
  readonly largest: number;
}

interface Session {
  readonly peer: PeerName;
  readonly rate: TokenBucket;
  readonly arrived: Map<Way, { probes: number; largest: number }>;
  readonly expiry: Timer;
}

interface Running {
  readonly peer: PeerName;
  readonly way: Way;
  readonly run: ProbeRun;
}

export interface ProbeHost {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Our name: the bridge's Ethernet address. */
  readonly name: PeerName;
  /** MTU of containers, in bytes. */
  mtu(): number;
  /** Return the ifindex of the bridge. Throws where there is none. */
  bridge(): number;
  /** Send a frame by an overlay, in use or not; returns 0 or an errno. */
  sendBy(overlay: "fastdp" | "sleeve", peer: PeerName, frame: Uint8Array): number;
}

export class Probes {
  readonly #sessions = new Map<bigint, Session>();
  readonly #running = new Map<bigint, Running>();
  readonly #warn: LimitedWarning;
  #socket: Pick<ProbeSocket, "ifindex" | "send" | "receive" | "close"> | undefined;
  #poll: Timer | undefined;
  #closing: Timer | undefined;
  #lastFrame = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly host: ProbeHost,
    private readonly makeSocket: (
      ifindex: number,
    ) => Pick<ProbeSocket, "ifindex" | "send" | "receive" | "close"> = (ifindex) => new ProbeSocket(ifindex),
  ) {
    this.#warn = limitedWarnings(host.log, () => host.clock.now());
  }

  /**
   * Send probes to a peer that has admitted the session; rejects where there is no bridge to send them from. `settled` resolves
   * once the peer has read what arrived there, or where it cannot be asked.
   */
  run(
    session: bigint,
    peer: PeerName,
    way: Way,
    count: number,
    settled: () => Promise<unknown>,
  ): Promise<RunResult> {
    this.#open();
    const { clock, name } = this.host;
    return new Promise((resolve) => {
      const run = new ProbeRun({
        clock,
        count,
        mtu: this.host.mtu(),
        now: realtimeNow,
        send: (sequence, size) =>
          this.#send(
            way,
            peer,
            encodeProbe({ from: name, to: peer, kind: "probe", way, session, sequence, size, dwell: 0 }),
          ),
        settle: (then) => {
          const read = () => {
            this.#receive();
            if (this.#running.get(session)?.run === run) then();
          };
          const soon = () => clock.after(0, read);
          settled().then(soon, soon);
        },
        done: (result) => {
          this.#running.delete(session);
          this.#closeIfIdle();
          resolve(result);
        },
      });
      this.#running.set(session, { peer, way, run });
      run.start();
    });
  }

  /** Echo a peer's probes of a session from now on. Throws where there are too many sessions, or no bridge. */
  admit(session: bigint, peer: PeerName): void {
    const own = [...this.#sessions.values()].filter((each) => each.peer === peer).length;
    if (this.#sessions.size >= MAX_SESSIONS || own >= MAX_SESSIONS_OF_ONE || this.#sessions.has(session))
      throw new AskError("busy", "too many sessions of probes; try again in a minute");
    this.#open();
    const { clock } = this.host;
    const expiry = clock.after(SESSION_MS, () => this.#end(session));
    const rate = new TokenBucket(BURST, PER_S, clock.now());
    this.#sessions.set(session, { peer, rate, arrived: new Map(), expiry });
  }

  /** Echo what has arrived of a peer's session, and return it; undefined where there is no such session. */
  arrived(session: bigint, peer: PeerName): ReadonlyMap<Way, Arrived> | undefined {
    this.#receive();
    const known = this.#sessions.get(session);
    return known?.peer === peer ? known.arrived : undefined;
  }

  /** The same, and end the session. */
  settle(session: bigint, peer: PeerName): ReadonlyMap<Way, Arrived> | undefined {
    const arrived = this.arrived(session, peer);
    if (arrived) this.#end(session);
    return arrived;
  }

  limits(): Limit[] {
    return [{ name: "ping-sessions", value: this.#sessions.size, max: MAX_SESSIONS }];
  }

  stop(): void {
    for (const { run } of this.#running.values()) run.stop();
    this.#running.clear();
    for (const { expiry } of this.#sessions.values()) expiry.cancel();
    this.#sessions.clear();
    this.#close();
  }

  #end(session: bigint): void {
    this.#sessions.get(session)?.expiry.cancel();
    this.#sessions.delete(session);
    this.#closeIfIdle();
  }

  #open(): void {
    const ifindex = this.host.bridge();
    if (this.#socket?.ifindex === ifindex) return;
    this.#close();
    this.#socket = this.makeSocket(ifindex);
    this.#pollSoon();
  }

  #pollSoon(): void {
    const { clock } = this.host;
    const busy = this.#running.size > 0 || clock.now() - this.#lastFrame < BUSY_MS;
    this.#poll = clock.after(busy ? POLL_MS : IDLE_POLL_MS, () => {
      this.#receive();
      if (this.#socket) this.#pollSoon();
    });
  }

  #closeIfIdle(): void {
    if (this.#sessions.size > 0 || this.#running.size > 0) return;
    // Closing a packet socket waits for an RCU grace period: not after each of several runs.
    this.#closing?.cancel();
    this.#closing = this.host.clock.after(IDLE_MS, () => {
      if (this.#sessions.size === 0 && this.#running.size === 0) this.#close();
    });
  }

  #close(): void {
    this.#poll?.cancel();
    this.#closing?.cancel();
    this.#socket?.close();
    this.#socket = undefined;
  }

  #send(way: Way, peer: PeerName, frame: Uint8Array): number {
    if (way === "route") return this.#socket?.send(frame) ?? ENXIO;
    return this.host.sendBy(way, peer, frame);
  }

  #receive(): void {
    try {
      for (let i = 0; i < POLL_FRAMES; i++) {
        const arrival = this.#socket?.receive();
        if (!arrival) return;
        this.#lastFrame = this.host.clock.now();
        const frame = decodeProbe(arrival.frame);
        if (frame?.to !== this.host.name) continue;
        if (frame.kind === "probe") this.#probe(frame, arrival.at);
        else this.#echo(frame, arrival.at);
      }
    } catch (error) {
      // The bridge is gone: the next session opens a socket on the restored one.
      this.#warn("probes", `cannot receive probes: ${reasonOf(error)}`);
      this.#close();
    }
  }

  #probe(frame: ProbeFrame, at: bigint): void {
    const session = this.#sessions.get(frame.session);
    if (session?.peer !== frame.from || !session.rate.take(this.host.clock.now())) return;
    const { probes, largest } = session.arrived.get(frame.way) ?? { probes: 0, largest: 0 };
    // Longer ones belong to the search for the MTU.
    const short = frame.size === MIN_PROBE ? 1 : 0;
    session.arrived.set(frame.way, { probes: probes + short, largest: Math.max(largest, frame.size) });
    const dwell = Number(realtimeNow() - at);
    const echo = encodeProbe({ ...frame, kind: "echo", from: frame.to, to: frame.from, dwell });
    const errno = this.#send(frame.way, frame.from, echo);
    if (errno !== 0 && errno !== EMSGSIZE)
      this.#warn(`echo ${frame.from}`, `cannot answer probes: errno ${errno}`, { peer: frame.from });
  }

  #echo({ session, from, way, sequence, size, dwell }: ProbeFrame, at: bigint): void {
    const running = this.#running.get(session);
    if (running?.peer === from && running.way === way) running.run.echo(sequence, size, at, dwell);
  }
}
