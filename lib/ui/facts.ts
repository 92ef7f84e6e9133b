// What the status page shows, as the stream sends it: types alone, shared by the router and the page. Objects are keyed by
// what does not change, so that a change is a small patch; what is not known is left out, never null.
import type { JsonObject } from "./mergepatch.ts";

type Keyed<T> = { readonly [key: string]: T };

interface Problem extends JsonObject {
  readonly check: string;
  readonly found: string;
  readonly advice: string;
}

/** As `weave status --json`. */
export interface HostFacts extends JsonObject {
  readonly ok: boolean;
  readonly health: string;
  readonly version: string;
  readonly name: string;
  readonly nickname: string;
  readonly encryption: boolean;
  /** The datapath, in words. */
  readonly overlay: string;
  readonly ipam?: {
    readonly status: string;
    readonly range: string;
    readonly defaultSubnet: string;
    readonly addresses: number;
    readonly active: number;
  };
  readonly dns?: { readonly domain: string; readonly address: string; readonly names: number };
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
}

/** As `weave status peers --json`; `links` are its connections by the other peer's name: whether each is established. */
interface PeerFacts extends JsonObject {
  readonly nickname: string;
  readonly links: Keyed<boolean>;
}

/** As `weave status connections --json`, but for the time since a peer was heard, which changes always. */
export interface ConnectionFacts extends JsonObject {
  readonly address: string;
  readonly outbound: boolean;
  readonly state: string;
  readonly peer?: { readonly name: string; readonly nickname: string };
  readonly overlay?: string;
  readonly encrypted: boolean;
  readonly mtu?: number;
  readonly reason?: string;
  readonly remedy?: string;
  readonly since?: string;
  readonly silent: boolean;
  /** ms since the epoch when the peer was heard last; only while it is silent. */
  readonly heardAt?: number;
  readonly roundTripMs?: number;
  readonly receivedBytesPerS?: number;
  readonly sentBytesPerS?: number;
  readonly receivedBytes?: number;
  readonly sentBytes?: number;
}

/** As `weave status ipam --json`. */
export interface OwnerFacts extends JsonObject {
  readonly nickname: string;
  readonly addresses: number;
  readonly reachable: boolean;
  readonly unreachableSince?: string;
}

/** A range of the ring, by its first address. */
export interface RangeFacts extends JsonObject {
  readonly size: number;
  readonly owner: string;
  /** As its owner last said. */
  readonly free?: number;
}

/** A container's link, as `weave ps` and `weave top` have it, by its port on the bridge. */
export interface ContainerFacts extends JsonObject {
  readonly name: string;
  readonly id: string;
  readonly interface: string;
  /** The host's end. */
  readonly port: string;
  readonly mac: string;
  readonly addresses: readonly string[];
  readonly problem?: string;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly receivedBytesPerS: number;
  readonly sentBytesPerS: number;
  readonly dropped: number;
  readonly names: readonly string[];
}

/** A connection that policies blocked, or cut. */
export interface BlockedFacts extends JsonObject {
  readonly at: number;
  readonly cut: boolean;
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly sourcePod?: string;
  readonly destination: string;
  readonly destinationPort: number;
  readonly destinationPod?: string;
  readonly direction: string;
  readonly isolatedBy: readonly string[];
}

/** What weave-npc of this host says. */
export interface PolicyFacts extends JsonObject {
  readonly node: string;
  readonly inSync: boolean;
  readonly policies: number;
  readonly blocked: Keyed<BlockedFacts>;
  /** By address. */
  readonly pods: Keyed<{
    readonly pod: string;
    readonly ingress: readonly string[];
    readonly egress: readonly string[];
  }>;
}

/** Everything but events. */
export interface Facts extends JsonObject {
  readonly host: HostFacts;
  readonly peers: Keyed<PeerFacts>;
  readonly connections: Keyed<ConnectionFacts>;
  readonly owners: Keyed<OwnerFacts>;
  readonly ranges: Keyed<RangeFacts>;
  /** Addresses of this host that were given back, and are reused last. */
  readonly resting: number;
  readonly containers: Keyed<ContainerFacts>;
  /** Left out where no weave-npc runs. */
  readonly policy?: PolicyFacts;
}

export type EventKind = "peers" | "overlay" | "addresses" | "repairs" | "containers" | "cluster" | "router";

/** Something that happened, as the log tells it. */
export interface Event {
  /** ms since the epoch. */
  readonly at: number;
  readonly level: "info" | "warning" | "error";
  readonly kind: string;
  readonly text: string;
  readonly fields?: { readonly [name: string]: string };
}
