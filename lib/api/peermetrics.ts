// Metrics of peers, overlays, drops, CNI calls and requests: what the original has not.
import { Counter, Gauge, type Registry } from "prom-client";
import type { EventLoopReport } from "../clock/eventloop.ts";
import type { HistogramCounts } from "../clock/histogram.ts";
import type { CniReport } from "./cnitimes.ts";
import type { Report } from "./report.ts";
import type { RequestReport } from "./requesttimes.ts";

/** Counters of the sleeve engine that are no drops. */
const NO_DROPS = ["captured", "sent", "received", "crypto"];

type Labels = Readonly<Record<string, string>>;

/** Add them to a registry. */
export function addPeerMetrics(report: Report, registry: Registry): void {
  const registers = [registry];
  const of = (name: string, help: string, labelNames: readonly string[]) => ({
    ...{ name: `weave_${name}`, help, registers },
    labelNames: [...labelNames],
  });
  const gauge = (name: string, help: string, ...labels: string[]) => new Gauge(of(name, help, labels));
  const counter = (name: string, help: string, ...labels: string[]) => new Counter(of(name, help, labels));
  peers(report, gauge, counter);
  const gossip = counter("gossip_bytes_total", "Bytes of gossip on connections to peers.", "direction");
  const { Received = 0, Sent = 0 } = report.Router.GossipBytes ?? {};
  gossip.inc({ direction: "received" }, Received);
  gossip.inc({ direction: "sent" }, Sent);
  const frames = counter(
    "sleeve_frames_total",
    "Frames that sleeve took from the kernel and sent to peers.",
    "direction",
  );
  const dropped = counter("dropped_frames_total", "Frames dropped, by where and why.", "where", "reason");
  const sleeve = Object.entries(report.Router.OverlayDiagnostics?.["sleeve"] ?? {});
  for (const [reason, count] of sleeve) {
    if (typeof count !== "number") continue;
    if (reason === "sent" || reason === "received") frames.inc({ direction: reason }, count);
    if (!NO_DROPS.includes(reason)) dropped.inc({ where: "sleeve", reason }, count);
  }
  flowCache(report, counter);
  for (const [reason, count] of Object.entries(report.Dropped ?? {}))
    dropped.inc({ where: "container port", reason }, count);
}

/** Packets and bytes of containers by the fast path, where flows are cached. */
function flowCache(
  { Router }: Report,
  counter: (name: string, help: string, ...labels: string[]) => Counter,
): void {
  const { fastdp } = Router.OverlayDiagnostics ?? {};
  if (typeof fastdp !== "object" || fastdp === null || !("flowCache" in fastdp)) return;
  const counts: Record<string, unknown> = { ...(fastdp.flowCache as object) };
  const packets = counter("fast_path_packets_total", "Packets of containers by the fast path.", "direction");
  const bytes = counter("fast_path_bytes_total", "Bytes of containers by the fast path.", "direction");
  for (const direction of ["Sent", "Received"]) {
    const labels = { direction: direction.toLowerCase() };
    packets.inc(labels, Number(counts[`${direction}Packets`] ?? 0));
    bytes.inc(labels, Number(counts[`${direction}Bytes`] ?? 0));
  }
}

