// Addresses that are dialled.
import type { LocalConnection } from "../connection.ts";
import type { PeerTrouble } from "../trouble.ts";

/** Why a peer is dialled: the user named it, this host lost it, or gossip tells of it and it is our turn, or theirs. */
export type Reason = "named" | "lost" | "ours to call" | "theirs to call";

/** The state of the attempts to connect to an address. */
export interface Target {
  state: "waiting" | "attempting" | "connected";
  lastError: Error | undefined;
  /** The cause of that, and what to do about it. */
  trouble: PeerTrouble | undefined;
  /** When to try next, in ms of the clock; undefined for never. */
  tryAfter: number | undefined;
  /** Cancel the attempt under way. */
  giveUp: (() => void) | undefined;
}

/** The state of a peer that the user named. */
export interface NamedTarget {
  readonly name: string;
  /** "ip:port"; undefined while its name has no address. */
  readonly address: string | undefined;
  /** Why its name has no address, once that was looked up. */
  readonly unresolved: PeerTrouble | undefined;
  /** The connection to the peer at that address, established or not. */
  readonly connection: LocalConnection | undefined;
  /** The attempts to connect to that address. */
  readonly target: Target | undefined;
}
