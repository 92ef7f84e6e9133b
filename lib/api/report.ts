// The report: the whole state of a router as data, with the field names of the original (weave: prog/weaver/http.go,
// mesh: status.go, weave: ipam/status.go). The status texts are made from it.

import type { Cidr } from "../address/ipv4.ts";
import { cidrSize, formatCidr, formatIPv4, rangeSize } from "../address/ipv4.ts";
import { type Clock, dateOf } from "../clock/clock.ts";
import { compareByName, type Entry } from "../dns/entry.ts";
import type { Nameserver } from "../dns/nameserver.ts";
import type { DnsServer } from "../dns/server.ts";
import type { LinkState } from "../host/ports/links.ts";
import { type ContainerReport, linkProblems, linkReport } from "../host/ports/states.ts";
import type { Allocator } from "../ipam/allocator.ts";
import type { LocalConnection } from "../mesh/connection.ts";
import { PROTOCOL_MAX_VERSION } from "../mesh/handshake.ts";
import type { Target } from "../mesh/maker.ts";
import { nameToNumber, UNKNOWN_PEER } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { type TroubleReport, troubleReport } from "../sys/trouble.ts";
import {
  type LostReport,
  lostReports,
  peerProblems,
  type RefusedReport,
  refusedReports,
  type VitalsReport,
  vitalsReport,
} from "./peers.ts";
import { type RepairsReport, type RepairsSources, repairsReport } from "./repairs.ts";
import { type TargetReport, targetState } from "./targets.ts";

export interface ConnectionReport {
  Address: string;
  Outbound: boolean;
  State: "established" | "pending" | "retrying" | "failed" | "connecting" | "waiting";
  Info: string;
  Attrs: Record<string, string | number | boolean> | null;
  /** Why it is not connected; of a connection, why frames go by a slower overlay than they could. */
  Trouble?: TroubleReport;
  /** RFC 3339, when it is tried again; absent for a target that is connected, or never tried again. */
  RetryAt?: string;
  /** Who is at the other end, once that is known. */
  Peer?: { Name: string; NickName: string };
  /** How it does; absent for targets that are not connected. */
  Vitals?: VitalsReport;
}

export interface PeerReport {
  Name: string;
  NickName: string;
  UID: bigint;
  ShortID: number;
  Version: number;
  Connections: { Name: string; NickName: string; Address: string; Outbound: boolean; Established: boolean }[];
}

export interface RouterReport {
  Protocol: "weave";
  ProtocolMinVersion: number;
  ProtocolMaxVersion: number;
  Encryption: boolean;
  PeerDiscovery: boolean;
  Name: string;
  NickName: string;
  Port: number;
  Peers: PeerReport[];
  UnicastRoutes: { Dest: string; Via: string }[];
  BroadcastRoutes: { Source: string; Via: string[] | null }[];
  Connections: ConnectionReport[];
  /** Peers lost in the last 10 min that are not connected again, the latest first. */
  Lost?: LostReport[];
  /** Peers, and hosts that may be none, that are not let in or do not let us in. */
  Refused?: RefusedReport[];
  TerminationCount: number;
  Targets: string[];
  /** Where each of the targets stands. */
  TargetStates: TargetReport[];
  OverlayDiagnostics: Record<string, unknown>;
  TrustedSubnets: string[];
  Interface: string;
  CaptureStats: Record<string, number>;
  MACs: { Mac: string; Name: string; NickName: string; LastSeen: string }[];
}

export interface IpamReport {
  Paxos: { Elector: boolean; KnownNodes: number; Quorum: number } | null;
  Range: string;
  RangeNumIPs: number;
  ActiveIPs: number;
  DefaultSubnet: string;
  Entries:
    | {
        Token: string;
        Size: number;
        Peer: string;
        Nickname: string;
        IsKnownPeer: boolean;
        /** When it went, where that is known. */
        UnreachableSince?: string;
        Version: number;
      }[]
    | null;
  /** Named peers that have to be heard before the range is divided. */
  WaitsFor?: string[];
  PendingClaims: { Ident: string; CIDR: string }[] | null;
  PendingAllocates: string[] | null;
}

