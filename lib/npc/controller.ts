// The policy controller of one node: follows the API server, keeps the kernel's rules, and tells of what they block.
import { every, systemClock, type Timer } from "../clock/clock.ts";
import { atQuietTimes } from "../clock/quiet.ts";
import { systemRandom } from "../clock/random.ts";
import { BridgeNetfilter } from "../host/bridgenetfilter.ts";
import { Reconciler } from "../host/reconcile/reconciler.ts";
import { keeper } from "../host/reconcile/resource.ts";
import type { KubeClient } from "../kube/client.ts";
import { reflect } from "../kube/reflector.ts";
import type { Fields } from "../log/fields.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { type LoggedPacket, watchPackets } from "../netlink/nflog.ts";
import { watchTables } from "../netlink/nftables/watch.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import type { Watch } from "../sys/readable.ts";
import { reasonOf } from "../sys/reason.ts";
import { RELEASE_MS, releaseMemory, STARTED_MS } from "../sys/runtime.ts";
import { isolating } from "./compiler.ts";
import { type Drop, Drops, dropLine } from "./drops.ts";
import { Enforcer, type EnforcerConfig } from "./enforcer.ts";
import { EventWriter } from "./events.ts";
import { type Explanation, existingEnd, explain } from "./explain.ts";
import { FRAME, frameLine, protocolName } from "./frames.ts";
import { createMetrics, type Metrics, PortLabels } from "./metrics.ts";
import { identify, keyOf, type Model } from "./model.ts";
import type { Kind, KubeObject, Protocol } from "./objects.ts";
import type { PolicyView } from "./policyview.ts";
import { readObject } from "./read.ts";
import { Resets, sendReset } from "./reset.ts";
import { NFLOG_GROUP, TABLE } from "./tables.ts";
import { BRIDGE_TABLE } from "./unknown.ts";
import { Unreadable } from "./unreadable.ts";
import { isolation, LatestBlocked } from "./view.ts";

/** Where objects of each kind are. */
export const COLLECTIONS: Record<Kind, string> = {
  Namespace: "/api/v1/namespaces",
  Pod: "/api/v1/pods",
  NetworkPolicy: "/apis/networking.k8s.io/v1/networkpolicies",
};
const TICK_MS = 5_000;
/** Objects that cannot be read are named in the status up to here. */
const MAX_STATUS_LINES = 20;

export interface Controller {
  readonly metrics: Metrics;
  readonly inSync: boolean;
  /** How things are, for people: lines of "name: value". */
  status(): string;
  /** What the status page shows. */
  view(): PolicyView;
  /** Explain a connection by the policies in force. Throws EndError. */
  explain(from: string, to: string, protocol: Protocol, port: number): Explanation;
  stop(): void;
}

