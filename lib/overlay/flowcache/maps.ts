// The eBPF maps of the flow cache. Fields of packets are as on the wire, all others in host byte order.
import { BpfMap, type Layout, U32 } from "../../bpf/map.ts";
import { SHORT_IDS } from "../../mesh/bounds.ts";

/** Cached flows of this host in each direction; the least recently used are evicted. */
const MAX_FLOWS = 16_384;
const MAX_PORTS = 2_048;

/** Byte offsets in a key of flows, their 5-tuple. */
export const FLOW = { source: 0, destination: 4, ports: 8, protocol: 12, size: 16 } as const;

/** The path of a flow: outer headers by an underlay link, a port of this host, or tunnel metadata by the VXLAN link. */
export const PATH = { direct: 0, local: 1, vxlan: 2 } as const;

/** Bytes of the headers in front of a packet of a container: Ethernet, IPv4, UDP, VXLAN, Ethernet. */
export const HEADERS = { ethernet: 14, outer: 50, all: 64 } as const;

/**
 * Byte offsets in a value of `out`: when the flow last took the slow path (coarse CLOCK_MONOTONIC, ns), the generation then, the path,
 * the link to send by, bytes of the longest IP packet, the neighbour, the network identifier, the headers (the inner Ethernet header at
 * `ethernet`), the sum of the outer IP header without its variable fields, and the source port on the bridge.
 */
export const OUT = {
  at: 0,
  generation: 8,
  path: 12,
  link: 16,
  limit: 20,
  remote: 24,
  identifier: 28,
  headers: 32,
  ethernet: 82,
  sum: 96,
  port: 100,
  size: 104,
} as const;

/**
 * Byte offsets in a value of `in`; `at` is 0 until the flow has reached its port. `since` is when the slow path last accepted a packet
 * by the path of the last packet.
 */
export const IN = {
  at: 0,
  generation: 8,
  port: 12,
  limit: 16,
  identifier: 20,
  source: 24,
  destination: 28,
  link: 32,
  ethernet: 40,
  since: 56,
  size: 64,
} as const;

/**
 * Byte offsets in a value of `from`: when the slow path last accepted a packet of the neighbour by this path (0: not yet), when the path
 * was claimed, the generation at `at`, the link, our address, the Ethernet address of the sender, and the TTL.
 */
export const FROM = {
  at: 0,
  noted: 8,
  generation: 16,
  link: 20,
  destination: 24,
  sender: 28,
  ttl: 34,
  size: 40,
} as const;

/** Packets and bytes of a port that took the fast path. */
export interface PortTraffic {
  readonly sentPackets: bigint;
  readonly sentBytes: bigint;
  readonly receivedPackets: bigint;
  readonly receivedBytes: bigint;
}

/** Byte offsets in a value of `ports`; sent and received by the container. */
export const TRAFFIC = {
  sentPackets: 0,
  sentBytes: 8,
  receivedPackets: 16,
  receivedBytes: 24,
  size: 32,
} as const;

const FIELDS = ["sentPackets", "sentBytes", "receivedPackets", "receivedBytes"] as const;

const TrafficLayout: Layout<PortTraffic> = {
  size: TRAFFIC.size,
  encode: (traffic, view) => {
    for (const field of FIELDS) view.setBigUint64(TRAFFIC[field], traffic[field], true);
  },
  decode: (view) => ({
    sentPackets: view.getBigUint64(TRAFFIC.sentPackets, true),
    sentBytes: view.getBigUint64(TRAFFIC.sentBytes, true),
    receivedPackets: view.getBigUint64(TRAFFIC.receivedPackets, true),
    receivedBytes: view.getBigUint64(TRAFFIC.receivedBytes, true),
  }),
};

/** Bytes that only programs read and write. */
const opaque = (size: number): Layout<Uint8Array> => ({
  size,
  encode: (bytes, view) => new Uint8Array(view.buffer).set(bytes),
  decode: (view) => new Uint8Array(view.buffer).slice(),
});

/** Indexes of `control`: the generation, the mode, the ifindex of the VXLAN link, the sysctls to put back (conntrack.ts). */
export const CONTROL = { generation: 0, mode: 1, overlay: 2, loosened: 3 } as const;

