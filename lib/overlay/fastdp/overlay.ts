// The fast datapath as an overlay of the mesh: a forwarder for each connection. The kernel forwards the frames; forwarders
// find out whether they get through.
import { AddressError, type IPv4, parseIPv4 } from "../../address/ipv4.ts";
import { type Clock, sharedWait, type Timer } from "../../clock/clock.ts";
import { guarded } from "../../log/unexpected.ts";
import type { Peer } from "../../mesh/peer.ts";
import type { MeshRouter } from "../../mesh/router.ts";
import { monotonicNow } from "../../sys/clocks.ts";
import { EHOSTUNREACH } from "../../sys/errno.ts";
import type { CandidateConnection, CandidateParams, NamedOverlay } from "../candidate.ts";
import type { Datapath } from "../datapath/datapath.ts";
import {
  HEARTBEAT_PAYLOAD,
  NEW_NEIGHBOUR,
  type NeighbourEntry,
  type ReceivedHeartbeat,
} from "../datapath/maps.ts";
import { ENCAPSULATION } from "../encapsulation.ts";
import { GRACE_MS } from "../gracefulrestart.ts";
import { forgetPathMtus, pathMtuTo } from "../kernelmtu.ts";
import { fastdpPort } from "../ports.ts";
import { type OverlayCause, OverlayError, overlayTrouble } from "../trouble.ts";
import { networkIdentifier } from "../vxlan.ts";
import { decodeOffer, type Esp, encodeOffer } from "./esp.ts";
import { Forwarder } from "./forwarder.ts";
import { encodeHeartbeat, encodeVxlan, HeartbeatSender } from "./heartbeat.ts";
import { ACKNOWLEDGES, CONTROL, MAX_MTU, type PathTests, type Security, TESTS_PATHS } from "./protocol.ts";

/** Polling interval of all forwarders for heartbeats: while one is `watched`, and otherwise. */
const POLL_WATCHED_MS = 200;
const POLL_SLOW_MS = 1_000;
/** Those not established are polled after this, then at intervals of this part of the time since the last one was added. */
const POLL_FIRST_MS = 5;
const POLL_GROWTH = 1 / 4;

export interface FastdpConfig {
  /** Return the MTU of the network, in bytes. */
  mtu(): number;
  /** Measure what paths carry. */
  readonly measures: boolean;
  /** UDP port. */
  readonly port: number;
  /** Flows are cached. */
  readonly flowCache?: boolean;
}

/** What the kernel has counted of a peer. */
interface Reading {
  readonly heartbeat: ReceivedHeartbeat | undefined;
  readonly neighbour: NeighbourEntry;
}

const NOTHING: Reading = { heartbeat: undefined, neighbour: NEW_NEIGHBOUR };

export class FastdpOverlay implements NamedOverlay {
  readonly name = "fastdp";
  readonly #forwarders = new Map<Peer, Forwarder>();
  /** Of the last poll. */
  readonly #readings = new Map<Forwarder, Reading>();
  readonly #sender = new HeartbeatSender();
  #poll: Timer | undefined;
  /** When all forwarders are polled next, and when the last one was added, in ms of the clock. */
  #pollAllAt = Number.POSITIVE_INFINITY;
  #addedAt = 0;
  #frozen = false;
  readonly #timers = new Set<Timer>();

  constructor(
    private readonly datapath: Datapath,
    private readonly esp: Esp,
    private readonly config: FastdpConfig,
    private readonly mesh: () => MeshRouter | undefined,
    private readonly clock: Clock,
    /** Called when a forwarder becomes usable or unusable, or its address changes. */
    private readonly changed: () => void,
    /** Called when the measured MTU of a path changes. */
    private readonly measured: () => void,
  ) {
    this.#later(GRACE_MS, () => this.esp.settle());
    esp.onTrouble = () => this.linksChanged();
  }

  get port(): number {
    return this.config.port;
  }

