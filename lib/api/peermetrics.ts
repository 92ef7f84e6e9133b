// Metrics of peers, overlays, drops and CNI calls: what the original has not.
import { Counter, Gauge, type Registry } from "prom-client";
import type { CniReport } from "./cnitimes.ts";
import type { Report } from "./report.ts";

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
  for (const [reason, count] of Object.entries(report.Dropped ?? {}))
    dropped.inc({ where: "container port", reason }, count);
}

function peers(
  { Router }: Report,
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

/** The histogram of CNI calls in Prometheus' text format: prom-client's own cannot be made of counts. */
export function cniText(reports: readonly CniReport[]): string {
  const name = "weave_cni_seconds";
  const lines = reports.flatMap(({ Command, Outcome, Times }) => {
    const labels = `command="${Command}",outcome="${Outcome}"`;
    return [
      ...Times.buckets.map(([bound, count]) => `${name}_bucket{${labels},le="${bound}"} ${count}`),
      `${name}_bucket{${labels},le="+Inf"} ${Times.count}`,
      `${name}_sum{${labels}} ${Times.sum}`,
      `${name}_count{${labels}} ${Times.count}`,
    ];
  });
  const head = [`# HELP ${name} Time that CNI calls take in the router.`, `# TYPE ${name} histogram`];
  return lines.length === 0 ? "" : `\n${[...head, ...lines, ""].join("\n")}`;
}