function peers(
  { Router, Silences = [] }: Report,
  gauge: (name: string, help: string, ...labels: string[]) => Gauge,
  counter: (name: string, help: string, ...labels: string[]) => Counter,
): void {
  const bytes = counter(
    "peer_bytes_total",
    "Bytes of frames on the connection to a peer, with their Ethernet headers.",
    ...["peer", "nickname", "overlay", "direction"],
  );
  const overlay = gauge("peer_overlay", "1 for the overlay in use to a peer.", "peer", "nickname", "overlay");
  const roundTrip = gauge(
    "peer_round_trip_seconds",
    "Lowest round trip of the control connection within 5 min.",
    ...["peer", "nickname"],
  );
  const heard = gauge("peer_last_heard_seconds", "Time since a peer was heard.", "peer", "nickname");
  const silent = gauge("peer_silent", "1 while a heartbeat of the peer is missing.", "peer", "nickname");
  const silences = counter(
    "peer_heartbeats_lost_total",
    "Number of times that heartbeats of a peer were missing.",
    ...["peer", "nickname"],
  );
  for (const { Peer, NickName, Count } of Silences) silences.inc({ peer: Peer, nickname: NickName }, Count);
  const { Mtu } = Router;
  if (Mtu) gauge("mtu_bytes", "MTU of the network.").set(Mtu.Network);
  const mtu = gauge("peer_mtu_bytes", "MTU of the overlay to a peer.", "peer", "nickname");
  for (const { Peer, State, Attrs, Vitals } of Router.Connections) {
    if (!Peer || !Vitals || State !== "established") continue;
    const labels: Labels = { peer: Peer.Name, nickname: Peer.NickName };
    for (const { Overlay, ReceivedBytes, SentBytes } of Vitals.ByOverlay ?? []) {
      bytes.inc({ ...labels, overlay: Overlay, direction: "received" }, ReceivedBytes);
      bytes.inc({ ...labels, overlay: Overlay, direction: "sent" }, SentBytes);
    }
    if (Attrs?.["name"] !== undefined) overlay.set({ ...labels, overlay: String(Attrs["name"]) }, 1);
    if (typeof Attrs?.["mtu"] === "number") mtu.set(labels, Attrs["mtu"]);
    if (Vitals.RoundTripMs !== null) roundTrip.set(labels, Vitals.RoundTripMs / 1_000);
    heard.set(labels, Vitals.LastHeardMs / 1_000);
    silent.set(labels, Number(Vitals.Silent));
  }
}

/** The histogram of CNI calls. */
export const cniText = (reports: readonly CniReport[]): string =>
  histogramText(
    "weave_cni_seconds",
    "Time that CNI calls take in the router.",
    reports.map(({ Command, Outcome, Times }) => [{ command: Command, outcome: Outcome }, Times]),
  );

/** The histogram of requests to the control API. */
export const apiText = (reports: readonly RequestReport[]): string =>
  histogramText(
    "weave_api_seconds",
    "Time that requests to the control API take, waits for other hosts included.",
    reports.map(({ Method, Path, Times }) => [{ method: Method, path: Path }, Times]),
  );

/** What holds the event loop up. */
export function eventLoopText(report: EventLoopReport | undefined): string {
  if (!report) return "";
  const { KernelCalls, Lag, LongestCall } = report;
  const longest = "weave_longest_kernel_call_seconds";
  return [
    histogramText("weave_event_loop_lag_seconds", "Delay of the router's timers.", [[{}, Lag]]),
    histogramText("weave_kernel_call_seconds", "Time that netlink requests hold the router's event loop.", [
      [{}, KernelCalls],
    ]),
    `\n# HELP ${longest} The longest of these since the start; the report names it.\n`,
    `# TYPE ${longest} gauge\n${longest} ${LongestCall.Seconds}\n`,
  ].join("");
}

/** A histogram in Prometheus' text format: prom-client's own cannot be made of counts. */
function histogramText(
  name: string,
  help: string,
  rows: readonly (readonly [labels: Labels, times: HistogramCounts])[],
): string {
  const lines = rows.flatMap(([values, { buckets, count, sum }]) => {
    const labels = Object.entries(values).map(([label, value]) => `${label}="${value}"`);
    const all = labels.length === 0 ? "" : `{${labels.join()}}`;
    const bucket = (bound: number | string, within: number) =>
      `${name}_bucket{${[...labels, `le="${bound}"`].join()}} ${within}`;
    return [
      ...buckets.map(([bound, within]) => bucket(bound, within)),
      bucket("+Inf", count),
      `${name}_sum${all} ${sum}`,
      `${name}_count${all} ${count}`,
    ];
  });
  const head = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`];
  return lines.length === 0 ? "" : `\n${[...head, ...lines, ""].join("\n")}`;
}
