// What the allocator of a peer is configured with, and what it calls. Each part of it takes what it needs.
import type { AddressRange, Cidr, IPv4 } from "../address/ipv4.ts";
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Sighting } from "../host/containers.ts";
import type { Log } from "../log/log.ts";
import type { PeerName } from "../mesh/name.ts";
import type { AllocatorStore } from "./saved.ts";

/** Peers given by the user that refuse this host, or that it refuses, for reasons that waiting cannot resolve. */
export interface RefusedPeers {
  readonly peers: readonly { readonly name: string; readonly reason: string; readonly remedy: string }[];
  /** There are others, not connected yet, that may connect later. */
  readonly others: boolean;
}

export interface AllocatorConfig {
  readonly ourName: PeerName;
  readonly ourUid: bigint;
  readonly ourNickName: string;
  /** The whole range that peers share. */
  readonly universe: Cidr;
  /** Peers to divide the range among without consensus; empty for consensus. */
  readonly seed: readonly PeerName[];
  /** Takes no part in consensus; waits for the ring of another peer. */
  readonly observer: boolean;
  /** Peers that have to agree on the first ring; read when the vote begins. */
  readonly quorum: () => number;
  /** Peers that the user named and that have not been heard yet: they may know a ring. None unless given. */
  readonly unheard?: () => readonly string[];
  /** None unless given. */
  readonly refused?: () => RefusedPeers;
  /** Whether another host has our name: what is donated to that name may be for it. */
  readonly nameIsTaken?: () => boolean;
  /** Whether two hosts have this name. */
  readonly isAmbiguous?: (name: PeerName) => boolean;
  readonly isKnownPeer: (name: PeerName) => boolean;
  /** The nickname that a peer has now; undefined where it is not known, or unless given. */
  readonly nicknameOf?: (name: PeerName) => string | undefined;
  /** Other peers that a route leads to. */
  readonly reachablePeers: () => readonly PeerName[];
}

export interface AllocatorDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: AllocatorStore;
  /** List the addresses on links of containers; asked before an address is taken from a container. */
  attached?(): Promise<Sighting>;
  /** Return whether a holder that is no container still uses an address: then it is not released. */
  uses?(id: string, address: IPv4): boolean;
  /** Our ring gave in to another: peers that were refused for the difference may fit now. */
  ringReplaced?(): void;
  /** The ranges that we own have changed. */
  owns?(ranges: readonly AddressRange[]): void;
  /** A holder has no addresses any more. */
  released?(id: string): void;
  /** Containers lost their links, and no runtime reported their end. */
  gone?(ids: ReadonlySet<string>): void;
}