  /** Leave the kernel's part as it is from now on, whatever stops. */
  freeze(): void {
    this.#frozen = true;
    for (const timer of this.#timers) timer.cancel();
  }

  stop(): void {
    this.#poll?.cancel();
    this.#sender.close();
  }

  /** Report trouble with links to all forwarders, or its end. */
  linksChanged(): void {
    for (const forwarder of [...this.#forwarders.values()]) forwarder.tick();
  }

  /** Return the addresses that VXLAN frames are accepted from. */
  sources(): Set<IPv4> {
    return new Set(Array.from(this.#forwarders.values(), ({ remoteAddress }) => remoteAddress));
  }

  /** Prepare a connection. Throws OverlayError where it cannot use the fast datapath. */
  prepare(params: CandidateParams): CandidateConnection {
    const { withoutFastdp } = this.datapath;
    if (withoutFastdp !== undefined) throw new OverlayError(withoutFastdp);
    if (params.sessionKey && this.esp.unavailable !== undefined) {
      throw this.#unusable("no encryption", this.esp.unavailable);
    }
    const theirPort = fastdpPort(params.remotePort);
    if (params.outbound && theirPort !== this.config.port) {
      const reason = `the peer's fast datapath uses UDP port ${theirPort}, ours ${this.config.port}`;
      throw this.#unusable("other port", reason);
    }
    const remoteAddress = this.#requireIPv4(params.remoteIp);
    this.datapath.expectHeartbeats(params.connectionUid);
    const forwarder: Forwarder = new Forwarder({
      clock: this.clock,
      connectionUid: params.connectionUid,
      remoteAddress,
      security: this.#security(params, this.#requireIPv4(params.localIp), remoteAddress),
      acknowledges: params.features.get(ACKNOWLEDGES.feature) === ACKNOWLEDGES.value,
      flowCache: this.config.flowCache === true,
      tests: this.#tests(params),
      mtu: () => this.config.mtu(),
      port: this.config.port,
      sendHeartbeat: (to, whole) => this.#sendHeartbeat(params.remotePeer, params.connectionUid, to, whole),
      look: () => this.#pollOne(forwarder),
      stopped: () => this.datapath.forgetHeartbeats(params.connectionUid),
      heartbeatMs: () => {
        const { heartbeat } = this.#reading(forwarder);
        return heartbeat && ageMs(heartbeat.at);
      },
      neighbour: () => this.#reading(forwarder).neighbour,
      ageMs,
      linkTrouble: () => this.datapath.fastdpTrouble ?? (params.sessionKey && this.esp.trouble),
      sendControl: params.sendControl,
      established: params.established,
      failed: params.failed,
      health: params.health,
      changed: () => this.#changed(params.remotePeer, forwarder),
    });
    return forwarder;
  }

  #unusable(cause: OverlayCause, reason: string): OverlayError {
    return new OverlayError(overlayTrouble(cause, reason, this.port));
  }

  #requireIPv4(ip: string): IPv4 {
    try {
      return parseIPv4(ip);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      throw this.#unusable("no IPv4", `the fast datapath needs an IPv4 address, not ${ip}`);
    }
  }

  /** Return how the frames of a connection are secured: by ESP, or not at all. */
  #security(params: CandidateParams, local: IPv4, remote: IPv4): Security {
    const { sessionKey, remotePeer } = params;
    const ourName = this.mesh()?.ourself.name;
    if (!sessionKey || ourName === undefined) {
      return { encrypted: false, start: () => this.esp.allowClear(local, remote), offered() {}, end() {} };
    }
    const lost = () =>
      params.restart(
        new Error("another program removed its ESP associations from the kernel; negotiating new keys"),
      );
    const path = { local, remote, ourName, theirName: remotePeer.name, sessionKey, lost };
    return {
      encrypted: true,
      start: () => params.sendControl(CONTROL.cryptoInitSaRemote, encodeOffer(this.esp.receive(path))),
      offered: (message) => this.esp.send(path, decodeOffer(message)),
      // Graceful restart: either router may only be restarting, while both kernels still forward.
      end: () => this.#later(GRACE_MS, () => this.esp.end(path)),
    };
  }

  /** Run something later, unless this router has stopped by then. */
  #later(ms: number, fn: () => void): void {
    if (this.#frozen) return;
    const timer = this.clock.after(ms, () => {
      this.#timers.delete(timer);
      fn();
    });
    this.#timers.add(timer);
  }

  /** Send a frame of ours to a neighbour by VXLAN, whichever overlay is in use. Returns 0 or an errno. */
  sendFrame(peer: Peer, frame: Uint8Array): number {
    const mesh = this.mesh();
    const to = this.#forwarders.get(peer)?.remoteAddress;
    if (!mesh || to === undefined || !peer.hasShortId) return EHOSTUNREACH;
    const vni = networkIdentifier(mesh.ourself.shortId, peer.shortId);
    return this.#sender.send(encodeVxlan(vni, frame), to, this.config.port);
  }

  #sendHeartbeat(peer: Peer, connectionUid: bigint, to: IPv4, whole: boolean): number {
    const mesh = this.mesh();
    if (!mesh || !peer.hasShortId) return 0;
    const vni = networkIdentifier(mesh.ourself.shortId, peer.shortId);
    const size = whole ? this.config.mtu() : HEARTBEAT_PAYLOAD;
    return this.#sender.send(encodeHeartbeat(vni, connectionUid, size), to, this.config.port);
  }

  #tests({ remotePeer, connectionUid, features }: CandidateParams): PathTests | undefined {
    if (features.get(TESTS_PATHS.feature) !== TESTS_PATHS.value) return undefined;
    const { port } = this.config;
    return {
      limit: (to) => {
        const mtu = this.config.measures ? pathMtuTo(to, port) : undefined;
        return mtu === undefined ? undefined : Math.min(MAX_MTU, mtu - ENCAPSULATION.fastdp.plain);
      },
      send: (to, mark, mtu) => {
        const mesh = this.mesh();
        if (!mesh || !remotePeer.hasShortId) return;
        const vni = networkIdentifier(mesh.ourself.shortId, remotePeer.shortId);
        this.#sender.send(encodeHeartbeat(vni, connectionUid, mtu, mark), to, port, true);
      },
      last: () => this.datapath.heartbeat(connectionUid),
      outgrown: forgetPathMtus,
      changed: this.measured,
    };
  }

