// What weave-npc counts, for Prometheus. The first two are the original's.
import { Counter, Gauge, Histogram, Registry } from "prom-client";

export interface Metrics {
  readonly registry: Registry;
  readonly blocked: Counter<"protocol" | "dport">;
  readonly frames: Counter<"protocol">;
  readonly errors: Counter;
  readonly leftOut: Counter;
  readonly cut: Counter;
  readonly resets: Counter;
  readonly repairs: Counter;
  readonly syncSeconds: Histogram;
  readonly lagSeconds: Histogram;
  readonly lastEvent: Gauge;
  readonly inSync: Gauge;
  readonly following: Gauge<"kind">;
  readonly bridgedFiltered: Gauge;
  readonly objects: Gauge<"kind">;
  readonly unreadable: Gauge<"kind" | "namespace" | "name">;
  readonly rules: Gauge<"kind">;
}

/** Seconds: from 1 ms to 10 s. */
const BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const of = (name: string, help: string) => ({ name: `weavenpc_${name}`, help, registers });
  return {
    registry,
    blocked: new Counter({
      ...of("blocked_connections_total", "Connection attempts blocked by policy controller."),
      labelNames: ["protocol", "dport"],
    }),
    frames: new Counter({
      ...of("blocked_frames_total", "Frames from or to pods that are not untagged IPv4, IPv6 or ARP."),
      labelNames: ["protocol"],
    }),
    errors: new Counter(of("policy_enforcement_errors", "Errors in enforcing network policies.")),
    leftOut: new Counter(
      of("blocked_connections_left_out_total", "Blocked attempts that were not written to the log."),
    ),
    cut: new Counter(
      of("cut_connections_total", "Established connections cut when policies became stricter."),
    ),
    resets: new Counter(of("tcp_resets_total", "TCP resets sent to the ends of cut connections.")),
    repairs: new Counter(of("repairs_total", "Number of changes by others to our tables undone.")),
    syncSeconds: new Histogram({
      ...of("sync_seconds", "Time to compile and write a change."),
      buckets: BUCKETS,
    }),
    lagSeconds: new Histogram({
      ...of("lag_seconds", "Time from an event of the API server until its rules are in force."),
      buckets: BUCKETS,
    }),
    lastEvent: new Gauge(of("last_event_timestamp_seconds", "Time of the last change from the API server.")),
    inSync: new Gauge(of("in_sync", "1 once the rules in force are those of the API server's objects.")),
    following: new Gauge({
      ...of("following", "1 while the API server tells of changes of these objects."),
      labelNames: ["kind"],
    }),
    bridgedFiltered: new Gauge(
      of("bridged_traffic_filtered", "1 if the kernel passes bridged packets to the packet filter."),
    ),
    objects: new Gauge({ ...of("objects", "Objects of Kubernetes known."), labelNames: ["kind"] }),
    unreadable: new Gauge({
      ...of(
        "unreadable_objects",
        "1 for each object of Kubernetes that cannot be read, in whole or in part.",
      ),
      labelNames: ["kind", "namespace", "name"],
    }),
    rules: new Gauge({ ...of("rules", "Pods isolated, chains and sets in force."), labelNames: ["kind"] }),
  };
}

/** Ports above this are counted together: labels have to be few. */
const FIRST_EPHEMERAL = 32_768;
/** Ports that are counted by themselves, those met first: a pod can try all. */
export const MAX_PORTS = 500;

/** The labels of ports. */
export class PortLabels {
  readonly #known = new Set<string>();

  label(protocol: string, port: number): string {
    if (port >= FIRST_EPHEMERAL) return "ephemeral";
    const key = `${protocol} ${port}`;
    if (this.#known.size < MAX_PORTS) this.#known.add(key);
    return this.#known.has(key) ? String(port) : "other";
  }
}
