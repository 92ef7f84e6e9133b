// The eBPF maps that the datapath's programs and the router share: the router writes routes, the programs learn MAC
// addresses and count.

import type { IPv4 } from "../../address/ipv4.ts";
import { MacKey } from "../../bpf/mackey.ts";
import { BpfMap, type Layout, U32 } from "../../bpf/map.ts";
import { SHORT_IDS } from "../../mesh/bounds.ts";
import { PEER_IDS } from "../peerid.ts";

/** Most neighbours that a frame is flooded to; the verifier wants a bound. */
export const MAX_HOPS = 256;
/** Capacity for MAC addresses; the least recently used are evicted. */
const MAX_MACS = 16_384;

/** Where a MAC address was last seen. */
export interface MacEntry {
  /** Number of its peer. */
  readonly peer: number;
  /** CLOCK_MONOTONIC, in ns. */
  readonly seen: bigint;
}

/** Byte offsets in the value of `macs`. */
export const MAC_VALUE = { peer: 0, seen: 8, size: 16 } as const;

const MacValue: Layout<MacEntry> = {
  size: MAC_VALUE.size,
  encode(entry, view) {
    view.setUint32(MAC_VALUE.peer, entry.peer, true);
    view.setBigUint64(MAC_VALUE.seen, entry.seen, true);
  },
  decode: (view) => ({
    peer: view.getUint32(MAC_VALUE.peer, true),
    seen: view.getBigUint64(MAC_VALUE.seen, true),
  }),
};

/** A neighbour that a broadcast goes to. */
export interface Hop {
  readonly shortId: number;
  readonly address: IPv4;
}

/** Our place in the broadcast tree of a peer. */
export interface Hops {
  /**
   * The neighbour that its broadcasts have to come from, or SLEEVE; those that come by VXLAN from others are not passed on
   * (reverse path check). While peers do not agree on the trees, they would loop and multiply.
   */
  readonly from?: IPv4 | undefined;
  /** Children by VXLAN. */
  readonly vxlan: readonly Hop[];
  /** There are children by sleeve. */
  readonly sleeve: boolean;
}

/**
 * Byte offsets in the value of `hops`: number of VXLAN hops, `sleeve`, `from` (0: any), then short id and address of each
 * hop.
 */
export const HOPS_VALUE = {
  count: 0,
  sleeve: 4,
  from: 8,
  first: 16,
  stride: 8,
  size: 16 + 8 * MAX_HOPS,
} as const;

const HopsValue: Layout<Hops> = {
  size: HOPS_VALUE.size,
  encode({ from = 0, vxlan, sleeve }, view) {
    view.setUint32(HOPS_VALUE.from, from, true);
    view.setUint32(HOPS_VALUE.count, Math.min(vxlan.length, MAX_HOPS), true);
    view.setUint32(HOPS_VALUE.sleeve, Number(sleeve), true);
    vxlan.slice(0, MAX_HOPS).forEach((hop, i) => {
      view.setUint32(HOPS_VALUE.first + i * HOPS_VALUE.stride, hop.shortId, true);
      view.setUint32(HOPS_VALUE.first + i * HOPS_VALUE.stride + 4, hop.address, true);
    });
  },
  decode: (view) => ({
    from: view.getUint32(HOPS_VALUE.from, true) || undefined,
    sleeve: view.getUint32(HOPS_VALUE.sleeve, true) !== 0,
    // Other programs can write the map, too (bpftool).
    vxlan: Array.from({ length: Math.min(view.getUint32(HOPS_VALUE.count, true), MAX_HOPS) }, (_, i) => ({
      shortId: view.getUint32(HOPS_VALUE.first + i * HOPS_VALUE.stride, true),
      address: view.getUint32(HOPS_VALUE.first + i * HOPS_VALUE.stride + 4, true),
    })),
  }),
};

/** A neighbour that VXLAN frames are accepted from. */
export interface NeighbourEntry {
  /** Arrival of the last frame: CLOCK_MONOTONIC in ns, 0 for never. */
  readonly seen: bigint;
  /** Bytes of frames, with their Ethernet headers. */
  readonly received: bigint;
  readonly sent: bigint;
}

/** Byte offsets in the value of `neighbours`. */
export const NEIGHBOUR_VALUE = { seen: 0, received: 8, sent: 16, size: 24 } as const;

const NeighbourValue: Layout<NeighbourEntry> = {
  size: NEIGHBOUR_VALUE.size,
  encode({ seen, received, sent }, view) {
    view.setBigUint64(NEIGHBOUR_VALUE.seen, seen, true);
    view.setBigUint64(NEIGHBOUR_VALUE.received, received, true);
    view.setBigUint64(NEIGHBOUR_VALUE.sent, sent, true);
  },
  decode: (view) => ({
    seen: view.getBigUint64(NEIGHBOUR_VALUE.seen, true),
    received: view.getBigUint64(NEIGHBOUR_VALUE.received, true),
    sent: view.getBigUint64(NEIGHBOUR_VALUE.sent, true),
  }),
};

/** A neighbour that nothing has come from yet. */
export const NEW_NEIGHBOUR: NeighbourEntry = { seen: 0n, received: 0n, sent: 0n };

