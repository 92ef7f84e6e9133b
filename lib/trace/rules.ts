// Rules of nftables that dropped something of the probe, and whether policies are in force for an end.
import { type IPv4, ipv4Octets } from "../address/ipv4.ts";
import { be16 } from "../bytes/bigendian.ts";
import { concat } from "../bytes/concat.ts";
import { hasElement } from "../netlink/nftables/element.ts";
import { ruleComment } from "../netlink/nftables/rule.ts";
import { tableList } from "../netlink/nftables/table.ts";
import { type Flow, type PacketTrace, type TracedDrop, tracePackets } from "../netlink/nftables/trace.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { hasDefaultDeny } from "../npc/defaultdeny.ts";
import type { Direction } from "../npc/objects.ts";
import { isolatedMap, TABLE } from "../npc/tables.ts";
import { reasonOf } from "../sys/reason.ts";
import { PROTOCOL_NUMBER, type Probe } from "./probe.ts";
import type { Drop, Side } from "./side.ts";

/** Return the flow of a probe and its answer. */
export function flowOf({ source, destination, protocol, port, id }: Probe): Flow {
  const shared = { source, destination, protocol: PROTOCOL_NUMBER[protocol] };
  if (protocol === "icmp") return { ...shared, at: 4, forth: be16(id), back: be16(id) };
  return {
    ...shared,
    at: 0,
    forth: concat([be16(id), be16(port)]),
    back: concat([be16(port), be16(id)]),
  };
}

/** Trace the probe through the rules; return the reason if that is not possible. */
export function followRules(probe: Probe): PacketTrace | string {
  try {
    return tracePackets(flowOf(probe));
  } catch (error) {
    return reasonOf(error).slice(0, 256);
  }
}

/** Each rule once, with its comment. */
export function describeDrops(traced: readonly TracedDrop[]): Drop[] {
  const drops = new Map<string, Drop>();
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  for (const { family, table, chain, handle, forth } of traced) {
    const key = `${family} ${table} ${chain} ${handle} ${forth}`;
    if (drops.has(key) || drops.size >= 16) continue;
    drops.set(key, {
      family: family.slice(0, 16),
      table: table.slice(0, 256),
      chain: chain.slice(0, 256),
      handle: handle === undefined ? null : String(handle),
      comment: handle === undefined ? null : (ruleComment(nf, family, table, chain, handle) ?? null),
      forth,
    });
  }
  return [...drops.values()];
}

/** Whether weave-npc's rules isolate an address; null where there are none. */
export function isolation(address: IPv4): Side["policies"] {
  try {
    using nf = new NetlinkSocket(NETLINK_NETFILTER);
    if (!tableList(nf, TABLE.family).includes(TABLE.name)) return null;
    const isolated = (direction: Direction) =>
      hasElement(nf, TABLE, isolatedMap(direction, 4).name, ipv4Octets(address));
    return { ingress: isolated("ingress"), egress: isolated("egress"), defaultDeny: hasDefaultDeny(nf) };
  } catch {
    // A kernel without nftables has no policies.
    return null;
  }
}
