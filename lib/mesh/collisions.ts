// Peer names of two hosts, as cloned machines have. The host that was connected first keeps the name; the other is refused
// and told why, also after the first is gone, whose addresses it would take for its own.

import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import { HandshakeError, RefusedError } from "./errors.ts";
import type { Features } from "./handshake.ts";
import type { PeerName } from "./name.ts";

const FEATURE = "NameTaken";
const FORMAT = /^([0-9a-f:]{17}) ([\w.:]{2,45})$/;
/**
 * A host that was restarted, perhaps with another address, looks the same until its old connection ends. Two hosts are
 * proven by several attempts, with the keeper heard this long after the first.
 */
const PROOF_ATTEMPTS = 3;
const PROOF_MS = 5_000;
/** The other host is refused until this long after the keeper was last connected; it dials at least every 9 min. */
const REFUSED_MS = 20 * 60_000;
/** No peer may take over by the name for this long: a keeper whose router is stopped still has containers. */
const AMBIGUOUS_MS = 24 * 3_600_000;
/** Pairs of hosts, and hosts with our own name; the oldest is forgotten first. */
const MAX_PAIRS = 64;

interface Pair {
  readonly name: PeerName;
  /** Addresses of the host that keeps the name, and of the other. */
  readonly keeper: string;
  readonly other: string;
  readonly since: number;
  /** When the keeper was last connected, as of the last attempt of the other host. */
  keeperThere: number;
  /** When the other host last had the name. */
  otherThere: number;
  attempts: number;
}

/** The host that keeps a name: its address, and when it was last heard, in ms of the clock. */
export interface Keeper {
  readonly ip: string;
  readonly lastHeard: number;
}

export class Collisions {
  readonly #pairs = new LatestMap<string, Pair>(MAX_PAIRS);
  /** Hosts with our own name, and when they were last heard of, in ms of the clock. */
  readonly #own = new LatestMap<string, number>(MAX_PAIRS);

  /** Names of connected peers whose hosts had one that is taken, and when they connected, in ms of the clock. */
  readonly #named = new LatestMap<string, { readonly name: PeerName; readonly at: number }>(MAX_PAIRS);

  constructor(private readonly clock: Clock) {}

  /** Note that a host at `other` has the name of a connected peer. */
  note(name: PeerName, keeper: Keeper, other: string): void {
    if (keeper.ip === other) return;
    const now = this.clock.now();
    const key = `${name} ${other}`;
    const known = this.#standing(this.#pairs.get(key));
    const pair = known ?? {
      name,
      keeper: keeper.ip,
      other,
      since: now,
      keeperThere: now,
      otherThere: now,
      attempts: 0,
    };
    pair.attempts++;
    pair.otherThere = now;
    pair.keeperThere = Math.max(pair.keeperThere, keeper.lastHeard);
    this.#pairs.set(key, pair);
  }

  /** Note that a host at this address has our own name. */
  noteOwn(address: string): void {
    this.#own.set(address, this.clock.now());
  }

  /** Note that a host at `ip` is connected by this name: that it had another before is no problem any more. */
  named(ip: string, name: PeerName): void {
    const hadAnother = this.#own.has(ip) || [...this.#pairs.values()].some(({ other }) => other === ip);
    if (hadAnother) this.#named.set(ip, { name, at: this.clock.now() });
  }

  /** Return why a host at `ip` may not have this name; `connected` is the host of this name that is connected now. */
  judge(name: PeerName, ip: string, connected: Keeper | undefined): RefusedError | undefined {
    const known = this.#pairs.get(`${name} ${ip}`);
    if (known && connected?.ip === known.keeper) this.note(name, connected, ip);
    const pair = this.#refused(known);
    return pair && twoHosts(`peer name ${name} is that of two hosts, at ${pair.keeper} and at ${ip}`);
  }

  /** Features for a host at `ip`. */
  features(ip: string): Record<string, string> {
    for (const pair of this.#pairs.values())
      if (pair.other === ip && this.#refused(pair)) return { [FEATURE]: `${pair.name} ${pair.keeper}` };
    return {};
  }

  /** Return why we may not connect, where a peer reports that another host has our name. */
  reported(ourName: PeerName, features: Features): RefusedError | undefined {
    const [, name, keeper] = FORMAT.exec(features.get(FEATURE) ?? "") ?? [];
    if (name !== ourName || keeper === undefined) return undefined;
    this.noteOwn(keeper);
    return twoHosts(`the peer name of this host, ${name}, is also that of the host at ${keeper}`);
  }

  /** Return whether two hosts have this name, so that its addresses have no certain owner. */
  isAmbiguous(name: PeerName): boolean {
    return [...this.#pairs.values()].some((pair) => pair.name === name && this.#proven(pair));
  }

  /** Whether another host has our own name. */
  get nameIsTaken(): boolean {
    return this.#ownAddresses(AMBIGUOUS_MS).length > 0;
  }

  limits(): Limit[] {
    return [forgetting("hosts-of-one-name", this.#pairs), forgetting("hosts-of-our-name", this.#own)];
  }

  /** For the status. */
  problems(ourName: PeerName): { readonly found: string; readonly advice: string }[] {
    const own = this.#ownAddresses(REFUSED_MS)
      .filter((ip) => !this.#isRenamed(ip, ourName, this.#own.get(ip)))
      .map((at) => `the peer name of this host, ${ourName}, is also that of the host at ${at}`);
    const others = [...this.#pairs.values()].flatMap((pair) =>
      this.#refused(pair) && !this.#isRenamed(pair.other, pair.name, pair.otherThere)
        ? [`peer name ${pair.name} is that of two hosts, at ${pair.keeper} and at ${pair.other}`]
        : [],
    );
    return [...own, ...others].map((found) => ({ found, advice: REMEDY }));
  }

  /** Whether a host that had a name at `lastAt` has been connected by another since then. */
  #isRenamed(ip: string, name: PeerName, lastAt = 0): boolean {
    const now = this.#named.get(ip);
    return now !== undefined && now.name !== name && now.at > lastAt;
  }

  #ownAddresses(withinMs: number): string[] {
    const now = this.clock.now();
    return [...this.#own].filter(([, at]) => now - at < withinMs).map(([address]) => address);
  }

  #standing(pair: Pair | undefined): Pair | undefined {
    return pair && this.clock.now() - pair.keeperThere < AMBIGUOUS_MS ? pair : undefined;
  }

  #proven(pair: Pair | undefined): Pair | undefined {
    const standing = this.#standing(pair);
    const isProof = (found: Pair) =>
      found.attempts >= PROOF_ATTEMPTS && found.keeperThere - found.since >= PROOF_MS;
    return standing && isProof(standing) ? standing : undefined;
  }

  #refused(pair: Pair | undefined): Pair | undefined {
    const proven = this.#proven(pair);
    return proven && this.clock.now() - proven.keeperThere < REFUSED_MS ? proven : undefined;
  }
}

const REMEDY = "run 'weave reset' on one of them, and launch it with --name and another name";

/** Return the refusal of another host with our own name. */
export const sameName = (name: PeerName) =>
  new HandshakeError("name", `it has the peer name of this host, ${name}`, REMEDY);

const twoHosts = (reason: string) => new RefusedError(reason, REMEDY, "name");
