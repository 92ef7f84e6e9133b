// The eBPF maps of the port programs: bindings of ports to source addresses, rate limits and drop counters, and the ports where
// Ethernet addresses were seen. Processes that attach containers write bindings; the programs write the rest.
import { formatMac, parseMac } from "../../address/mac.ts";
import { MacKey } from "../../bpf/mackey.ts";
import { BpfMap, type Layout, U32 } from "../../bpf/map.ts";
import { mapIdsOf, type Program } from "../../bpf/program.ts";

/** A bridge has at most 1024 ports (BR_MAX_PORTS); the rest is for ports of other bridges. */
const MAX_PORTS = 2_048;
/** Bindings of all ports, 64 each on average. They take memory as they come. */
const MAX_BINDINGS = 64 * MAX_PORTS;
/**
 * Ethernet addresses of this host's containers; beyond that the least recently used are evicted. Each processor keeps 128 free
 * entries, so this has to be far more than there are addresses.
 */
const MAX_MACS = 16_384;

/** Frames of a port that were dropped. */
export interface Dropped {
  /** Beyond the rate: broadcast, unknown unicast, or from an Ethernet address that is elsewhere, or that nobody has seen. */
  readonly flood: bigint;
  /** Multicast beyond the rate. */
  readonly multicast: bigint;
  /** From a source address that is not the port's. */
  readonly spoofed: bigint;
  /** Neither IPv4, IPv6 nor ARP, or tagged. */
  readonly protocol: bigint;
}

export interface PortEntry {
  /** Its own Ethernet address; undefined where unknown: then the port is not bound. */
  readonly mac: string | undefined;
  /** Its first IPv4 address in network byte order: saves a lookup. */
  readonly ipv4: Uint8Array;
  readonly dropped: Dropped;
}

/** Byte offsets in the value of `ports`. Buckets are times (CLOCK_MONOTONIC, ns) until which the rate is used up. */
export const PORT = {
  bound: 0,
  ipv4: 4,
  mac: 8,
  floodBucket: 16,
  multicastBucket: 24,
  flood: 32,
  multicast: 40,
  spoofed: 48,
  protocol: 56,
  moveBucket: 64,
  size: 72,
} as const;

const PortLayout: Layout<PortEntry> = {
  size: PORT.size,
  encode({ mac, ipv4, dropped }, view) {
    const bytes = new Uint8Array(view.buffer);
    view.setUint32(PORT.bound, Number(mac !== undefined), true);
    bytes.set(ipv4, PORT.ipv4);
    if (mac !== undefined) bytes.set(parseMac(mac), PORT.mac);
    view.setBigUint64(PORT.flood, dropped.flood, true);
    view.setBigUint64(PORT.multicast, dropped.multicast, true);
    view.setBigUint64(PORT.spoofed, dropped.spoofed, true);
    view.setBigUint64(PORT.protocol, dropped.protocol, true);
  },
  decode(view) {
    const bytes = new Uint8Array(view.buffer);
    return {
      mac:
        view.getUint32(PORT.bound, true) === 0
          ? undefined
          : formatMac(bytes.subarray(PORT.mac, PORT.mac + 6)),
      ipv4: bytes.slice(PORT.ipv4, PORT.ipv4 + 4),
      dropped: {
        flood: view.getBigUint64(PORT.flood, true),
        multicast: view.getBigUint64(PORT.multicast, true),
        spoofed: view.getBigUint64(PORT.spoofed, true),
        protocol: view.getBigUint64(PORT.protocol, true),
      },
    };
  },
};

/** Kinds of addresses in bindings. */
export const CLASS = { mac: 1, ipv4: 4, ipv6: 6 } as const;

/** Source addresses of a port: all that begin with the first `bits` of the octets. */
export interface Binding {
  readonly port: number;
  readonly class: (typeof CLASS)[keyof typeof CLASS];
  readonly octets: Uint8Array;
  readonly bits: number;
}

/** Byte offsets in the key of `bindings` (struct bpf_lpm_trie_key: the length in bits, then data of which so many count). */
export const BINDING = { bits: 0, port: 4, class: 8, octets: 12, size: 28 } as const;
/** Bits of port and class, which always match whole. */
export const BINDING_HEAD_BITS = 64;

const BindingLayout: Layout<Binding> = {
  size: BINDING.size,
  encode(binding, view) {
    view.setUint32(BINDING.bits, BINDING_HEAD_BITS + binding.bits, true);
    view.setUint32(BINDING.port, binding.port, true);
    view.setUint32(BINDING.class, binding.class, true);
    new Uint8Array(view.buffer).set(binding.octets, BINDING.octets);
  },
  decode(view) {
    const kind = view.getUint32(BINDING.class, true);
    return {
      port: view.getUint32(BINDING.port, true),
      class: kind === CLASS.mac ? CLASS.mac : kind === CLASS.ipv4 ? CLASS.ipv4 : CLASS.ipv6,
      octets: new Uint8Array(view.buffer, BINDING.octets).slice(),
      bits: view.getUint32(BINDING.bits, true) - BINDING_HEAD_BITS,
    };
  },
};

/** Where an Ethernet address was last seen. */
interface SeenMac {
  /** ifindex of the port. */
  readonly port: number;
  /** CLOCK_MONOTONIC, in ns. */
  readonly at: bigint;
}

/** Byte offsets in the value of `seen`. */
export const SEEN = { port: 0, at: 8, size: 16 } as const;

const SeenLayout: Layout<SeenMac> = {
  size: SEEN.size,
  encode(seen, view) {
    view.setUint32(SEEN.port, seen.port, true);
    view.setBigUint64(SEEN.at, seen.at, true);
  },
  decode: (view) => ({ port: view.getUint32(SEEN.port, true), at: view.getBigUint64(SEEN.at, true) }),
};

const DEFINITIONS = {
  /** ifindex of a port of a container. */
  ports: { name: "weave_ports", type: "hash", key: U32, value: PortLayout, maxEntries: MAX_PORTS },
  bindings: {
    name: "weave_bindings",
    type: "lpmTrie",
    key: BindingLayout,
    value: U32,
    maxEntries: MAX_BINDINGS,
  },
  seen: { name: "weave_seen", type: "lruHash", key: MacKey, value: SeenLayout, maxEntries: MAX_MACS },
} as const;

export interface PortMaps {
  readonly ports: BpfMap<number, PortEntry>;
  readonly bindings: BpfMap<Binding, number>;
  readonly seen: BpfMap<string, SeenMac>;
}

/** The maps of a program that is in the kernel; undefined where one is missing or has another shape. */
export function mapsOf(program: Program): PortMaps | undefined {
  const ids = mapIdsOf(program);
  const ports = BpfMap.adopt<number, PortEntry>(DEFINITIONS.ports, ids);
  const bindings = BpfMap.adopt<Binding, number>(DEFINITIONS.bindings, ids);
  const seen = BpfMap.adopt<string, SeenMac>(DEFINITIONS.seen, ids);
  if (ports && bindings && seen) return { ports, bindings, seen };
  for (const map of [ports, bindings, seen]) map?.close();
  return undefined;
}

export function createPortMaps(): PortMaps {
  return {
    ports: BpfMap.create<number, PortEntry>(DEFINITIONS.ports),
    bindings: BpfMap.create<Binding, number>(DEFINITIONS.bindings),
    seen: BpfMap.create<string, SeenMac>(DEFINITIONS.seen),
  };
}

export function closePortMaps({ ports, bindings, seen }: PortMaps): void {
  for (const map of [ports, bindings, seen]) map.close();
}