/** Starts it; throws where the kernel lacks what it needs. */
export function startController(config: EnforcerConfig, client: KubeClient, log: Log): Controller {
  const clock = systemClock;
  const metrics = createMetrics();
  const nf = new NetlinkSocket(NETLINK_NETFILTER);
  const enforcer = new Enforcer(config, nf, clock, metrics, log);

  const reconciler = new Reconciler(clock, log);
  const trouble = (reason: string | undefined) => metrics.bridgedFiltered.set(reason === undefined ? 1 : 0);
  reconciler.keepTrying(keeper(new BridgeNetfilter({ trouble })));

  const latest = new LatestBlocked();
  const labels = new PortLabels();
  const drops = new Drops(clock, {
    blocked({ protocol, port, cut }) {
      if (cut) metrics.cut.inc();
      else metrics.blocked.inc({ protocol: protocol.toLowerCase(), dport: labels.label(protocol, port) });
    },
    write(drop) {
      const fields = dropFields(drop, enforcer.model, config.legacy);
      latest.add(clock.wall(), fields);
      log.warning(dropLine(drop), fields);
    },
    leftOut(count) {
      metrics.leftOut.inc(count);
      log.warning("suppressed lines about blocked connections", { suppressed: count });
    },
  });
  const limited = limitedWarnings(log, () => clock.now());
  const frame = (packet: LoggedPacket) => {
    if (!packet.frame) return;
    const protocol = protocolName(packet.frame.type);
    metrics.frames.inc({ protocol });
    limited(`frame ${protocol}`, frameLine(packet.frame, protocol));
  };
  const resets = new Resets(clock, {
    isPod: (address) => enforcer.model.owner(address) !== undefined,
    send: sendReset,
    sent: () => metrics.resets.inc(),
    failed: (error) => log.warning(`cannot reset the ends of cut TCP connections: ${error.message}`),
  });
  const failed = (what: string) => (error: Error) => {
    metrics.errors.inc();
    log.error(`${what}: ${error.message}`);
  };
  let packets: Watch | undefined;
  let reading: Timer | undefined;
  const readPackets = () => {
    packets = watchPackets(NFLOG_GROUP, {
      packet(packet) {
        if (packet.prefix === FRAME) return frame(packet);
        drops.packet(packet);
        resets.packet(packet);
      },
      lost: () => drops.lost(),
      failed(error) {
        // The one before us may still be ending.
        failed("cannot read blocked connections; trying again")(error);
        packets?.stop();
        reading = clock.after(TICK_MS, readPackets);
      },
    });
  };
  readPackets();
  const tables = watchTables([TABLE, BRIDGE_TABLE], () => new Set([nf.port]), {
    changed: (_table, by) => enforcer.touchedByOthers(by),
    lost: () => enforcer.touchedByOthers(undefined),
    failed: failed("cannot watch nftables for changes by others; trying again"),
  });
  const timers = [
    atQuietTimes(clock, STARTED_MS, RELEASE_MS, releaseMemory),
    every(clock, TICK_MS, () => drops.tick()),
  ];

  /** What cannot be told from others is no reason to forget those. */
  const read = (kind: Kind, json: unknown): KubeObject | undefined => {
    try {
      return readObject(kind, json);
    } catch (error) {
      metrics.errors.inc();
      limited(`read ${kind}`, `ignoring an object: ${reasonOf(error)}`);
      return undefined;
    }
  };
  const events = new EventWriter(client, config.node, clock, (text) => limited("events", text));
  const unreadable = new Unreadable(metrics, {
    found(object, text) {
      metrics.errors.inc();
      limited(`unreadable ${object.kind} ${identify(object)}`, text);
      events.warn(object, "Unreadable", text);
    },
    mended: (object) => log.info("can read an object again", { kind: object.kind, object: identify(object) }),
  });
  const reflectors = (Object.keys(COLLECTIONS) as Kind[]).map((kind) =>
    reflect(
      client,
      COLLECTIONS[kind],
      { clock, random: systemRandom, log },
      {
        listed(items) {
          const objects = items.flatMap((item) => read(kind, item) ?? []);
          enforcer.listed(kind, objects);
          unreadable.listed(kind, objects);
        },
        changed(type, json) {
          const object = read(kind, json);
          if (!object) return;
          enforcer.changed({ type, object });
          unreadable.changed(type, object);
        },
        following: (follows) => metrics.following.set({ kind: kind.toLowerCase() }, Number(follows)),
      },
    ),
  );

  const isolated = isolation(enforcer.model, config.node, config.legacy, () => clock.now());
  return {
    metrics,
    get inSync() {
      return enforcer.inSync;
    },
    status: () => statusText(config.node, enforcer, unreadable.texts),
    view: () => ({
      node: config.node,
      inSync: enforcer.inSync,
      policies: enforcer.model.policyCount,
      blocked: latest.all(),
      pods: isolated(),
    }),
    explain(from, to, protocol, port) {
      const { model } = enforcer;
      return explain(model, existingEnd(model, from), existingEnd(model, to), protocol, port, config.legacy);
    },
    stop() {
      for (const reflector of reflectors) reflector.stop();
      for (const timer of timers) timer.cancel();
      reading?.cancel();
      packets?.stop();
      tables.stop();
      reconciler.stop();
      enforcer.stop();
      nf.close();
    },
  };
}

function statusText(node: string, { inSync, model }: Enforcer, unreadable: readonly string[]): string {
  const shown = unreadable.slice(0, MAX_STATUS_LINES);
  const more = unreadable.length - shown.length;
  return [
    "        Service: weave-npc",
    `           Node: ${node}`,
    `       Policies: ${inSync ? `${model.policyCount} in force` : "not in force yet"}`,
    ...shown.map((text) => `     Unreadable: ${text}`),
    ...(more > 0 ? [`     Unreadable: ${more} more objects`] : []),
    "",
  ].join("\n");
}

/** Return all that is known of a blocked attempt. */
function dropFields(
  { protocol, source, sourcePort, destination, port, why, cut }: Drop,
  model: Model,
  legacy: boolean,
): Fields {
  const [from, to] = [model.owner(source), model.owner(destination)];
  const pod = why === "ingress" ? to : why === "egress" ? from : undefined;
  const policies =
    pod && (why === "ingress" || why === "egress") ? isolating(model, pod, why, legacy) : undefined;
  return {
    event: cut ? "cut" : "blocked",
    protocol,
    source,
    sourcePort,
    sourcePod: from && keyOf(from),
    destination,
    destinationPort: port,
    destinationPod: to && keyOf(to),
    direction: why,
    isolatedBy: policies?.map(keyOf) ?? [],
  };
}
