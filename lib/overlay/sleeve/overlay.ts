// Sleeve as an overlay of the mesh: a forwarder for each connection, and the engine's thread.
import { closeSync } from "node:fs";
import { parseIPv4 } from "../../address/ipv4.ts";
import { type Clock, sharedWait, type Timer } from "../../clock/clock.ts";
import { Restarts } from "../../clock/restarts.ts";
import { type LimitedWarning, limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { detached, guarded, noteFailure, noteFatal } from "../../log/unexpected.ts";
import { nameToBytes, type PeerName } from "../../mesh/name.ts";
import type { Peer } from "../../mesh/peer.ts";
import type { Limit } from "../../sys/limit.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { CandidateConnection, CandidateParams, NamedOverlay } from "../candidate.ts";
import { forgetPathMtus } from "../kernelmtu.ts";
import { Counters, MAX_LINKS } from "./counters.ts";
import { StrangerFilter } from "./filter.ts";
import { AEGIS, type Cipher } from "./format.ts";
import { addressText, FAST_HEARTBEAT_MS, SleeveForwarder } from "./forwarder.ts";
import type { LinkKind, LinkParams, LinkSettings } from "./link.ts";
import type { FromEngine, ToEngine } from "./messages.ts";
import { MAX_SPECIALS } from "./queue.ts";
import type { ForwardingTables } from "./routes.ts";
import { openSleeveSocket } from "./socket.ts";
import { type EngineHandle, makeEngineThread } from "./thread.ts";

/** Tick interval while no forwarder is `hurried`; up to half a second more or less, with other timers. */
const CALM_TICK_MS = 2_500;

export interface SleeveConfig {
  readonly name: PeerName;
  /** Address to listen on; undefined for all. */
  readonly host: string | undefined;
  /** UDP port. */
  readonly port: number;
  readonly tapFd: number;
  readonly macsFd: number;
  /** This host can seal by AEGIS-256. */
  readonly aegis?: boolean | undefined;
}

export class SleeveOverlay implements NamedOverlay {
  readonly name = "sleeve";
  readonly counters = new Counters();
  readonly #forwarders = new Map<number, SleeveForwarder>();
  readonly #used = new Set<number>();
  readonly #udpFd: number;
  /** Undefined where the kernel refuses it. */
  readonly #filter: StrangerFilter | undefined;
  /** Names of the peers of links. */
  readonly #names = new Map<number, PeerName>();
  readonly #restarts: Restarts;
  /** Called for each connection when the engine fails. */
  readonly #failures = new Map<number, (error: Error) => void>();
  readonly #warn: LimitedWarning;
  #nextLink = 0;
  #ticker: Timer | undefined;
  /** The next tick comes soon. */
  #hurried = false;
  /** Why the engine has failed. */
  #dead: string | undefined;
  #stopped = false;
  #engine: EngineHandle;
  /** Returns the number of a peer. */
  #peerId: (peer: Peer) => number | undefined = () => undefined;
  /** The engine's crypto: "native" or "wasm"; undefined until it runs. */
  crypto: string | undefined;
  #aegis: boolean;

  constructor(
    private readonly config: SleeveConfig,
    private readonly clock: Clock,
    private readonly log: Log,
    /** Called when a forwarder becomes usable or unusable, or what its path carries changes. */
    private readonly changed: () => void,
    /** Called when the TAP link was removed. */
    private readonly tapRemoved: () => void,
    /** Called when the engine was restarted, without any links and tables. */
    private readonly restarted: () => void,
    private readonly makeEngine = makeEngineThread,
  ) {
    this.#warn = limitedWarnings(log, () => clock.now());
    this.#aegis = config.aegis ?? false;
    const host = config.host === undefined ? 0 : parseIPv4(config.host);
    this.#udpFd = openSleeveSocket(host, config.port);
    this.#filter = this.#filterStrangers();
    this.#restarts = new Restarts("the sleeve engine", clock);
    this.#engine = this.#startEngine();
  }

  #startEngine(): EngineHandle {
    const { tapFd, macsFd, name } = this.config;
    const setup = {
      tapFd,
      udpFd: this.#udpFd,
      macsFd,
      aegis: this.#aegis,
      name: nameToBytes(name),
      counters: this.counters.memory,
    };
    return this.makeEngine(setup, this.clock, {
      received: (message) => this.#received(message),
      failed: (reason) => this.#failed(reason),
    });
  }

  #filterStrangers(): StrangerFilter | undefined {
    try {
      return new StrangerFilter(this.#udpFd);
    } catch (error) {
      this.log.warning(
        `cannot filter datagrams of unknown peers, so they wake the sleeve engine: ${reasonOf(error)}`,
      );
      return undefined;
    }
  }

  start(peerId: (peer: Peer) => number | undefined): void {
    this.#peerId = peerId;
  }

  /** Stop the engine. Resolves with true once it has released its files, false if it does not in time. */
  async stop(): Promise<boolean> {
    this.#stopped = true;
    this.#ticker?.cancel();
    this.#restarts.cancel();
    const ended = await this.#engine.stop();
    if (ended) closeSync(this.#udpFd);
    this.#filter?.close();
    return ended;
  }

  /** The TAP link is back, under the same fd. */
  tapRestored(): void {
    this.#post({ type: "tapRestored" });
  }

  /** Return the counters of the engine, with those of datagrams that the kernel dropped for it. */
  diagnostics(): Record<string, unknown> {
    return { crypto: this.crypto ?? "", ...this.counters.all(), strangers: this.#filter?.dropped ?? 0 };
  }

  /** Return what status says of the engine. */
  notes(): string[] {
    return [...this.#restarts.notes(), ...(this.#dead === undefined ? [] : [this.#dead])];
  }

  limits(): Limit[] {
    return [
      { name: "sleeve-links", value: this.#used.size, max: MAX_LINKS },
      { name: "sleeve-engine-messages", value: this.#engine.waiting ?? 0, max: MAX_SPECIALS },
    ];
  }

  get port(): number {
    return this.config.port;
  }

  /** Return the features to announce: the ciphers beside the original's. */
  features(): Record<string, string> {
    return this.#aegis ? { [AEGIS.feature]: AEGIS.value } : {};
  }

  #cipher({ sessionKey, features }: CandidateParams): Cipher | undefined {
    if (!sessionKey) return undefined;
    return this.#aegis && features.get(AEGIS.feature) === AEGIS.value ? AEGIS.value : "secretbox";
  }

  prepare(params: CandidateParams): CandidateConnection {
    const peer = this.#peerId(params.remotePeer);
    if (this.#dead !== undefined) throw new Error(this.#dead);
    if (peer === undefined) throw new Error("too many peers for the link numbers of sleeve");
    const cipher = this.#cipher(params);
    const { remotePeer, sessionKey: key, outbound } = params;
    const index = this.addLink("sleeve", peer, remotePeer.name, { key, outbound, ...(cipher && { cipher }) });
    const local = this.config.host ?? params.localIp;
    const forwarder: SleeveForwarder = new SleeveForwarder({
      clock: this.clock,
      connectionUid: params.connectionUid,
      cipher,
      remote: params.outbound ? { address: parseIPv4(params.remoteIp), port: params.remotePort } : undefined,
      local: parseIPv4(local),
      port: this.config.port,
      sendSpecial: (df, size, uid, probe = false) =>
        this.#post({ type: "special", index, df, size, uid, probe }),
      sendControl: params.sendControl,
      established: params.established,
      health: params.health,
      changed: (settings) => {
        this.setLink(index, settings);
        this.changed();
      },
      log: this.log.with({ overlay: "sleeve", peer: `${params.remotePeer}`, address: params.remoteIp }).info,
      preferred: params.preferred,
      outgrown: forgetPathMtus,
      heard: () => this.counters.lastHeard(index),
      carried: () => this.counters.lastCarried(index),
      frames: () => this.counters.frames(index),
      refusal: () => this.counters.refusal(index),
    });
    this.#forwarders.set(index, forwarder);
    this.#failures.set(index, params.failed);
    return {
      confirm: () => {
        forwarder.confirm();
        if (!this.#hurried) this.#tickSoon();
      },
      control: (tag, message) => forwarder.control(tag, message),
      suspect: () => forwarder.suspect(),
      attributes: () => forwarder.attributes(),
      vitals: () => forwarder.vitals(),
      stop: () => {
        forwarder.stop();
        this.#forwarders.delete(index);
        this.#failures.delete(index);
        this.removeLink(index);
        this.changed();
      },
      get route() {
        return forwarder.usable ? { kind: "sleeve" as const, link: index } : undefined;
      },
      get remotePort() {
        return forwarder.remotePort;
      },
      get pathMtu() {
        return forwarder.pathMtu;
      },
    };
  }

  /** Add a link to the engine. Returns its number; throws when there are too many. */
  addLink(
    kind: LinkKind,
    peer: number,
    name: PeerName,
    sealing: Pick<LinkParams, "key" | "cipher" | "outbound"> = { key: undefined, outbound: false },
  ): number {
    if (this.#used.size >= MAX_LINKS) throw new Error(`limit of ${MAX_LINKS} links reached`);
    while (this.#used.has(this.#nextLink)) this.#nextLink = (this.#nextLink + 1) % MAX_LINKS;
    const index = this.#nextLink;
    // Not the number freed last: messages of that link may still be in flight.
    this.#nextLink = (index + 1) % MAX_LINKS;
    this.#used.add(index);
    this.counters.resetLink(index);
    if (kind === "sleeve") {
      this.#names.set(index, name);
      this.#filter?.allow(name, index);
    }
    this.#post({ type: "add", params: { kind, index, peer, name: nameToBytes(name), ...sealing } });
    return index;
  }

  setLink(index: number, settings: LinkSettings): void {
    const name = this.#names.get(index);
    if (name !== undefined) this.#filter?.allow(name, index, settings.remote?.address);
    this.#post({ type: "set", index, settings });
  }

  removeLink(index: number): void {
    this.#used.delete(index);
    const name = this.#names.get(index);
    this.#names.delete(index);
    if (name !== undefined) this.#filter?.remove(name, index);
    this.#post({ type: "remove", index });
  }

  /** Send a whole frame of ours to the peer at the other end of a link; one that does not fit is dropped. */
  sendFrame(index: number, frame: Uint8Array): void {
    this.#post({ type: "frame", index, frame });
  }

  configure(tables: ForwardingTables): void {
    this.#post({ type: "tables", tables });
  }

  #tickSoon(): void {
    this.#ticker?.cancel();
    const forwarders = [...this.#forwarders.values()];
    this.#hurried = forwarders.some((forwarder) => forwarder.hurried);
    if (forwarders.length === 0) return;
    const wait = this.#hurried ? FAST_HEARTBEAT_MS : sharedWait(this.clock, CALM_TICK_MS);
    this.#ticker = this.clock.after(wait, () => {
      for (const forwarder of this.#forwarders.values()) guarded("sleeve", () => forwarder.tick());
      // Without another wake-up.
      this.#engine.flush();
      this.#tickSoon();
    });
  }

  #post(message: ToEngine): void {
    if (this.#dead === undefined) this.#engine.post(message);
  }

  /** Fail all connections: the engine's sequence numbers are lost, and no nonce must be used twice. */
  #failed(reason: string): void {
    if (this.#stopped) return;
    this.#dead = `the sleeve engine has ended: ${reason}`;
    this.log.error(this.#dead);
    const failures = [...this.#failures.values()];
    for (const forwarder of this.#forwarders.values()) guarded("sleeve", () => forwarder.stop());
    this.#forwarders.clear();
    this.#failures.clear();
    this.#used.clear();
    this.#names.clear();
    this.#filter?.clear();
    for (const fail of failures) guarded("sleeve", () => fail(new Error(this.#dead)));
    detached("restarting the sleeve engine", this.#startAgain(reason));
  }

  async #startAgain(reason: string): Promise<void> {
    if (!(await this.#engine.stop())) {
      this.#dead = `the sleeve engine hangs and does not end: ${reason}`;
      return noteFatal("the sleeve engine", new Error(this.#dead));
    }
    if (!this.#stopped) this.#restarts.after(reason, () => this.#restart());
  }

  #restart(): void {
    try {
      this.#engine = this.#startEngine();
    } catch (error) {
      // No files are left, or no memory.
      const reason = reasonOf(error);
      this.#dead = `the sleeve engine cannot be restarted: ${reason}; retrying`;
      this.log.error(this.#dead);
      this.#restarts.after(reason, () => this.#restart());
      return;
    }
    this.#dead = undefined;
    // Those of relay links that were asked for meanwhile.
    this.#used.clear();
    this.log.info("restarted the sleeve engine");
    this.restarted();
  }

  #received(message: FromEngine): void {
    switch (message.type) {
      case "ready":
        this.crypto = message.crypto;
        if (!message.aegis) this.#aegis = false;
        return;
      case "special": {
        const { length, from } = message.frame;
        this.log.debug("received a special frame", { overlay: "sleeve", length, address: addressText(from) });
        this.#forwarders.get(message.index)?.special(message.frame);
        return;
      }
      case "tooBig":
        this.#forwarders.get(message.index)?.tooBig(message.mtu);
        return;
      case "tapRemoved":
        return this.tapRemoved();
      case "error":
        if (message.stack !== undefined) noteFailure("the sleeve engine", thrown(message));
        return this.#warn("error", `sleeve lost a frame: ${message.reason}`);
    }
  }
}

/** Return the error that the engine has told of. */
const thrown = ({ reason, stack }: { reason: string; stack?: string | undefined }) =>
  Object.assign(new Error(reason), { stack });
