// Output of --json, a stable interface for scripts. Fields may be added, never removed or changed in meaning.
import * as v from "valibot";

/** "10.32.0.1/12". */
const cidr = v.string();
const nullable = <T extends v.GenericSchema>(schema: T) => v.nullable(schema);

/** attach, detach, expose, hide. */
export const Addresses = v.object({ id: v.string(), addresses: v.array(cidr) });

/** ps. */
export const Attached = v.array(
  v.object({
    id: v.string(),
    mac: v.string(),
    addresses: v.array(cidr),
    /** What is wrong with the link. */
    problem: v.optional(v.string()),
  }),
);

/** dns-add, dns-remove: which names of which addresses; `name` is null for all of them. */
export const Named = v.object({
  id: v.string(),
  name: nullable(v.string()),
  addresses: v.array(v.string()),
});

/** dns-lookup: addresses of a name, or names of an address. */
export const Lookup = v.object({ query: v.string(), answers: v.array(v.string()) });

/** bugreport, manual: what was written where. */
export const Written = v.object({ path: v.string(), files: v.number() });

/** dns-args. */
export const DnsArguments = v.object({ address: v.string(), domain: v.string() });

/** connect, forget, rmpeer: the peers as they were named. */
export const Peers = v.object({
  peers: v.array(v.string()),
  /** Names that do not resolve; they are tried again. */
  warnings: v.optional(v.array(v.string())),
});

/** setup, migrate, reset: what was done, or with --dry-run what would be, one sentence each. */
export const Steps = v.object({
  done: v.boolean(),
  steps: v.array(v.string()),
  /** What still does not work. */
  warnings: v.optional(v.array(v.string())),
});

/** A peer that launch was asked to connect to, or that is left of the last launch. */
export const LaunchedPeer = v.object({
  /** As it was named. */
  peer: v.string(),
  /** "IP:PORT"; null while its name does not resolve. */
  address: nullable(v.string()),
  /** connected, refused, no-answer, unresolved or self. */
  state: v.string(),
  /** The peer there, once known. */
  name: nullable(v.string()),
  nickname: nullable(v.string()),
  /** Why it is not connected, where that is known, and what to do. */
  reason: nullable(v.string()),
  advice: nullable(v.string()),
});

/** launch. */
export const Launched = v.object({
  pid: v.number(),
  log: v.string(),
  name: v.string(),
  nickname: v.string(),
  /** Null where no addresses are allocated. */
  range: nullable(cidr),
  /** "fast datapath: VXLAN and eBPF" or "sleeve". */
  overlay: v.string(),
  encryption: v.boolean(),
  peers: v.array(LaunchedPeer),
  /** What the router warned of while it started. */
  warnings: v.array(v.string()),
});

/** stop: false where it did not run. */
export const Stopped = v.object({ stopped: v.boolean() });

/** prime. */
export const Primed = v.object({ ready: v.boolean() });

/** version; `router` is null where none runs. */
export const Versions = v.object({ weave: v.string(), router: nullable(v.string()) });

const Peer = v.object({ name: v.string(), nickname: v.string() });

const Problem = v.object({ check: v.string(), found: v.string(), advice: v.string() });

/** status. */
export const Status = v.object({
  /** No problem, and ready. */
  ok: v.boolean(),
  /** The same in words: "all is well", what is waited for, or how many problems there are. */
  health: v.string(),
  ready: v.boolean(),
  version: v.string(),
  name: v.string(),
  nickname: v.string(),
  encryption: v.boolean(),
  discovery: v.boolean(),
  interface: v.string(),
  /** The MTU of the network in bytes, and what sets it, in words; null in reports of older versions. */
  mtu: nullable(v.object({ bytes: v.number(), auto: v.boolean(), by: v.string() })),
  targets: v.number(),
  /** Connections by state; states without any are left out. */
  connections: v.record(v.string(), v.number()),
  peers: v.number(),
  trustedSubnets: v.array(cidr),
  /** Null where no addresses are allocated. */
  ipam: nullable(
    v.object({
      status: v.string(),
      range: cidr,
      defaultSubnet: cidr,
      addresses: v.number(),
      active: v.number(),
    }),
  ),
  dns: nullable(
    v.object({
      domain: v.string(),
      address: v.string(),
      upstream: v.array(v.string()),
      ttl: v.number(),
      names: v.number(),
    }),
  ),
  problems: v.array(Problem),
  notes: v.array(v.string()),
});

/**
 * status connections; what is not known is null. `state` is established, pending, connecting, retrying, failed, waiting,
 * and for peers without a connection also lost (in the last 10 min) or refused.
 */
export const Connections = v.array(
  v.object({
    address: v.string(),
    outbound: v.boolean(),
    state: v.string(),
    peer: nullable(Peer),
    /** fastdp or sleeve. */
    overlay: nullable(v.string()),
    encrypted: v.boolean(),
    mtu: nullable(v.number()),
    /** Why a better overlay is not in use, or why there is no connection. */
    reason: nullable(v.string()),
    /** What to do about it, where that is known. */
    remedy: nullable(v.string()),
    /** RFC 3339: connected, lost or refused since then. */
    since: nullable(v.string()),
    /** ms since the peer's router was heard. */
    lastHeardMs: nullable(v.number()),
    /** A heartbeat of the peer is missing. */
    silent: v.boolean(),
    /** Lowest round trip in ms of the control connection within 5 min. */
    roundTripMs: nullable(v.number()),
    /** Frames by the overlays, with their Ethernet headers: in all, and in the last seconds. */
    receivedBytes: nullable(v.number()),
    sentBytes: nullable(v.number()),
    receivedBytesPerS: nullable(v.number()),
    sentBytesPerS: nullable(v.number()),
  }),
);

