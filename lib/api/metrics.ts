// Router metrics for Prometheus; names and labels are the original's (weave: prog/weaver/metrics.go).
import { Counter, Gauge, Registry } from "prom-client";
import { systemClock } from "../clock/clock.ts";
import { ownNameCount } from "../dns/report.ts";
import type { IpamReport } from "../ipam/report.ts";
import { unexpectedErrors } from "../log/unexpected.ts";
import type { ConnectionReport } from "../mesh/report/connections.ts";
import { waitedMs } from "../sys/clocks.ts";
import { HTTP_SERVER } from "../sys/httpserver.ts";
import { addPeerMetrics, apiText, cniText, eventLoopText } from "./peermetrics.ts";
import { ReadBudget } from "./readbudget.ts";
import type { Report } from "./report.ts";
import { inTurns } from "./turns.ts";

const STATES: readonly ConnectionReport["State"][] = [
  "established",
  "pending",
  "retrying",
  "failed",
  "connecting",
];

type MakeGauge = (name: string, help: string, ...labels: "limit"[]) => Gauge<"limit">;
type MakeCounter = (name: string, help: string, ...labels: "limit"[]) => Counter<"limit">;

/** Add metrics of unreachable owners and of pending requests. */
function addressMetrics(gauge: MakeGauge, IPAM: IpamReport): void {
  const unreachable = (IPAM.Entries ?? []).filter(({ IsKnownPeer }) => !IsKnownPeer);
  gauge("ipam_unreachable_count", "Number of unreachable peers.").set(
    new Set(unreachable.map(({ Peer }) => Peer)).size,
  );
  gauge("ipam_unreachable_percentage", "Percentage of IP addresses owned by unreachable peers.").set(
    (unreachable.reduce((sum, { Size }) => sum + Size, 0) * 100) / IPAM.RangeNumIPs,
  );
  gauge("ipam_pending_allocates", "Number of pending allocates.").set(IPAM.PendingAllocates?.length ?? 0);
  gauge("ipam_pending_claims", "Number of pending claims.").set(IPAM.PendingClaims?.length ?? 0);
}

/** Add bounded quantities, their bounds, and what was refused at them. */
function limits({ Limits = [] }: Report, gauge: MakeGauge, counter: MakeCounter): void {
  const value = gauge("limit_value", "What others can make grow; see 'weave help limits'.", "limit");
  const max = gauge("limit_max", "The bound of it.", "limit");
  const refused = counter("limit_refused_total", "Refused, dropped or ignored at the bound.", "limit");
  for (const { Name, Value, Max, Refused } of Limits) {
    value.set({ limit: Name }, Value);
    max.set({ limit: Name }, Max);
    if (Refused !== undefined) refused.inc({ limit: Name }, Refused);
  }
}

/** The metrics of a report, in Prometheus' text format. */
export async function metricsText(report: Report): Promise<string> {
  const registry = new Registry();
  const gauge = <Label extends string>(name: string, help: string, ...labelNames: Label[]) =>
    new Gauge({ name: `weave_${name}`, help, labelNames, registers: [registry] });
  const counter = <Label extends string>(name: string, help: string, ...labelNames: Label[]) =>
    new Counter({ name: `weave_${name}`, help, labelNames, registers: [registry] });
  const { Router, IPAM, DNS } = report;

  const connections = gauge(
    "connections",
    "Number of peer-to-peer connections.",
    "state",
    "type",
    "encryption",
  );
  for (const state of STATES) connections.set({ state, type: "unknown", encryption: "" }, 0);
  for (const { State, Attrs } of Router.Connections) {
    const type = typeof Attrs?.["name"] === "string" ? Attrs["name"] : "unknown";
    const encrypted = Boolean(Attrs?.["encrypted"]);
    connections.inc({ state: State, type, encryption: "yes" }, Number(encrypted));
    connections.inc({ state: State, type, encryption: "" }, Number(!encrypted));
  }
  counter("connection_terminations_total", "Number of peer-to-peer connections terminated.").inc(
    Router.TerminationCount,
  );
  const flows = flowCount(report);
  if (flows !== undefined) gauge("flows", "Number of FastDP flows.").set(flows);
  if (IPAM) {
    gauge("ips", "Number of IP addresses.", "state").set({ state: "local-used" }, IPAM.ActiveIPs);
    gauge("max_ips", "Size of IP address space used by allocator.").set(IPAM.RangeNumIPs);
    addressMetrics(gauge, IPAM);
  }
  if (DNS) gauge("dns_entries", "Number of DNS entries.").set(ownNameCount(DNS, Router.Name));
  counter("unexpected_errors_total", "Number of errors that nothing handled; see the log.").inc(
    unexpectedErrors().count,
  );
  counter("crash_reports_total", "Number of crash reports written on this host; see weave doctor.").inc(
    report.Crashes?.at(-1)?.Number ?? 0,
  );
  const repairs = counter("reconcile_repairs_total", "Number of repaired changes by others.", "resource");
  const failures = counter("reconcile_failures_total", "Number of failed repairs.", "resource");
  for (const { Name, Repairs, Failures } of report.Repairs?.Resources ?? []) {
    repairs.inc({ resource: Name }, Repairs);
    failures.inc({ resource: Name }, Failures);
  }
  gauge("reconcile_fights", "Number of objects that others keep changing.").set(
    report.Repairs?.Fights.length ?? 0,
  );
  limits(report, gauge, counter);
  gauge("ready", "1 once this host has joined the network.").set(report.Ready ? 1 : 0);
  addPeerMetrics(report, registry);
  return (
    (await registry.metrics()) +
    cniText(report.Cni ?? []) +
    apiText(report.Api ?? []) +
    eventLoopText(report.EventLoop)
  );
}

/**
 * Ethernet addresses that the fast datapath knows the peer of, each of which stood for flows in the original's; undefined
 * where there is no fast datapath. Alerts fire where it falls.
 */
function flowCount({ Router }: Report): number | undefined {
  const { fastdp } = Router.OverlayDiagnostics ?? {};
  const isUsed = typeof fastdp === "object" && fastdp !== null && !("unavailable" in fastdp);
  return isUsed ? Router.MACs.length : undefined;
}

/** The metrics of a report as an answer over HTTP. */
export async function metricsResponse(report: Report): Promise<Response> {
  const headers = { "content-type": Registry.PROMETHEUS_CONTENT_TYPE };
  return new Response(await metricsText(report), { headers });
}

/** Serve them on TCP at /metrics. */
export function serveMetrics(
  access: { readonly hostname: string; readonly port: number },
  report: () => Report,
): Bun.Server<undefined> {
  const time = new ReadBudget(systemClock, waitedMs);
  const turns = inTurns();
  return Bun.serve({
    ...HTTP_SERVER,
    ...access,
    routes: {
      "/metrics": () => turns(() => time.spend(() => metricsResponse(report()))),
    },
    fetch: () => new Response("not found\n", { status: 404 }),
  });
}
