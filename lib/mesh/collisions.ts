// Peer names that two hosts have, as cloned machines do. The host that was connected first keeps the name; the other one
// is refused, also when the first has gone, as it would take its addresses for its own; and it is told why.
import type { Clock } from "../clock/clock.ts";
import { RefusedError } from "./errors.ts";
import type { Features } from "./handshake.ts";
import type { PeerName } from "./name.ts";

const FEATURE = "NameTaken";
const FORMAT = /^([0-9a-f:]{17}) ([\w.:]{2,45})$/;
/** A host that was restarted looks the same until its last connection has ended: it takes several attempts to tell. */
const PROOF_ATTEMPTS = 3;
const PROOF_MS = 5_000;
/** The other host tries at least every 9 minutes. */
const OVER_MS = 20 * 60_000;
/** Pairs of hosts that are remembered; the oldest goes first. */
const MAX_PAIRS = 64;

interface Pair {
  readonly name: PeerName;
  /** Where the host is that keeps the name, and the other one. */
  readonly keeper: string;
  readonly other: string;
  readonly since: number;
  last: number;
  attempts: number;
}

export class Collisions {
  readonly #pairs = new Map<string, Pair>();
  /** Hosts that have our own name, and when we last heard of them, in ms since the epoch. */
  readonly #own = new Map<string, number>();

  constructor(private readonly clock: Clock) {}

  /** Notes that a host at `other` came with the name of the one connected from `keeper`. */
  note(name: PeerName, keeper: string, other: string): void {
    if (keeper === other) return;
    const now = this.clock.now();
    const key = `${name} ${other}`;
    const known = this.#standing(this.#pairs.get(key));
    const pair = known ?? { name, keeper, other, since: now, last: now, attempts: 0 };
    pair.attempts++;
    pair.last = now;
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
    for (const oldest of this.#pairs.keys()) {
      if (this.#pairs.size <= MAX_PAIRS) break;
      this.#pairs.delete(oldest);
    }
  }

  /** Notes that a host at this address has our own name. */
  noteOwn(address: string): void {
    if (this.#own.size < MAX_PAIRS) this.#own.set(address, this.clock.now());
  }

  /** Why a host at `ip` may not have this name; undefined where it may. */
  judge(name: PeerName, ip: string): RefusedError | undefined {
    const pair = this.#proven(this.#pairs.get(`${name} ${ip}`));
    if (!pair) return undefined;
    this.note(name, pair.keeper, ip);
    return twoHosts(`peer name ${name} is that of two hosts, at ${pair.keeper} and at ${ip}`);
  }

  /** What a host at `ip` is told in the handshake. */
  features(ip: string): Record<string, string> {
    for (const pair of this.#pairs.values())
      if (pair.other === ip && this.#proven(pair)) return { [FEATURE]: `${pair.name} ${pair.keeper}` };
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
    return this.#ownAddresses().length > 0;
  }

  /** What is wrong, in words. */
  problems(ourName: PeerName): { readonly found: string; readonly advice: string }[] {
    const own = this.#ownAddresses().map(
      (at) => `the peer name of this host, ${ourName}, is also that of the host at ${at}`,
    );
    const others = [...this.#pairs.values()].flatMap((pair) =>
      this.#proven(pair)
        ? [`peer name ${pair.name} is that of two hosts, at ${pair.keeper} and at ${pair.other}`]
        : [],
    );
    return [...own, ...others].map((found) => ({ found, advice: REMEDY }));
  }

  #ownAddresses(): string[] {
    const now = this.clock.now();
    return [...this.#own].filter(([, at]) => now - at < OVER_MS).map(([address]) => address);
  }

  #standing(pair: Pair | undefined): Pair | undefined {
    return pair && this.clock.now() - pair.last < OVER_MS ? pair : undefined;
  }

  #proven(pair: Pair | undefined): Pair | undefined {
    const standing = this.#standing(pair);
    return standing && standing.attempts >= PROOF_ATTEMPTS && standing.last - standing.since >= PROOF_MS
      ? standing
      : undefined;
  }
}

const REMEDY = "run 'weave reset' on the one that is to give in, and launch it with --name and another name";

const twoHosts = (reason: string) => new RefusedError(reason, REMEDY);