/** status peers. */
export const PeerList = v.array(
  v.object({
    ...Peer.entries,
    connections: v.array(
      v.object({ ...Peer.entries, address: v.string(), outbound: v.boolean(), established: v.boolean() }),
    ),
  }),
);

/** top: containers as they see their traffic, the busiest first; counters since each was attached. */
export const Top = v.object({
  ...Peer.entries,
  /** Established connections to peers. */
  peers: v.number(),
  containers: v.array(
    v.object({
      /** As the runtime calls it ("web", "namespace/pod"), else the beginning of its ID, or its port on the bridge. */
      name: v.string(),
      /** Empty if unknown. */
      id: v.string(),
      interface: v.string(),
      addresses: v.array(cidr),
      receivedBytes: v.number(),
      sentBytes: v.number(),
      receivedPackets: v.number(),
      sentPackets: v.number(),
      /** Dropped on the way to it. */
      receivedDropped: v.number(),
      /** Dropped on the way from it, with what anti-spoofing and storm control dropped. */
      sentDropped: v.number(),
      receivedBytesPerS: v.number(),
      sentBytesPerS: v.number(),
      receivedPacketsPerS: v.number(),
      sentPacketsPerS: v.number(),
      /** Dropped both ways since the sample before. */
      newlyDropped: v.number(),
    }),
  ),
});

/** ui. */
export const Page = v.object({
  url: v.string(),
  /** The command that brings it to another machine. */
  tunnel: v.string(),
});

/** status targets. */
export const Targets = v.array(v.string());

/** status ipam: owners of the range, this host first. */
export const Owners = v.array(
  v.object({
    ...Peer.entries,
    addresses: v.number(),
    reachable: v.boolean(),
    /** RFC 3339; null where it is reachable, or not known. */
    unreachableSince: nullable(v.string()),
  }),
);

/** status dns. */
export const Names = v.array(
  v.object({ name: v.string(), address: v.string(), id: v.string(), peer: v.string() }),
);

const TraceEnd = v.object({ name: v.string(), address: v.string() });

/** trace. */
export const Trace = v.object({
  from: v.object({ ...TraceEnd.entries, host: v.string() }),
  /** `host` is null where no host has the address. */
  to: v.object({ ...TraceEnd.entries, host: nullable(v.string()) }),
  protocol: v.string(),
  /** 0 for ICMP. */
  port: v.number(),
  reached: v.boolean(),
  /** In order; the last one has failed, or is the answer. */
  hops: v.array(
    v.object({
      /** Nickname; "" for what is between hosts. */
      host: v.string(),
      name: v.string(),
      /** ok, fail, or unknown: it cannot be looked at. */
      state: v.string(),
      found: v.string(),
      /** What to do where it failed. */
      advice: nullable(v.string()),
    }),
  ),
});

/** Of one overlay to one peer. */
const PingWay = v.object({
  /** fastdp or sleeve: that of the first hop. */
  overlay: v.string(),
  /** Frames of containers go by it now. */
  inUse: v.boolean(),
  sent: v.number(),
  /** Answered probes. */
  received: v.number(),
  /** Round-trip time, milliseconds; null where nothing was answered. */
  roundTripMs: nullable(v.object({ min: v.number(), median: v.number(), max: v.number() })),
  /** The largest packet that got there and back, bytes; null where nothing was answered. */
  mtu: nullable(v.number()),
  problem: nullable(v.string()),
  remedy: nullable(v.string()),
});

const Ping = v.object({
  peer: Peer,
  /** The peer that passes frames on; null where there is a connection. */
  via: nullable(Peer),
  /** MTU of the network: the largest packet that was tried. */
  networkMtu: v.number(),
  overlays: v.array(PingWay),
  /** Why there are no overlays, where that is wrong. */
  problem: nullable(v.string()),
  remedy: nullable(v.string()),
  /** Why there are none, where nothing is wrong: Weave Net 2.x and older versions answer no probes. */
  note: nullable(v.string()),
});

/** ping: a peer each. */
export const Pings = v.array(Ping);

/** doctor --cluster. */
export const Cluster = v.object({
  hosts: v.array(
    v.object({
      peer: Peer,
      /** "older": it cannot be asked. */
      state: v.picklist(["answers", "older", "silent", "refused", "lost"]),
      version: nullable(v.string()),
      problems: v.array(v.object({ level: v.picklist(["problem", "warning"]), ...Problem.entries })),
      /** Problems and warnings that are not listed. */
      more: v.number(),
    }),
  ),
  /** From each host that answers to each of its peers. */
  paths: v.array(v.object({ from: Peer, ping: Ping })),
});

/** On standard error, where a command with --json fails. */
export const Failure = v.object({
  error: v.object({
    /** usage, not-root, not-running, no-answer, refused, state-file or failed. */
    code: v.string(),
    message: v.string(),
    /** What to do, where there is something. */
    hint: nullable(v.string()),
  }),
});

export type Shape<S extends v.GenericSchema> = v.InferOutput<S>;