/** As the address of a next hop: by sleeve. No host has the broadcast address (RFC 919). */
export const SLEEVE = 0xffff_ffff;

/** A received heartbeat of a connection. */
export interface ReceivedHeartbeat {
  /** Bytes of the frame, as sent and as received. */
  readonly size: number;
  readonly length: number;
  readonly sender: IPv4;
  /** CLOCK_MONOTONIC, in ns. */
  readonly at: bigint;
}

/** Least bytes of a heartbeat behind the Ethernet header: connection uid and size. */
export const HEARTBEAT_PAYLOAD = 10;

/** Byte offsets in the value of `heartbeats`; the size is big-endian, as on the wire. */
export const HEARTBEAT_VALUE = { size: 0, length: 4, sender: 8, at: 16, total: 24 } as const;

/** The uid of a connection, big-endian, as on the wire. */
const UidKey: Layout<bigint> = {
  size: 8,
  encode: (uid, view) => view.setBigUint64(0, uid, false),
  decode: (view) => view.getBigUint64(0, false),
};

/** None has come yet. */
const NO_HEARTBEAT: ReceivedHeartbeat = { size: 0, length: 0, sender: 0, at: 0n };

const HeartbeatValue: Layout<ReceivedHeartbeat> = {
  size: HEARTBEAT_VALUE.total,
  // They are written by the eBPF program.
  encode: (_none, view) => new Uint8Array(view.buffer).fill(0),
  decode: (view) => ({
    size: view.getUint16(HEARTBEAT_VALUE.size, false),
    length: view.getUint32(HEARTBEAT_VALUE.length, true),
    sender: view.getUint32(HEARTBEAT_VALUE.sender, true),
    at: view.getBigUint64(HEARTBEAT_VALUE.at, true),
  }),
};

export interface DatapathMaps {
  readonly macs: BpfMap<string, MacEntry>;
  readonly routes: BpfMap<number, number>;
  readonly hops: BpfMap<number, Hops>;
  readonly neighbours: BpfMap<number, NeighbourEntry>;
  readonly heartbeats: BpfMap<bigint, ReceivedHeartbeat>;
}

const DEFINITIONS: { readonly [name in keyof DatapathMaps]: DatapathMaps[name]["definition"] } = {
  /** MAC address -> number of its peer. */
  macs: { name: "weave_macs", type: "lruHash", key: MacKey, value: MacValue, maxEntries: MAX_MACS },
  /** Number of a peer -> address of the next hop; 0 for none. */
  routes: { name: "weave_routes", type: "array", key: U32, value: U32, maxEntries: PEER_IDS },
  /** Number of a peer -> our place in its broadcast tree. */
  hops: { name: "weave_hops", type: "hash", key: U32, value: HopsValue, maxEntries: PEER_IDS },
  /** Address of a neighbour -> its traffic; frames of other hosts are dropped. */
  neighbours: {
    name: "weave_neighb",
    type: "hash",
    key: U32,
    value: NeighbourValue,
    maxEntries: SHORT_IDS,
  },
  /** Uid of a connection that we have, which a stranger cannot know -> its last heartbeat. */
  heartbeats: {
    name: "weave_heartb",
    type: "hash",
    key: UidKey,
    value: HeartbeatValue,
    maxEntries: 2 * SHORT_IDS,
  },
};

/** Accept heartbeats of a connection from now on. */
export function expectHeartbeats({ heartbeats }: DatapathMaps, uid: bigint): void {
  heartbeats.set(uid, NO_HEARTBEAT);
}

/** Return the map of MAC addresses behind an fd that another thread has opened. */
export function macsFromFd(fd: number): BpfMap<string, MacEntry> {
  return BpfMap.fromFd(DEFINITIONS.macs, fd);
}

/** Open the maps with these ids; undefined where one is missing or has another layout. */
export function adoptMaps(ids: readonly number[]): DatapathMaps | undefined {
  const macs = BpfMap.adopt(DEFINITIONS.macs, ids);
  const routes = BpfMap.adopt(DEFINITIONS.routes, ids);
  const hops = BpfMap.adopt(DEFINITIONS.hops, ids);
  const neighbours = BpfMap.adopt(DEFINITIONS.neighbours, ids);
  if (macs && routes && hops && neighbours) {
    // Those of earlier versions had another layout.
    const heartbeats = BpfMap.adopt(DEFINITIONS.heartbeats, ids) ?? BpfMap.create(DEFINITIONS.heartbeats);
    return { macs, routes, hops, neighbours, heartbeats };
  }
  for (const map of [macs, routes, hops, neighbours]) map?.close();
  return undefined;
}

export function closeMaps({ macs, routes, hops, neighbours, heartbeats }: DatapathMaps): void {
  for (const map of [macs, routes, hops, neighbours, heartbeats]) map.close();
}

export function createMaps(): DatapathMaps {
  return {
    macs: BpfMap.create(DEFINITIONS.macs),
    routes: BpfMap.create(DEFINITIONS.routes),
    hops: BpfMap.create(DEFINITIONS.hops),
    neighbours: BpfMap.create(DEFINITIONS.neighbours),
    heartbeats: BpfMap.create(DEFINITIONS.heartbeats),
  };
}
