// Bridge ports of containers: storm control, anti-spoofing and repairs. Without them the network works, and status says so.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TrafficSample, trafficOf } from "../api/traffic.ts";
import type { Clock } from "../clock/clock.ts";
import { ContainerLinks } from "../host/ports/links.ts";
import { Ports, type PortsConfig } from "../host/ports/ports.ts";
import { KeptSettings } from "../host/ports/settings.ts";
import type { Reconciler } from "../host/reconcile/reconciler.ts";
import type { Log } from "../log/log.ts";
import { type LinkCounters, linkCounters } from "../netlink/linkstats.ts";
import type { RouteEvent } from "../netlink/monitor.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import type { Datapath } from "../overlay/datapath/datapath.ts";
import { MAC_VALUE } from "../overlay/datapath/maps.ts";
import type { FlowCache } from "../overlay/flowcache/flowcache.ts";
import type { PortTraffic } from "../overlay/flowcache/maps.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterContext } from "./context.ts";

/** Folders of the runtimes' network configurations: a host's, and the same in a pod of the Kubernetes addon. */
const CNI_FOLDERS = ["/etc/cni/net.d", "/host/etc/cni/net.d"];

/** Links of containers and the programs on their ports. */
export interface ContainerPorts
  extends Pick<ContainerLinks, "follow" | "forgetOnDetach" | "ended" | "assign" | "states" | "mtuRaised"> {
  renumber(self: number): void;
  changed(event: RouteEvent): void;
  /** Bytes and packets of each container. */
  traffic(): TrafficSample["links"];
  /** Frames of containers that the programs dropped, by reason. */
  dropped(): Record<string, number>;
  notes(): string[];
  stop(): void;
}

/** Look after the ports of our bridge; throws if it cannot and --anti-spoof is given. `self` is our short id. */
export function startPorts(
  { options, clock, route, filter, store, damaged, log: routerLog }: RouterContext,
  { maps, linkNames }: Datapath,
  self: number,
  reconciler: Reconciler,
  flowCache?: Pick<FlowCache, "ports" | "traffic">,
): ContainerPorts {
  const log = routerLog.with({ component: "ports" });
  const antiSpoof = options["anti-spoof"];
  const value = { peerAt: MAC_VALUE.peer, timeAt: MAC_VALUE.seen };
  const leaveQdisc = CNI_FOLDERS.some(hasBandwidthPlugin);
  const config = {
    antiSpoof,
    leaveQdisc,
    macs: maps.macs,
    value,
    self,
    overlayPorts: linkNames,
    flowCache: leaveQdisc ? undefined : flowCache?.ports,
  };
  const { ports, why } = startPrograms(route, filter, config, clock, log);
  const again = () => reconciler.notified("ports");
  const kept = new ContainerLinks(route, clock, log, ports, new KeptSettings(store, damaged), again);
  reconciler.keep(kept);
  reconciler.keep({
    name: "anti-spoofing",
    sources: ["nftables"],
    reconcile() {
      ports?.followPolicies();
      return [];
    },
  });
  return {
    renumber: (number) => ports?.renumber(number),
    changed({ kind, index = 0, link }) {
      if (kind === "trafficcontrol") ports?.suspect(index);
      if (!link) return;
      if (link.removed) kept.removed(index, link.leaving);
      // The reconciler follows containers' links, not other links on the bridge.
      else if (kept.isNewPort(index, link.master)) again();
    },
    follow: (books) => kept.follow(books),
    forgetOnDetach: (work) => kept.forgetOnDetach(work),
    ended: (id, ended) => kept.ended(id, ended),
    assign: (alias, owner) => kept.assign(alias, owner),
    states: () => kept.states(),
    mtuRaised: (from, to) => kept.mtuRaised(from, to),
    traffic() {
      const counters = linkCounters(route);
      const past = flowCache?.traffic();
      return kept.states().flatMap((state) => {
        const { index } = state.port;
        const found = counters.get(index);
        return found
          ? [trafficOf(state, withFastPath(found, past?.get(index)), ports?.dropped(index) ?? 0)]
          : [];
      });
    },
    dropped: () => ports?.droppedByReason() ?? {},
    notes: () => ports?.notes() ?? [why],
    stop() {
      kept.stop();
      ports?.stop();
    },
  };
}

/** Add what went into the container past its port, which its counters leave out. */
function withFastPath(counters: LinkCounters, past: PortTraffic | undefined): LinkCounters {
  if (!past) return counters;
  return {
    ...counters,
    sentPackets: counters.sentPackets + Number(past.receivedPackets),
    sentBytes: counters.sentBytes + Number(past.receivedBytes),
  };
}

/** Load the programs of the ports; `why` tells why there are none. Throws with --anti-spoof. */
function startPrograms(
  route: NetlinkSocket,
  filter: NetlinkSocket,
  config: PortsConfig,
  clock: Clock,
  log: Log,
): { ports: Ports | undefined; why: string } {
  try {
    return { ports: new Ports(route, filter, config, clock, log), why: "" };
  } catch (error) {
    const why = `no storm control and no anti-spoofing on container ports: ${reasonOf(error)}`;
    if (config.antiSpoof) throw new Error(`--anti-spoof: ${why}`, { cause: error });
    log.warning(why);
    return { ports: undefined, why };
  }
}

/** True if a list of plugins has ours and "bandwidth", which fails on ports that have a queueing discipline already. */
function hasBandwidthPlugin(folder: string): boolean {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(".conflist"))
      .map((name) => readFileSync(join(folder, name), "utf8"))
      .some((text) => text.includes('"weave-net"') && text.includes('"bandwidth"'));
  } catch {
    return false;
  }
}