export interface DnsReport {
  Domain: string;
  Upstream: string[] | null;
  Address: string;
  TTL: number;
  Entries:
    | {
        Hostname: string;
        Origin: string;
        ContainerID: string;
        Address: string;
        Version: number;
        Tombstone: number;
      }[]
    | null;
}

export interface Report {
  Ready: boolean;
  Version: string;
  VersionCheck: { Enabled: boolean; Success: boolean; NewVersion: string; NextCheckAt: string };
  Router: RouterReport;
  /** Undefined where no addresses are allocated. */
  IPAM?: IpamReport;
  DNS?: DnsReport;
  /** Links of containers on this host. */
  Containers: ContainerReport[];
  /** What the host's packet filter had to be told beside our own table, in words. */
  Notes: string[];
  /** What was put right in the kernel. */
  Repairs?: RepairsReport;
  /** What is wrong between this host and others, as doctor shows it. */
  Problems?: ProblemReport[];
}

export interface ProblemReport {
  /** What was looked at, in a word. */
  Check: string;
  Found: string;
  Advice: string;
}

/** weaveDNS, as it is reported on and acted on. */
export interface DnsSources {
  readonly nameserver: Nameserver;
  readonly server: DnsServer;
  /** Other nameservers, as they are asked now. */
  upstream(): readonly string[];
  /** "address:port" for containers to ask at; undefined where none is answered at yet. */
  address(): string | undefined;
}

/** What a report is made from. */
export interface ReportSources {
  readonly version: string;
  readonly ready: boolean;
  readonly mesh: MeshRouter;
  readonly allocator: Allocator;
  /** Whether addresses are allocated. */
  readonly allocates: boolean;
  readonly defaultSubnet: Cidr;
  readonly dns: DnsSources | undefined;
  readonly interfaceName: string;
  readonly trustedSubnets: readonly string[];
  readonly macs: readonly { mac: string; peer: Peer; seenAgoMs: number }[];
  /** Links of containers. */
  readonly links: readonly LinkState[];
  /** What is wrong beside that of mesh, addresses and links. */
  readonly problems: readonly ProblemReport[];
  readonly notes: readonly string[];
  readonly repairs?: RepairsSources;
  /** Of the overlays, by their names. */
  readonly diagnostics: Record<string, unknown>;
}

/** The report of this moment. */
export function makeReport(sources: ReportSources): Report {
  const router = routerReport(sources);
  return {
    Ready: sources.ready,
    Version: sources.version,
    // There is no phoning home, and so no check.
    VersionCheck: { Enabled: false, Success: false, NewVersion: "", NextCheckAt: "0001-01-01T00:00:00Z" },
    Router: router,
    ...(sources.allocates && { IPAM: ipamReport(sources) }),
    ...(sources.dns && { DNS: dnsReport(sources.dns) }),
    Containers: sources.links.map(linkReport),
    Notes: [...sources.notes, ...sources.allocator.sharing.notes()],
    ...(sources.repairs && { Repairs: repairsReport(sources.repairs) }),
    Problems: problemReports(sources, router),
  };
}

const CONTRADICTION =
  "a peer took over from a live one, or lies: 'weave status ipam' on both; 'weave reset' on the one whose ring is to go";

const LINK_ADVICE = "repair it inside (ip link, addr, route), or restart the container; 'weave ps' lists all";

function problemReports(
  { mesh, allocator, links, problems }: ReportSources,
  router: RouterReport,
): ProblemReport[] {
  return [
    ...peerProblems(mesh, router),
    ...allocator.sharing.problems().map((Found) => ({ Check: "ring", Found, Advice: CONTRADICTION })),
    ...allocator.homeless.problems().map((Found) => ({
      Check: "addresses",
      Found,
      Advice: "restart the container",
    })),
    ...linkProblems(links).map((Found) => ({ Check: "containers", Found, Advice: LINK_ADVICE })),
    ...problems,
  ];
}

