// Peer names that two hosts have, as cloned machines do. The host that was connected first keeps the name; the other one
// is refused, also when the first has gone, as it would take its addresses for its own; and it is told why.
import type { Clock } from "../clock/clock.ts";
import { HandshakeError, RefusedError } from "./errors.ts";
import type { Features } from "./handshake.ts";
import type { PeerName } from "./name.ts";

const FEATURE = "NameTaken";
const FORMAT = /^([0-9a-f:]{17}) ([\w.:]{2,45})$/;
/**
 * A host that was restarted, perhaps with another address, looks the same until its last connection has ended. Two hosts
 * are proven by several attempts, and by the keeper, which has been heard so long after the first of them.
 */
const PROOF_ATTEMPTS = 3;
const PROOF_MS = 5_000;
/** For so long after the keeper was last there, the other one is refused; it tries at least every 9 minutes. */
const REFUSED_MS = 20 * 60_000;
/** For so long nobody inherits by the name: a keeper whose router rests still has containers. */
const AMBIGUOUS_MS = 24 * 3_600_000;
/** Pairs of hosts, and hosts with our own name, that are remembered; the oldest goes first. */
const MAX_PAIRS = 64;

interface Pair {
  readonly name: PeerName;
  /** Where the host is that keeps the name, and the other one. */
  readonly keeper: string;
  readonly other: string;
  readonly since: number;
  /** When the keeper was there last, as far as attempts of the other one made us look. */
  keeperThere: number;
  attempts: number;
}

/** How a keeper is connected to us now: where from, and when it was last heard, in ms of the clock. */
export interface Keeper {
  readonly ip: string;
  readonly lastHeard: number;
}

export class Collisions {
  readonly #pairs = new Map<string, Pair>();
  /** Hosts that have our own name, and when we last heard of them, in ms of the clock. */
  readonly #own = new Map<string, number>();

  constructor(private readonly clock: Clock) {}

  /** Notes that a host at `other` came with the name of a peer that is connected. */
  note(name: PeerName, keeper: Keeper, other: string): void {
    if (keeper.ip === other) return;
    const now = this.clock.now();
    const key = `${name} ${other}`;
    const known = this.#standing(this.#pairs.get(key));
    const pair = known ?? { name, keeper: keeper.ip, other, since: now, keeperThere: now, attempts: 0 };
    pair.attempts++;
    pair.keeperThere = Math.max(pair.keeperThere, keeper.lastHeard);
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
    keepLatest(this.#pairs);
  }

  /** Notes that a host at this address has our own name. */
  noteOwn(address: string): void {
    this.#own.delete(address);
    this.#own.set(address, this.clock.now());
    keepLatest(this.#own);
  }

  /** Why a host at `ip` may not have this name; undefined where it may. `connected`: who has the name with us now. */
  judge(name: PeerName, ip: string, connected: Keeper | undefined): RefusedError | undefined {
    const known = this.#pairs.get(`${name} ${ip}`);
    if (known && connected?.ip === known.keeper) this.note(name, connected, ip);
    const pair = this.#refused(known);
    return pair && twoHosts(`peer name ${name} is that of two hosts, at ${pair.keeper} and at ${ip}`);
  }

  /** What a host at `ip` is told in the handshake. */
  features(ip: string): Record<string, string> {
    for (const pair of this.#pairs.values())
      if (pair.other === ip && this.#refused(pair)) return { [FEATURE]: `${pair.name} ${pair.keeper}` };
    return {};
  }

  /** Where a peer tells us that our name is another host's: why we may not connect to it. */
  told(ourName: PeerName, features: Features): RefusedError | undefined {
    const [, name, keeper] = FORMAT.exec(features.get(FEATURE) ?? "") ?? [];
    if (name !== ourName || keeper === undefined) return undefined;
    this.noteOwn(keeper);
    return twoHosts(`the peer name of this host, ${name}, is also that of the host at ${keeper}`);
  }

  /** True where a name is known to be that of two hosts, so that nobody can say whose its addresses are. */
  isAmbiguous(name: PeerName): boolean {
    return [...this.#pairs.values()].some((pair) => pair.name === name && this.#proven(pair));
  }

  /** True where another host has our own name. */
  get nameIsTaken(): boolean {
    return this.#ownAddresses(AMBIGUOUS_MS).length > 0;
  }

  /** What is wrong, in words. */
  problems(ourName: PeerName): { readonly found: string; readonly advice: string }[] {
    const own = this.#ownAddresses(REFUSED_MS).map(
      (at) => `the peer name of this host, ${ourName}, is also that of the host at ${at}`,
    );
    const others = [...this.#pairs.values()].flatMap((pair) =>
      this.#refused(pair)
        ? [`peer name ${pair.name} is that of two hosts, at ${pair.keeper} and at ${pair.other}`]
        : [],
    );
    return [...own, ...others].map((found) => ({ found, advice: REMEDY }));
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

function keepLatest(map: Map<string, unknown>): void {
  for (const oldest of map.keys()) {
    if (map.size <= MAX_PAIRS) break;
    map.delete(oldest);
  }
}

const REMEDY = "run 'weave reset' on one of them, and launch it with --name and another name";

/** Refuses another host that has our own name. */
export const sameName = (name: PeerName) =>
  new HandshakeError("name", `it has the peer name of this host, ${name}`, REMEDY);

const twoHosts = (reason: string) => new RefusedError(reason, REMEDY, "name");
