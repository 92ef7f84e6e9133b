// The names of the whole network, at one peer: those of its own containers, which it gossips, and theirs, which it learns
// from gossip (weave: nameserver/nameserver.go). Pure: clock, gossip and disk are passed in.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { Slices, type Work } from "../clock/slices.ts";
import { Soon } from "../clock/soon.ts";
import type { Fields } from "../log/fields.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { GossipChannel, GossipData, Gossiper } from "../mesh/gossip.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { Entries } from "./entries.ts";
import {
  type Entry,
  isExpired,
  MAX_ENTRIES_PER_PEER,
  MAX_VERSION,
  nextVersion,
  TOMBSTONE_S,
  tombstoned,
} from "./entry.ts";
import { Gathered, NamesGossip } from "./gossip.ts";
import { fullyQualified, isInDomain } from "./name.ts";
import { ClockSkew, correction, unsoundness } from "./received.ts";
import type { NamesStore } from "./saved.ts";
import { readNames } from "./wire.ts";

/** Names, deleted ones included, of all peers. Those beyond are not taken in. */
const MAX_ENTRIES = 16 * MAX_ENTRIES_PER_PEER;
/** Names that others say are ours, and that we do not know, take no more than this of our own room. */
const MAX_ALLEGED = MAX_ENTRIES_PER_PEER / 2;
/**
 * Time from the loss of a peer until its names are forgotten: its containers may run on while its router restarts. A name that is
 * forgotten too early comes back only with periodic gossip, as peers that can still reach its host do not broadcast it again.
 */
export const GONE_MS = 5_000;

/** What is to be deleted; what is left out matches everything. */
export interface Selection {
  readonly hostname?: string | undefined;
  readonly containerId?: string | undefined;
  readonly address?: IPv4 | undefined;
}

export interface NameserverConfig {
  readonly ourName: PeerName;
  /** Fully qualified, with the dot at its end. */
  readonly domain: string;
  readonly isKnownPeer: (name: PeerName) => boolean;
}

export interface NameserverDependencies {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: NamesStore;
}

export class Nameserver implements Gossiper {
  readonly entries = new Entries();
  #channel: GossipChannel | undefined;
  #sweeper: Timer | undefined;
  /** Peers that are gone, with the time at which their names are forgotten, in ms of the clock. */
  readonly #gone = new Map<PeerName, number>();
  readonly #forgetting: Soon;
  readonly #skew = new ClockSkew();
  /** Names that there was no room for. */
  #refused = 0;
  readonly #slices: Slices;
  readonly #warn: LimitedWarning;

  constructor(
    readonly config: NameserverConfig,
    private readonly dependencies: NameserverDependencies,
  ) {
    this.#slices = new Slices(dependencies.clock);
    this.#warn = limitedWarnings(dependencies.log, () => dependencies.clock.now());
    this.#forgetting = new Soon(dependencies.clock, () => this.#forgetGone());
  }

  /** What of the network's names is not known here, and why, a line each. */
  notes(): string[] {
    const full = this.entries
      .origins()
      .filter((origin) => this.entries.countOf(origin) >= MAX_ENTRIES_PER_PEER)
      .map((origin) => `DNS: ${origin} has ${MAX_ENTRIES_PER_PEER} names; further names are ignored`);
    const skew = this.#skew.note(this.dependencies.clock.now());
    return [
      ...(this.entries.room < MAX_ENTRIES
        ? full
        : [`DNS: there are ${MAX_ENTRIES} names; further names are ignored`]),
      ...(skew === undefined ? [] : [`DNS: ${skew}`]),
    ];
  }

  /** What peers can make grow here, and how far. */
  limits(): Limit[] {
    const { entries } = this;
    const most = Math.max(0, ...entries.origins().map((origin) => entries.countOf(origin)));
    return [
      { name: "names", value: entries.room, max: MAX_ENTRIES, refused: this.#refused },
      { name: "names-of-one-peer", value: most, max: MAX_ENTRIES_PER_PEER },
    ];
  }

  /**
   * Load the saved names, and gossip on the channel that `open` returns. Each name gets a new version: peers
   * that still know it from before the restart pass on only what is new to them, and others have forgotten it.
   */
  start(open: (gossiper: Gossiper) => GossipChannel): void {
    const { ourName: origin } = this.config;
    for (const saved of this.dependencies.store.load()) {
      const version = Math.max(nextVersion(saved.version), this.#now());
      this.entries.set({ ...saved, origin, version, tombstone: 0 });
    }
    this.#channel = open(this);
    this.#sweeper = every(this.dependencies.clock, TOMBSTONE_S * 1000, () => {
      const now = this.#now();
      this.#remove((entry) => isExpired(entry, now));
    });
  }