const byName = <T extends { Name: string }>(a: T, b: T) => (a.Name < b.Name ? -1 : 1);

function routerReport({
  mesh,
  allocator,
  macs,
  interfaceName,
  trustedSubnets,
  diagnostics,
}: ReportSources): RouterReport {
  const { ourself } = mesh;
  const { clock } = mesh;
  let peers: PeerReport[] | undefined;
  const owners = new Set<string>(allocator.sharing.ring.ranges().map(({ entry }) => entry.peer));
  return {
    Protocol: "weave",
    ProtocolMinVersion: mesh.minVersion,
    ProtocolMaxVersion: PROTOCOL_MAX_VERSION,
    Encryption: mesh.encryption !== undefined,
    PeerDiscovery: mesh.config.discovery ?? true,
    Name: ourself.name,
    NickName: ourself.nickName,
    Port: mesh.port,
    // By far the longest part, and most who ask for a report do not look at it.
    get Peers() {
      peers ??= Array.from(mesh.peers.all(), peerReport).sort(byName);
      return peers;
    },
    UnicastRoutes: Array.from(mesh.routes.unicast, ([Dest, Via]) => ({ Dest, Via })),
    BroadcastRoutes: Array.from(mesh.peers.all(), ({ name }) => {
      const via = [...mesh.routes.shownBroadcast(name)];
      return { Source: name, Via: via.length > 0 ? via : null };
    }),
    Connections: [
      ...Array.from(mesh.maker.connections, (connection) => connectionReport(mesh, connection)),
      ...Array.from(mesh.maker.targets, ([address, target]) => targetReport(clock, address, target)).flat(),
    ],
    Lost: lostReports(mesh, owners),
    Refused: refusedReports(mesh),
    TerminationCount: mesh.maker.terminations,
    Targets: mesh.maker.directPeers(),
    TargetStates: mesh.maker.namedTargets().map(targetState),
    OverlayDiagnostics: diagnostics,
    TrustedSubnets: [...trustedSubnets],
    Interface: interfaceName,
    CaptureStats: {},
    MACs: macs.map(({ mac, peer, seenAgoMs }) => ({
      Mac: mac,
      Name: peer.name,
      NickName: peer.nickName,
      LastSeen: new Date(clock.wall() - seenAgoMs).toISOString(),
    })),
  };
}

function peerReport(peer: Peer): PeerReport {
  return {
    Name: peer.name,
    NickName: peer.nickName,
    UID: peer.uid,
    ShortID: peer.shortId,
    Version: peer.version,
    Connections: Array.from(peer.connections.values(), ({ remote, address, outbound, established }) => ({
      Name: remote.name as string,
      NickName: remote.nickName,
      Address: address,
      Outbound: outbound,
      Established: established,
    })).sort(byName),
  };
}

function connectionReport(mesh: MeshRouter, connection: LocalConnection): ConnectionReport {
  const attributes = connection.attributes() ?? {};
  const trouble = connection.slowness();
  const secrecy = mesh.encryption ? `${(connection.trusted ? "unencrypted" : "encrypted").padEnd(11)} ` : "";
  return {
    Address: connection.address,
    Outbound: connection.outbound,
    State: connection.established ? "established" : "pending",
    Info: `${secrecy}${String(attributes["name"] ?? "none").padEnd(6)} ${connection.remote}`,
    Attrs: mesh.encryption && !connection.trusted ? { ...attributes, encrypted: true } : attributes,
    Peer: { Name: connection.remote.name, NickName: connection.remote.nickName },
    ...(trouble && { Trouble: troubleReport(trouble) }),
    Vitals: vitalsReport(mesh.clock, connection),
  };
}

