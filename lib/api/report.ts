// The report: the whole state of a router as data, with the field names of the original (weave: prog/weaver/http.go).
// Each room makes its own section. The status texts are made from it.

import type { Cidr } from "../address/ipv4.ts";
import { type EventLoopReport, eventLoopReport } from "../clock/eventloop.ts";
import { type DnsReport, type DnsSources, dnsReport } from "../dns/report.ts";
import type { LinkState } from "../host/ports/links.ts";
import { type ContainerReport, linkProblems, linkReport } from "../host/ports/states.ts";
import { type RepairsReport, type RepairsSources, repairsReport } from "../host/reconcile/report.ts";
import type { Allocator } from "../ipam/allocator.ts";
import { type IpamReport, ipamProblems } from "../ipam/report.ts";
import type { Peer } from "../mesh/peer.ts";
import { peerProblems } from "../mesh/report/problems.ts";
import { type MeshReport, meshReport } from "../mesh/report/report.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { Limit } from "../sys/limit.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import type { CniReport } from "./cnitimes.ts";
import type { RequestReport } from "./requesttimes.ts";

/** A router: the mesh, and what its overlays say. */
export interface RouterReport extends MeshReport {
  OverlayDiagnostics: Record<string, unknown>;
  TrustedSubnets: string[];
  /** In words, as the original has it: "vxlan-6784 (fast datapath: VXLAN and eBPF)". */
  Interface: string;
  /** The same as values: the port of the bridge that other hosts are behind, and what carries frames to them. */
  Overlay: { Port: string; Kind: string };
  /** The MTU of the network, in bytes. */
  Mtu?: MtuReport;
  CaptureStats: Record<string, number>;
  MACs: { Mac: string; Name: string; NickName: string; LastSeen: string }[];
}

/** The MTU of the network, and what sets it. */
export interface MtuReport {
  Network: number;
  /** Measured, not chosen by --mtu. */
  Auto: boolean;
  /** In words: "the path from b to c". */
  By: string;
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
  /** Notes for the status, in words. */
  Notes: string[];
  /** Frames of containers that the programs at their ports dropped, by reason. */
  Dropped?: Record<string, number>;
  /** How long calls of the CNI plugin take. */
  Cni?: CniReport[];
  /** How long requests to the control API take. */
  Api?: RequestReport[];
  /** Times that heartbeats of each peer were missing, since the start. */
  Silences?: { Peer: string; NickName: string; Count: number }[];
  /** What others can make grow here, and how far. */
  Limits?: LimitReport[];
  /** What holds the router up. */
  EventLoop?: EventLoopReport;
  /** What was put right in the kernel. */
  Repairs?: RepairsReport;
  /** Crash reports of this host's programs, the oldest first. */
  Crashes?: CrashSummary[];
  /** What is wrong between this host and others, as doctor shows it. */
  Problems?: ProblemReport[];
}

/** A bounded quantity, as `weave help limits` names it. */
interface LimitReport {
  Name: string;
  Value: number;
  Max: number;
  /** Refused, dropped or ignored at the bound since the start, where that is counted. */
  Refused?: number;
  /** At the bound the oldest is forgotten. */
  Forgets?: true;
}

export interface CrashSummary {
  /** RFC 3339. */
  Time: string;
  /** The count of reports on this host. */
  Number: number;
  Program: string;
  Kind: string;
  Error: string;
  File: string;
}

/** What a report is made from. */
export interface ReportSources {
  readonly crashes?: readonly CrashSummary[];
  readonly version: string;
  readonly ready: boolean;
  readonly mesh: MeshRouter;
  readonly allocator: Allocator;
  /** Whether addresses are allocated. */
  readonly allocates: boolean;
  readonly defaultSubnet: Cidr;
  readonly dns: DnsSources | undefined;
  readonly overlay: RouterReport["Overlay"];
  readonly mtu?: MtuReport;
  readonly trustedSubnets: readonly string[];
  macs(): readonly { mac: string; peer: Peer; seenAgoMs: number }[];
  /** Links of containers. */
  readonly links: readonly LinkState[];
  /** Problems other than those of mesh, addresses and links. */
  readonly problems: readonly ProblemReport[];
  readonly notes: readonly string[];
  readonly repairs?: RepairsSources;
  /** Frames of containers that the programs at their ports dropped, by reason. */
  dropped(): Readonly<Record<string, number>>;
  readonly cni: readonly CniReport[];
  readonly requests: readonly RequestReport[];
  readonly limits: readonly Limit[];
  readonly silences: readonly { Peer: string; NickName: string; Count: number }[];
  /** Diagnostics by overlay. */
  diagnostics(): Record<string, unknown>;
}

/** Memoize `make`: it is called at the first use, if any. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** Return the current report. */
export function makeReport(sources: ReportSources): Report {
  const router = routerReport(sources);
  const dropped = once(() => ({ ...sources.dropped() }));
  return {
    Ready: sources.ready,
    Version: sources.version,
    // Weave does not phone home.
    VersionCheck: { Enabled: false, Success: false, NewVersion: "", NextCheckAt: "0001-01-01T00:00:00Z" },
    Router: router,
    ...(sources.allocates && { IPAM: sources.allocator.report(sources.defaultSubnet) }),
    ...(sources.dns && { DNS: dnsReport(sources.dns) }),
    Containers: sources.links.map(linkReport),
    Notes: [...sources.notes],
    get Dropped() {
      return dropped();
    },
    Cni: [...sources.cni],
    Api: [...sources.requests],
    Silences: [...sources.silences],
    Limits: sources.limits.map(limitReport),
    EventLoop: eventLoopReport(),
    ...(sources.repairs && { Repairs: repairsReport(sources.repairs) }),
    ...(sources.crashes && sources.crashes.length > 0 && { Crashes: [...sources.crashes] }),
    Problems: [
      ...peerProblems(sources.mesh, router),
      ...ipamProblems(sources.allocator.problems()),
      ...linkProblems(sources.links),
      ...sources.problems,
    ],
  };
}

const limitReport = ({ name, value, max, refused, forgets }: Limit): LimitReport => ({
  Name: name,
  Value: value,
  Max: max,
  ...(refused !== undefined && { Refused: refused }),
  ...(forgets && { Forgets: true }),
});

function routerReport(sources: ReportSources): RouterReport {
  const { mesh, allocator, overlay, trustedSubnets } = sources;
  const report = meshReport(mesh, allocator.ring.peerNames());
  // These read the kernel's maps: only on use, and once per report, however often a format names them.
  const diagnostics = once(() => sources.diagnostics());
  const macs = once(() =>
    sources.macs().map(({ mac, peer, seenAgoMs }) => ({
      Mac: mac,
      Name: peer.name,
      NickName: peer.nickName,
      LastSeen: new Date(mesh.clock.wall() - seenAgoMs).toISOString(),
    })),
  );
  const more = {
    get OverlayDiagnostics() {
      return diagnostics();
    },
    TrustedSubnets: [...trustedSubnets],
    Interface: `${overlay.Port} (${overlay.Kind})`,
    Overlay: overlay,
    ...(sources.mtu && { Mtu: sources.mtu }),
    CaptureStats: {},
    get MACs() {
      return macs();
    },
  };
  // Spreading would evaluate what is lazy.
  return Object.defineProperties(report, Object.getOwnPropertyDescriptors(more)) as MeshReport & typeof more;
}