  /** The MTU of the network has changed. */
  mtuChanged(): void {
    for (const forwarder of [...this.#forwarders.values()]) forwarder.mtuChanged();
  }

  #changed(peer: Peer, forwarder: Forwarder): void {
    if (forwarder.usable) {
      this.#forwarders.set(peer, forwarder);
      this.#addedAt = this.clock.now();
      this.#pollAllAt = Math.min(this.#pollAllAt, this.#addedAt + POLL_WATCHED_MS);
      this.#pollSoon();
    } else if (this.#forwarders.get(peer) === forwarder) {
      this.#forwarders.delete(peer);
      this.#readings.delete(forwarder);
    }
    this.changed();
  }

  /** Set the timer of the next poll, the only one: a poll may find a changed address, which calls this, too. */
  #pollSoon(): void {
    const { clock } = this;
    const now = clock.now();
    this.#poll?.cancel();
    const isNew = [...this.#forwarders.values()].some(({ established }) => !established);
    const soon = now + Math.max(POLL_FIRST_MS, POLL_GROWTH * (now - this.#addedAt));
    const all = !isNew || this.#pollAllAt <= soon;
    this.#poll = clock.after((all ? this.#pollAllAt : soon) - now, () => this.#pollDue(all));
  }

  /** Poll all forwarders, or only those that are not established. */
  #pollDue(all: boolean): void {
    for (const [peer, forwarder] of this.#forwarders) {
      if (!all && forwarder.established) continue;
      guarded(`fastdp to ${peer}`, () => {
        this.#pollOne(forwarder);
        forwarder.tick();
      });
    }
    if (all) this.#pollAllAt = this.clock.now() + this.#pollAllMs;
    if (this.#forwarders.size > 0) this.#pollSoon();
    else this.#pollAllAt = Number.POSITIVE_INFINITY;
  }

  get #pollAllMs(): number {
    const watched = [...this.#forwarders.values()].some((forwarder) => forwarder.watched);
    return watched ? POLL_WATCHED_MS : sharedWait(this.clock, POLL_SLOW_MS);
  }

  #reading(forwarder: Forwarder): Reading {
    return this.#readings.get(forwarder) ?? NOTHING;
  }

  #pollOne(forwarder: Forwarder): void {
    const before = latest(this.#reading(forwarder));
    const heartbeat = this.datapath.heartbeat(forwarder.connectionUid);
    const neighbour = this.datapath.neighbour(forwarder.remoteAddress);
    this.#readings.set(forwarder, { heartbeat, neighbour });
    forwarder.counted(neighbour.received, neighbour.sent);
    if (forwarder.established && neighbour.seen > before) forwarder.heard();
    if (heartbeat && heartbeat.at > before) forwarder.heartbeat(heartbeat);
  }
}

/** Return when a peer was last seen: CLOCK_MONOTONIC, in ns. */
const latest = ({ heartbeat, neighbour: { seen } }: Reading): bigint =>
  heartbeat && heartbeat.at > seen ? heartbeat.at : seen;

/** Return the age in ms of a time of CLOCK_MONOTONIC in ns. */
const ageMs = (at: bigint) => Number((monotonicNow() - at) / 1_000_000n);