  stop(): void {
    this.#sweeper?.cancel();
    this.#forgetting.stop();
    this.#slices.stop();
  }

  /**
   * Names an address. Names outside of our domain are left alone, as the original does: returns false. Throws
   * DomainNameError, StoreError, or an Error where we have too many names.
   */
  add(name: string, containerId: string, address: IPv4): boolean {
    const hostname = fullyQualified(name);
    if (!isInDomain(hostname, this.config.domain)) {
      this.#info(`ignoring a name outside of the domain ${this.config.domain}`, {
        name: hostname,
        address: formatIPv4(address),
        container: containerId,
      });
      return false;
    }
    const id = { hostname, origin: this.config.ourName, containerId, address };
    const known = this.entries.get(id);
    if (known?.tombstone === 0) return true;
    if (!known && this.entries.countOf(this.config.ourName) >= MAX_ENTRIES_PER_PEER) {
      throw new Error(
        `cannot add ${hostname}: this host has ${MAX_ENTRIES_PER_PEER} names; remove some first`,
      );
    }
    const version = known ? nextVersion(known.version) : 0;
    this.dependencies.store.save(id, version);
    const entry = { ...id, version, tombstone: 0 };
    this.#info("added a name", {
      name: hostname,
      address: formatIPv4(address),
      container: containerId,
    });
    this.entries.set(entry);
    this.#broadcast([entry]);
    return true;
  }

  /** Deletes names that we have given; returns how many. Throws StoreError. */
  delete({ hostname, containerId, address }: Selection): number {
    const wanted = hostname?.toLowerCase();
    return this.#bury(
      (entry) =>
        (wanted === undefined || entry.hostname.toLowerCase() === wanted) &&
        (containerId === undefined || entry.containerId === containerId) &&
        (address === undefined || entry.address === address),
    );
  }

  /** Forget the names of peers that are gone after GONE_MS, unless they are back by then. */
  peersGone(peers: readonly { readonly name: PeerName }[]): void {
    const named = peers.filter(({ name }) => this.entries.countOf(name) > 0);
    if (named.length === 0) return;
    const at = this.dependencies.clock.now() + GONE_MS;
    for (const { name } of named) this.#gone.set(name, at);
    this.#forgetting.within(GONE_MS);
  }

  /** Forget the names of all peers that are due, in one pass over the names: many peers may go together. */
  #forgetGone(): void {
    const { isKnownPeer } = this.config;
    const now = this.dependencies.clock.now();
    const due = [...this.#gone].flatMap(([name, at]) => (at <= now || isKnownPeer(name) ? [name] : []));
    for (const name of due) this.#gone.delete(name);
    const forgotten = new Set(due);
    this.#remove(({ origin }) => forgotten.has(origin) && !isKnownPeer(origin));
    if (this.#gone.size > 0) this.#forgetting.within(Math.min(...this.#gone.values()) - now);
  }

  /** Another number after each change of what is found. */
  get version(): number {
    return this.entries.version;
  }

  /** Addresses of a fully qualified name. */
  lookup(hostname: string): IPv4[] {
    return this.entries.lookup(hostname);
  }

  /** The name of an address. */
  reverse(address: IPv4): string | undefined {
    return this.entries.reverse(address);
  }

  /** True where a living name of the network lies below this one. */
  isParent(hostname: string): boolean {
    return this.entries.isParent(hostname);
  }

  onUnicast(): void {}

  *onGossip(message: Uint8Array, from: PeerName): Work<GossipData | undefined> {
    const { fresh } = yield* this.#receive(message, from);
    return fresh.isEmpty ? undefined : this.#data(fresh);
  }

  *onBroadcast(source: PeerName, message: Uint8Array): Work<GossipData> {
    const { received } = yield* this.#receive(message, source);
    return this.#data(received);
  }

  gossip(): GossipData {
    return new NamesGossip(undefined, this.entries, () => this.#now());
  }

  /** Merge names while decoding: those of a long message are never in memory all at once. */
  *#receive(message: Uint8Array, from: PeerName): Work<{ fresh: Gathered; received: Gathered }> {
    const [fresh, received, corrected] = [new Gathered(), new Gathered(), new Gathered()];
    const timestamp = yield* readNames(message, ({ timestamp, entries }) => {
      if (this.#isRefused(from, timestamp)) return;
      const part = this.#judge(entries, corrected);
      received.add(part);
      // A peer gossips old tombstones until it sweeps: taken here, they would return to it after that.
      const now = this.#now();
      fresh.add(this.entries.merge(part, (entry) => !isExpired(entry, now) && this.#hasRoom(entry.origin)));
    });
    // A message without names has not been checked yet.
    this.#isRefused(from, timestamp);
    if (!corrected.isEmpty) this.#channel?.broadcast(this.#data(corrected));
    return { fresh, received };
  }

  /** Return whether the clock of a peer is off. The connection stays: its periodic gossip is accepted once the clocks agree. */
  #isRefused(from: PeerName, timestamp: number): boolean {
    const refusal = this.#skew.refuses(from, timestamp, this.#now(), this.dependencies.clock.now());
    if (refusal !== undefined) this.#warn(`skew ${from}`, refusal);
    return refusal !== undefined;
  }

  /** Return the entries to merge; wrong ones of ours are corrected, and added to `corrected`. */
  #judge(entries: readonly Entry[], corrected: Gathered): Entry[] {
    const { ourName, isKnownPeer } = this.config;
    const now = this.#now();
    return entries
      .filter((entry) => isKnownPeer(entry.origin) && this.#isSound(entry, now))
      .flatMap((entry) => {
        if (entry.origin !== ourName) return entry;
        // Nothing that we say supersedes it; others forget it once it is a tombstone, and hear of us again.
        if (entry.version === MAX_VERSION) return [];
        const ours = correction(this.entries.get(entry), entry, now);
        if (ours) corrected.add([ours]);
        return ours ?? entry;
      });
  }

  /** Return true for an entry that a nameserver may make; others are dropped. */
  #isSound(entry: Entry, now: number): boolean {
    const what = unsoundness(entry, now);
    const { origin } = entry;
    if (what !== undefined) this.#warn(`unsound ${origin}`, `ignoring names ${what}`, { peer: origin });
    return what === undefined;
  }

  #hasRoom(origin: PeerName): boolean {
    const limit = origin === this.config.ourName ? MAX_ALLEGED : MAX_ENTRIES_PER_PEER;
    const full = this.entries.countOf(origin) >= limit;
    if (!full && this.entries.room < MAX_ENTRIES) return true;
    this.#refused++;
    const text = full
      ? `${origin} has ${limit} names; further names are ignored`
      : `there are ${MAX_ENTRIES} names; further names are ignored`;
    this.#warn(full ? `full ${origin}` : "full", text);
    return false;
  }

  #bury(which: (entry: Entry) => boolean): number {
    const now = this.#now();
    const buried: Entry[] = [];
    for (const entry of this.entries.all()) {
      if (entry.origin !== this.config.ourName || entry.tombstone > 0 || !which(entry)) continue;
      this.dependencies.store.remove(entry);
      this.#info("removed a name", {
        name: entry.hostname,
        address: formatIPv4(entry.address),
        container: entry.containerId,
      });
      buried.push(tombstoned(entry, now));
    }
    for (const entry of buried) this.entries.set(entry);
    this.#broadcast(buried);
    return buried.length;
  }

  #broadcast(entries: readonly Entry[]): void {
    if (entries.length > 0) this.#channel?.broadcast(this.#data(new Gathered().add(entries)));
  }

  #remove(unwanted: (entry: Entry) => boolean): void {
    this.#slices.run(this.entries.remove(unwanted), (error) => {
      if (error) throw error;
    });
  }

  #data({ some }: Gathered): NamesGossip {
    return new NamesGossip(some, this.entries, () => this.#now());
  }

  #now(): number {
    return Math.floor(this.dependencies.clock.wall() / 1000);
  }

  #info(text: string, fields?: Fields): void {
    this.dependencies.log.info(text, fields);
  }
}
