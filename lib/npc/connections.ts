// Connections that were allowed when they began, and would not be now: they are cut. The kernel lets packets of tracked
// connections pass without asking again, so a stricter policy would else be about new ones only.
import { familyOf, type Ip, ipNumber, parseIpSubnet } from "../address/ip.ts";
import { connectionDelete, connectionList, type Tuple } from "../netlink/conntrack.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { rangesContain } from "./blocks.ts";
import { DIRECTIONS, type Protocol } from "./objects.ts";
import { allows, type Packet, type Ruleset } from "./ruleset.ts";

const PROTOCOLS: Readonly<Record<number, Protocol>> = { 6: "TCP", 17: "UDP", 132: "SCTP" };

/** Cuts what the rules do not allow; `ours` are the host's own addresses. Returns the connections that were cut. */
export function cutForbidden(nl: NetlinkSocket, rules: Ruleset, ours: ReadonlySet<string>): Packet[] {
  if (rules.isolated.ingress.size === 0 && rules.isolated.egress.size === 0) return [];
  const cut: Packet[] = [];
  for (const connection of connectionList(nl)) {
    const packet = packetOf(connection.original, connection.reply);
    if (!packet || ours.has(packet.source) || ours.has(packet.destination)) continue;
    // Not theirs to judge: see the chain that all packets come by.
    if (isMulticast(packet.destination)) continue;
    if (DIRECTIONS.every((direction) => allows(rules, direction, packet))) continue;
    if (connectionDelete(nl, connection)) cut.push(packet);
  }
  return cut;
}

const MULTICAST = ["224.0.0.0/4", "ff00::/8"].map(parseIpSubnet);

function isMulticast(address: Ip): boolean {
  return rangesContain(MULTICAST, familyOf(address), ipNumber(address));
}

/** Who opened it, to whom it really goes. */
function packetOf(original: Tuple, reply: Tuple): Packet | undefined {
  const protocol = PROTOCOLS[original.protocol];
  if (!protocol) return undefined;
  return { source: original.source, destination: reply.source, protocol, port: reply.sourcePort };
}
