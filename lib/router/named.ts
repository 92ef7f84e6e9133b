// The peers that the user, the cluster or an earlier run named. They count from the first moment, long before their
// names are resolved or they answer: one that may know the ring of the network is waited for.
import type { Clock, Timer } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import type { ConnectionMaker } from "../mesh/dial/maker.ts";
import { portOf, type UnresolvedPeer } from "../mesh/dial/named.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import { reasonOf } from "../sys/reason.ts";
import type { Kept } from "./identity.ts";

/** A new connection brings the ring of the peer within this, if it has one. */
const INTRODUCTION_MS = 1_500;
/** Interval at which names are resolved again whose peer does not answer: it may have moved. */
const RESOLVE_MS = 30_000;
/** First pause before a name that could not be resolved is tried again; the next ones double, up to RESOLVE_MS. */
const FIRST_RESOLVE_MS = 1_000;

export interface NamedPeersHost {
  readonly maker: ConnectionMaker;
  readonly ourself: Peer;
  readonly clock: Clock;
  readonly log: Log;
  /** The names as they survive a restart. */
  readonly kept: Kept<readonly string[]>;
  isReachable(peer: PeerName): boolean;
}

export class NamedPeers {
  #names: ReadonlySet<string>;
  /** Who answers to a name, once it has told what it knows of the ring. */
  readonly #heard = new Map<string, PeerName>();
  readonly #answeredAt = new Map<string, number>();
  #retry: Timer;
  #pauseMs = FIRST_RESOLVE_MS;

  constructor(
    names: readonly string[],
    private readonly host: NamedPeersHost,
  ) {
    this.#names = new Set(names.filter((name) => this.#isAddress(name)));
    this.#retry = host.clock.after(this.#pauseMs, () => this.#look());
  }

  stop(): void {
    this.#retry.cancel();
  }

  /** How many peers there are in all by what the user named, ourself included. */
  get count(): number {
    const found = this.host.maker.named();
    return [...this.#names].filter((name) => found.get(name) !== this.host.ourself).length + 1;
  }

  /**
   * Named peers that have not told us yet whether they know a ring, and those that have gone since: they may know one
   * by now. `hasSpoken` is true for a peer that has told us what it knows of the ring.
   */
  unheard(hasSpoken: (peer: PeerName) => boolean): string[] {
    const { maker, ourself, clock, isReachable } = this.host;
    const found = maker.named();
    return [...this.#names].filter((name) => {
      const peer = found.get(name);
      if (peer === ourself) return false;
      const known = this.#heard.get(name);
      if (known && isReachable(known)) return false;
      if (!peer) {
        this.#heard.delete(name);
        this.#answeredAt.delete(name);
        return true;
      }
      const since = this.#answeredAt.get(name) ?? clock.now();
      this.#answeredAt.set(name, since);
      const heard = hasSpoken(peer.name) || clock.now() - since >= INTRODUCTION_MS;
      if (heard) this.#heard.set(name, peer.name);
      return !heard;
    });
  }

  /** Connects to the peers there are from the start; resolves with what is wrong with any of them, which stay. */
  start(): Promise<UnresolvedPeer[]> {
    try {
      this.#keep(this.#names);
    } catch (error) {
      // They are connected to; only a restart forgets them.
      this.host.log.error(reasonOf(error));
    }
    return this.host.maker.connect([...this.#names], false);
  }

  /**
   * Connect to peers; resolve with what is wrong with any of them, which stay. Reject with StoreError or PeerAddressError,
   * with nothing changed.
   */
  async connect(peers: readonly string[], replace: boolean): Promise<string[]> {
    for (const peer of peers) portOf(peer);
    this.#keep(new Set([...(replace ? [] : this.#names), ...peers]));
    return (await this.host.maker.connect(peers, replace)).map(({ problem }) => problem);
  }

  /** Gives peers up; returns those that were not named. Throws StoreError, with nothing changed. */
  forget(peers: readonly string[]): string[] {
    const unknown = peers.filter((peer) => !this.#names.has(peer));
    this.#keep(new Set([...this.#names].filter((name) => !peers.includes(name))));
    this.host.maker.forget(peers);
    return unknown;
  }

  /** What is kept may be of a version that took more for an address. */
  #isAddress(name: string): boolean {
    try {
      portOf(name);
      return true;
    } catch (error) {
      this.host.log.warning(`not connecting to a peer of the last launch: ${reasonOf(error)}`);
      return false;
    }
  }

  #keep(names: ReadonlySet<string>): void {
    this.host.kept.set([...names]);
    this.#names = names;
  }

  /** Resolve names again that need it, soon if there are any that never could be. */
  #look(): void {
    const missing = this.host.maker.unresolved();
    this.#pauseMs = missing.length > 0 ? Math.min(2 * this.#pauseMs, RESOLVE_MS) : RESOLVE_MS;
    this.#retry = this.host.clock.after(this.#pauseMs, () => this.#look());
    this.#resolveAgain().catch((error) => this.host.log.warning(reasonOf(error)));
  }

  async #resolveAgain(): Promise<void> {
    const moved = await this.host.maker.resolveAgain();
    if (moved.length > 0) this.host.log.info("peers have new addresses", { peers: moved });
  }
}