function targetReport(clock: Clock, Address: string, target: Target): ConnectionReport[] {
  const { lastError, trouble, tryAfter } = target;
  const error = lastError?.message;
  const retry = target.state === "waiting" && tryAfter !== undefined ? dateOf(clock, tryAfter) : undefined;
  const report = (State: ConnectionReport["State"], Info: string): ConnectionReport[] => [
    {
      ...{ Address, Outbound: true, State, Info, Attrs: null },
      ...(trouble && { Trouble: troubleReport(trouble) }),
      ...(retry && { RetryAt: retry.toISOString() }),
    },
  ];
  switch (target.state) {
    case "attempting":
      return error === undefined ? report("connecting", "") : report("retrying", error);
    case "waiting": {
      const when = retry ? goTime(retry) : "never";
      return error === undefined
        ? report("waiting", `until: ${when}`)
        : report("failed", `${error}, retry: ${when}`);
    }
    case "connected":
      return [];
  }
}

/** As Go prints a time: "2026-11-21 05:59:44.284 +0000 UTC". */
function goTime(date: Date): string {
  return `${date.toISOString().replace("T", " ").replace("Z", "")} +0000 UTC`;
}

function ipamReport({ mesh, allocator, defaultSubnet }: ReportSources): IpamReport {
  const { config, space, pending, sharing } = allocator;
  const { ring, division } = sharing;
  const { consensus } = division;
  const orNull = <T>(list: T[]) => (list.length > 0 ? list : null);
  const paxos = () => {
    if (!consensus) return { Elector: false, KnownNodes: 0, Quorum: 0 };
    return { Elector: true, KnownNodes: consensus.state.size, Quorum: consensus.quorum };
  };
  return {
    Paxos: sharing.division.awaited ? paxos() : null,
    ...(division.awaited && division.unheard.length > 0 && { WaitsFor: [...division.unheard] }),
    Range: formatCidr(config.universe),
    RangeNumIPs: cidrSize(config.universe),
    ActiveIPs: space.usedCount,
    DefaultSubnet: formatCidr(defaultSubnet),
    Entries: orNull(
      ring.ranges().map(({ entry, range }) => {
        const known = entry.peer !== UNKNOWN_PEER && config.isKnownPeer(entry.peer);
        const since = known ? undefined : sharing.unreachable.get(entry.peer);
        return {
          Token: formatIPv4(range.start),
          Size: rangeSize(range),
          Peer: entry.peer,
          Nickname: sharing.nicknames.get(entry.peer) ?? "",
          IsKnownPeer: known,
          ...(since !== undefined && { UnreachableSince: dateOf(mesh.clock, since).toISOString() }),
          Version: entry.version,
        };
      }),
    ),
    PendingClaims: orNull(pending.list("claim").map(({ id, text }) => ({ Ident: id, CIDR: text }))),
    PendingAllocates: orNull(pending.list("allocate").map(({ text }) => text)),
  };
}

function dnsReport({ nameserver, server, upstream }: DnsSources): DnsReport {
  const servers = [...upstream()];
  const entries = [...nameserver.entries.all()].sort(compareByName);
  return {
    Domain: server.config.domain,
    Upstream: servers.length > 0 ? servers : null,
    Address: server.addresses.join(", "),
    TTL: server.config.ttl,
    Entries:
      entries.length === 0
        ? null
        : entries.map((entry) => ({
            Hostname: entry.hostname,
            Origin: entry.origin,
            ContainerID: entry.containerId,
            Address: formatIPv4(entry.address),
            Version: entry.version,
            Tombstone: entry.tombstone,
          })),
  };
}

/** A name as "GET /name" lists it, with numbers as the original has them. */
export function nameJson(entry: Entry): object {
  return {
    ContainerID: entry.containerId,
    Origin: nameToNumber(entry.origin),
    Addr: formatIPv4(entry.address),
    Hostname: entry.hostname,
    Version: entry.version,
    Tombstone: entry.tombstone,
  };
}
