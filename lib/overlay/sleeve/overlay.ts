// Sleeve as an overlay of the mesh: forwarders for its connections, and the engine's thread.
import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { parseIPv4 } from "../../address/ipv4.ts";
import type { Clock, Timer } from "../../clock/clock.ts";
import { sysctlSet } from "../../host/sysctl.ts";
import { limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { guarded } from "../../log/unexpected.ts";
import { nameToBytes, type PeerName } from "../../mesh/name.ts";
import type { Peer } from "../../mesh/peer.ts";
import { closePipe, MessageReader, MessageWriter, openPipe } from "../../sys/pipe.ts";
import { type Watch, watchReadable } from "../../sys/readable.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { CandidateConnection, CandidateParams, NamedOverlay } from "../switch.ts";
import { Counters, MAX_LINKS } from "./counters.ts";
import type { ForwardingTables } from "./engine.ts";
import { addressText, FAST_HEARTBEAT_MS, SleeveForwarder } from "./forwarder.ts";
import type { LinkKind, LinkSettings } from "./link.ts";
import type { EngineSetup, FromEngine, ToEngine } from "./messages.ts";
import { queueForEngine } from "./queue.ts";
import { openSleeveSocket } from "./udp.ts";

/** The engine's program: in an executable all modules but entry points lie in one folder. */
const WORKER = import.meta.path.startsWith("/$bunfs/") ? "./lib/overlay/sleeve/worker.ts" : "./worker.ts";

/** Forwarders whose peer has answered are looked after this often. */
const CALM_TICK_MS = 2_500;

const TELL_DELAY_MS = 2;
/** While the engine has not taken the last messages yet. */
const TELL_AGAIN_MS = 20;
/** An engine that takes nothing for so long is told of in status. */
const STUCK_MS = 3_000;

/** An engine that does not end in time is left to the end of the process. */
const STOP_MS = 1_000;

export interface SleeveConfig {
  readonly name: PeerName;
  /** Address to listen on; undefined for all. */
  readonly host: string | undefined;
  /** UDP port. */
  readonly port: number;
  readonly tapFd: number;
  readonly macsFd: number;
}

export class SleeveOverlay implements NamedOverlay {
  readonly name = "sleeve";
  readonly counters = new Counters();
  readonly #forwarders = new Map<number, SleeveForwarder>();
  readonly #used = new Set<number>();
  /** To the engine, and from it: it does not wait for us. */
  readonly #down = openPipe();
  readonly #up = openPipe();
  readonly #writer = new MessageWriter(this.#down.writeFd);
  readonly #watch: Watch;
  readonly #udpFd: number;
  readonly #ended: Promise<true>;
  /** How connections are told that the engine is no more. */
  readonly #failures = new Map<number, (error: Error) => void>();
  readonly #warn: (kind: string, text: string) => void;
  #nextLink = 0;
  #ticker: Timer | undefined;
  /** The next tick comes soon. */
  #hurried = false;
  /** Why the engine is no more. */
  #dead: string | undefined;
  #stopping = false;
  readonly #waiting: ToEngine[] = [];
  #stuckSince: number | undefined;
  #telling: Timer | undefined;
  #ready = false;
  /** Number of a peer, for the engine; the topology knows it. */
  #peerId: (peer: Peer) => number | undefined = () => undefined;
  /** How its messages are sealed: "native" or "wasm"; undefined until it runs. */
  crypto: string | undefined;

  constructor(
    private readonly config: SleeveConfig,
    private readonly clock: Clock,
    private readonly log: Log,
    /** A forwarder has become usable, or is so no longer. */
    private readonly changed: () => void,
    /** The TAP link was removed. */
    private readonly tapGone: () => void,
  ) {
    this.#warn = limitedWarnings(log, () => clock.now());
    const host = config.host === undefined ? 0 : parseIPv4(config.host);
    this.#udpFd = openSleeveSocket(host, config.port);
    const reader = new MessageReader();
    this.#watch = watchReadable(
      this.#up.readFd,
      (piece) => {
        for (const message of reader.take(piece) as FromEngine[]) this.#received(message);
      },
      (error) => this.#failed(error.message),
    );
    const setup: EngineSetup = {
      readFd: this.#down.readFd,
      writeFd: this.#up.writeFd,
      tapFd: config.tapFd,
      udpFd: this.#udpFd,
      macsFd: config.macsFd,
      name: nameToBytes(config.name),
      counters: this.counters.memory,
    };
    const worker = new Worker(new URL(WORKER, import.meta.url), { workerData: setup });
    worker.on("error", (error: Error) => this.#failed(error.message));
    this.#ended = new Promise((resolve) =>
      worker.once("exit", () => {
        if (!this.#stopping) this.#failed("its thread has ended");
        resolve(true);
      }),
    );
  }

  start(peerId: (peer: Peer) => number | undefined): void {
    this.#peerId = peerId;
  }

  /**
   * Ends the engine; resolves with true when it has let go of its files. One that does not end in time has them until
   * the process ends: under their numbers it would find others' files.
   */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    this.#ticker?.cancel();
    this.#tell({ type: "stop" });
    this.#tellAll();
    const ended = await Promise.race([this.#ended, Bun.sleep(STOP_MS).then(() => false)]);
    this.#telling?.cancel();
    this.#watch.stop();
    if (!ended) return false;
    closeSync(this.#up.writeFd);
    closePipe(this.#down);
    closeSync(this.#udpFd);
    return true;
  }

  /** The TAP link is there again, behind the same file. */
  tapBack(): void {
    this.#tell({ type: "tapBack" });
  }

  /** What status says of the engine. */
  notes(): string[] {
    if (this.#dead !== undefined) return [`${this.#dead}; launch weave again`];
    const stuck = this.#stuckSince === undefined ? 0 : this.clock.now() - this.#stuckSince;
    return stuck < STUCK_MS
      ? []
      : [`the sleeve engine has taken no message for ${Math.round(stuck / 1000)} s`];
  }

  prepare(params: CandidateParams): CandidateConnection {
    const peer = this.#peerId(params.remotePeer);
    if (this.#dead !== undefined) throw new Error(this.#dead);
    if (peer === undefined) throw new Error("there are more peers than numbers for them");
    const index = this.addLink("sleeve", peer, params.remotePeer.name, params.sessionKey, params.outbound);
    const local = this.config.host ?? params.localIp;
    const forwarder: SleeveForwarder = new SleeveForwarder({
      clock: this.clock,
      connectionUid: params.connectionUid,
      encrypted: params.sessionKey !== undefined,
      remote: params.outbound ? { address: parseIPv4(params.remoteIp), port: params.remotePort } : undefined,
      local: parseIPv4(local),
      port: this.config.port,
      sendSpecial: (df, size, uid, probe = false) =>
        this.#tell({ type: "special", index, df, size, uid, probe }),
      sendControl: params.sendControl,
      established: params.established,
      health: params.health,
      changed: (settings) => {
        this.setLink(index, settings);
        this.changed();
      },
      log: (text) => this.log.info(`sleeve ->[${params.remoteIp}|${params.remotePeer}]: ${text}`),
      preferred: params.preferred,
      outgrown: forgetPathMtus,
      heard: () => this.counters.lastHeard(index),
      carried: () => this.counters.lastCarried(index),
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
    };
  }

  /** Tells the engine of a link; returns its number. Throws when there are too many. */
  addLink(kind: LinkKind, peer: number, name: PeerName, key?: Uint8Array, outbound = false): number {
    if (this.#used.size >= MAX_LINKS) throw new Error(`there are ${MAX_LINKS} links already`);
    while (this.#used.has(this.#nextLink)) this.#nextLink = (this.#nextLink + 1) % MAX_LINKS;
    const index = this.#nextLink;
    // Not that of the link before it: something of that one may still be on its way from the engine.
    this.#nextLink = (index + 1) % MAX_LINKS;
    this.#used.add(index);
    this.counters.resetLink(index);
    this.#tell({ type: "add", params: { kind, index, peer, name: nameToBytes(name), key, outbound } });
    return index;
  }

  setLink(index: number, settings: LinkSettings): void {
    this.#tell({ type: "set", index, settings });
  }

  removeLink(index: number): void {
    this.#used.delete(index);
    this.#tell({ type: "remove", index });
  }

  configure(tables: ForwardingTables): void {
    this.#tell({ type: "tables", tables });
  }

  #tickSoon(): void {
    this.#ticker?.cancel();
    const forwarders = [...this.#forwarders.values()];
    this.#hurried = forwarders.some((forwarder) => forwarder.hurried);
    if (forwarders.length === 0) return;
    this.#ticker = this.clock.after(this.#hurried ? FAST_HEARTBEAT_MS : CALM_TICK_MS, () => {
      for (const forwarder of this.#forwarders.values()) guarded("sleeve", () => forwarder.tick());
      this.#tickSoon();
    });
  }

  /** Messages are told together: when routers start together there are many. */
  #tell(message: ToEngine): void {
    if (this.#dead !== undefined) return;
    queueForEngine(this.#waiting, message);
    if (this.#ready) this.#telling ??= this.clock.after(TELL_DELAY_MS, () => this.#tellAll());
  }

  /** Writes what waits; never waits itself for an engine that is slow, or stuck. */
  #tellAll(): void {
    this.#telling?.cancel();
    this.#telling = undefined;
    if (this.#dead !== undefined) return;
    try {
      this.#writer.flush();
      if (this.#writer.backlog === 0 && this.#waiting.length > 0) this.#writer.write(this.#waiting.splice(0));
    } catch (error) {
      return this.#failed(reasonOf(error));
    }
    if (this.#writer.backlog === 0) this.#stuckSince = undefined;
    else {
      this.#stuckSince ??= this.clock.now();
      this.#telling = this.clock.after(TELL_AGAIN_MS, () => this.#tellAll());
    }
  }

  #failed(reason: string): void {
    if (this.#dead !== undefined) return;
    this.#dead = `the sleeve engine has ended: ${reason}`;
    this.log.error(this.#dead);
    for (const fail of [...this.#failures.values()]) fail(new Error(this.#dead));
  }

  #received(message: FromEngine): void {
    switch (message.type) {
      case "ready":
        this.crypto = message.crypto;
        this.#ready = true;
        return this.#tellAll();
      case "special": {
        const { length, address, port, uid, zeros } = message;
        this.log.debug(`sleeve: special frame of ${length} bytes from ${addressText({ address, port })}`);
        this.#forwarders.get(message.index)?.special({ length, from: { address, port }, uid, zeros });
        return;
      }
      case "tooBig":
        this.#forwarders.get(message.index)?.tooBig(message.mtu);
        return;
      case "tapGone":
        return this.tapGone();
      case "error":
        return this.#warn("error", `sleeve: a frame was lost by an error: ${message.reason}`);
      case "failed":
        this.#failed(message.reason);
    }
  }
}

/** Lets the kernel forget what ICMP has told of paths' MTUs, for 10 min each: one of them has been proved wrong. */
function forgetPathMtus(): void {
  sysctlSet("net/ipv4/route/flush", "1");
}