/** Bits of CONTROL.mode. */
export const MODE = {
  /** Flows are cached. */
  on: 1,
  /** br_netfilter hands bridged packets to the packet filter, which marks those that may be cached. */
  filtered: 2,
} as const;

export interface FlowMaps {
  readonly control: BpfMap<number, number>;
  /** Ports whose flows may be cached, by ifindex. */
  readonly ports: BpfMap<number, PortTraffic>;
  readonly out: BpfMap<Uint8Array, Uint8Array>;
  readonly in: BpfMap<Uint8Array, Uint8Array>;
  /** Paths to neighbours, by address; values as in `out`, without a flow: the limit is bytes of a frame. */
  readonly to: BpfMap<number, Uint8Array>;
  /** Paths from neighbours, by address. */
  readonly from: BpfMap<number, Uint8Array>;
}

const DEFINITIONS: { readonly [name in keyof FlowMaps]: FlowMaps[name]["definition"] } = {
  control: { name: "weave_flow_ctl", type: "array", key: U32, value: U32, maxEntries: 4 },
  ports: { name: "weave_flow_port", type: "hash", key: U32, value: TrafficLayout, maxEntries: MAX_PORTS },
  out: {
    name: "weave_flow_out",
    type: "lruHash",
    key: opaque(FLOW.size),
    value: opaque(OUT.size),
    maxEntries: MAX_FLOWS,
  },
  in: {
    name: "weave_flow_in",
    type: "lruHash",
    key: opaque(FLOW.size),
    value: opaque(IN.size),
    maxEntries: MAX_FLOWS,
  },
  to: { name: "weave_flow_to", type: "hash", key: U32, value: opaque(OUT.size), maxEntries: SHORT_IDS },
  from: { name: "weave_flow_from", type: "hash", key: U32, value: opaque(FROM.size), maxEntries: SHORT_IDS },
};

export function createFlowMaps(): FlowMaps {
  return {
    control: BpfMap.create(DEFINITIONS.control),
    ports: BpfMap.create(DEFINITIONS.ports),
    out: BpfMap.create(DEFINITIONS.out),
    in: BpfMap.create(DEFINITIONS.in),
    to: BpfMap.create(DEFINITIONS.to),
    from: BpfMap.create(DEFINITIONS.from),
  };
}

/** Return the file descriptors of maps, for programs. */
export function flowFds(maps: FlowMaps): { readonly [name in keyof FlowMaps]: { readonly fd: number } } {
  const { control, ports, out, to, from } = maps;
  return {
    control: { fd: control.fd },
    ports: { fd: ports.fd },
    out: { fd: out.fd },
    in: { fd: maps.in.fd },
    to: { fd: to.fd },
    from: { fd: from.fd },
  };
}

/** Open the maps with these ids; undefined where one is missing or has another layout. */
export function adoptFlowMaps(ids: readonly number[]): FlowMaps | undefined {
  const control = BpfMap.adopt(DEFINITIONS.control, ids);
  const ports = BpfMap.adopt(DEFINITIONS.ports, ids);
  const out = BpfMap.adopt(DEFINITIONS.out, ids);
  const into = BpfMap.adopt(DEFINITIONS.in, ids);
  if (control && ports && out && into) {
    // Earlier versions lack these.
    const to = BpfMap.adopt(DEFINITIONS.to, ids) ?? BpfMap.create(DEFINITIONS.to);
    const from = BpfMap.adopt(DEFINITIONS.from, ids) ?? BpfMap.create(DEFINITIONS.from);
    return { control, ports, out, in: into, to, from };
  }
  for (const map of [control, ports, out, into]) map?.close();
  return undefined;
}

/** Open the map with the generation among those with these ids. */
export function adoptControl(ids: readonly number[]): FlowMaps["control"] | undefined {
  return BpfMap.adopt(DEFINITIONS.control, ids);
}

export function closeFlowMaps({ control, ports, out, in: into, to, from }: FlowMaps): void {
  for (const map of [control, ports, out, into, to, from]) map.close();
}
