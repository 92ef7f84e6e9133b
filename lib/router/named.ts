// Peers that the user, the cluster or the last run named. They count for the quorum before their names resolve or they
// answer, and the division of the range waits for them: any of them may know a ring.
import type { Clock, Timer } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import type { ConnectionMaker } from "../mesh/dial/maker.ts";
import { portOf, type UnresolvedPeer } from "../mesh/dial/named.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import { reasonOf } from "../sys/reason.ts";
import type { Kept } from "./identity.ts";

/** Time within which a new connection brings the peer's ring, if it has one. */
const INTRODUCTION_MS = 1_500;
/** Interval of resolving the names of peers that do not answer: they may have moved. */
const RESOLVE_MS = 30_000;
/** First retry of a name that does not resolve; doubles up to RESOLVE_MS. */
const FIRST_RESOLVE_MS = 1_000;

export interface NamedPeersHost {
  readonly maker: ConnectionMaker;
  readonly ourself: Peer;
  readonly clock: Clock;
  readonly log: Log;
  /** The names in the state file. */
  readonly kept: Kept<readonly string[]>;
  isReachable(peer: PeerName): boolean;
}

export class NamedPeers {
  #names: ReadonlySet<string>;
  /** Peer by its name, once it has told us of its ring. */
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

  /** Number of named peers, plus ourself. */
  get count(): number {
    const found = this.host.maker.named();
    return [...this.#names].filter((name) => found.get(name) !== this.host.ourself).length + 1;
  }

  /**
   * Return the named peers that have not told us yet whether they know a ring, and those that have gone since: they may
   * know one by now. `hasSpoken` is true for a peer that has told us of its ring.
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

  /** Connect to the first targets; resolves with an error for each that cannot be dialled yet, which is retried. */
  start(): Promise<UnresolvedPeer[]> {
    try {
      // None is what a first start has kept: to write that takes an fsync.
      if (this.#names.size > 0 || this.host.kept.get() !== undefined) this.#keep(this.#names);
    } catch (error) {
      // Only a restart forgets them.
      this.host.log.error(reasonOf(error));
    }
    return this.host.maker.connect([...this.#names], false);
  }

  /**
   * Connect to peers; resolves with an error for each that cannot be dialled yet, which is retried. Rejects with StoreError
   * or PeerAddressError, with nothing changed.
   */
  async connect(peers: readonly string[], replace: boolean): Promise<string[]> {
    for (const peer of peers) portOf(peer);
    this.#keep(new Set([...(replace ? [] : this.#names), ...peers]));
    return (await this.host.maker.connect(peers, replace)).map(({ problem }) => problem);
  }

  /**
   * Give peers up, by the names that were given or the addresses ("ip:port") that they have, as remedies name them. Return
   * those that are neither. Throws StoreError, with nothing changed.
   */
  forget(peers: readonly string[]): string[] {
    const targets = this.host.maker.namedTargets();
    const namesOf = (peer: string) =>
      this.#names.has(peer)
        ? [peer]
        : targets.flatMap(({ name, address }) => (address === peer ? [name] : []));
    const found = peers.map((peer) => ({ peer, names: namesOf(peer) }));
    const given = new Set(found.flatMap(({ names }) => names));
    this.#keep(this.#names.difference(given));
    this.host.maker.forget([...given]);
    return found.flatMap(({ peer, names }) => (names.length === 0 ? [peer] : []));
  }

  /** A saved name may be of a version that accepted more. */
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

  /** Resolve names again: with back-off while any never resolved, else every 30 s. */
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
