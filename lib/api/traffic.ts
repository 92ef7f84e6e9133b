// Traffic of containers since they were attached, from the kernel's counters.
import * as v from "valibot";
import { formatCidr } from "../address/ipv4.ts";
import type { LinkState } from "../host/ports/links.ts";
import type { LinkCounters } from "../netlink/linkstats.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** Answer of GET /traffic: counters of each attached link, as its container sees them. */
export const TrafficSample = v.object({
  name: v.string(),
  nickname: v.string(),
  /** Established connections to peers. */
  peers: count,
  links: v.array(
    v.object({
      /** Of the container; empty where nobody knows. */
      id: v.string(),
      interface: v.string(),
      /** The host's end, and its ifindex. */
      port: v.string(),
      index: count,
      addresses: v.array(v.string()),
      receivedBytes: count,
      sentBytes: count,
      receivedPackets: count,
      sentPackets: count,
      receivedDropped: count,
      /** Includes drops by anti-spoofing and storm control. */
      sentDropped: count,
    }),
  ),
});

export type TrafficSample = v.InferOutput<typeof TrafficSample>;

/** Counters of the host's end are the container's the other way round. */
export function trafficOf(
  { port, owner, inside }: Pick<LinkState, "port" | "owner" | "inside">,
  counters: LinkCounters,
  droppedByPrograms: number,
): TrafficSample["links"][number] {
  return {
    id: owner?.containerId ?? "",
    interface: inside?.link.name ?? owner?.ifName ?? "",
    port: port.name,
    index: port.index,
    addresses: (inside?.addresses ?? []).map(formatCidr),
    receivedBytes: counters.sentBytes,
    sentBytes: counters.receivedBytes,
    receivedPackets: counters.sentPackets,
    sentPackets: counters.receivedPackets,
    receivedDropped: counters.sentDropped,
    sentDropped: counters.receivedDropped + droppedByPrograms,
  };
}
