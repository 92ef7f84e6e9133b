// IPv4 routes and rules by rtnetlink(7): RTM_NEWROUTE, RTM_NEWRULE and their kin (linux/rtnetlink.h, fib_rules.h).
import {
  type Cidr,
  formatCidr,
  formatIPv4,
  type IPv4,
  ipv4FromOctets,
  ipv4Octets,
  subnetOf,
} from "../address/ipv4.ts";
import { EEXIST, ENOENT, ESRCH } from "../sys/errno.ts";
import { AF_INET } from "../sys/socket.ts";
import { AttributeEncoder, decodeBody } from "./attributes.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import { attempt, type NetlinkSocket, type Request } from "./socket.ts";

export const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;

export const RTMSG = 12;
export const RT_TABLE_MAIN = 254;
const RTPROT_UNSPEC = 0;
const RTPROT_KERNEL = 2;
/** The protocol of routes whose program does not say who it is; of ours, too. */
export const RTPROT_BOOT = 3;
const RTN_UNICAST = 1;
const RT_SCOPE_UNIVERSE = 0;
export const RT_SCOPE_LINK = 253;

const RTA_DST = 1;
export const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
export const RTA_METRICS = 8;
export const RTAX_MTU = 2;
const RTAX_ADVMSS = 8;
const RTA_TABLE = 15;

const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FR_ACT_TO_TBL = 1;

/** A unicast route; without a gateway its destination is on the link itself. */
export interface Route {
  readonly destination: Cidr;
  readonly gateway?: IPv4 | undefined;
  readonly link?: number | undefined;
  /** Routing table; the main one unless given. */
  readonly table?: number | undefined;
  /** RT_SCOPE_…; by default that of a route with or without a gateway. */
  readonly scope?: number | undefined;
  /** Metric: the lowest goes first. */
  readonly priority?: number | undefined;
  /** Bytes of a TCP segment that is announced. */
  readonly advmss?: number | undefined;
  /** The connected route that the kernel makes with this address of the link. */
  readonly connected?: IPv4 | undefined;
  /** Bytes that the kernel sends by it; those of the link unless given. */
  readonly mtu?: number | undefined;
  /** RTPROT_…, in lists. */
  readonly protocol?: number;
}

/** A policy routing rule: packets with `mark` are routed by `table`. */
export interface Rule {
  readonly priority: number;
  readonly mark?: number | undefined;
  readonly table: number;
}

/** Tables above 255 do not fit the header and go into an attribute. */
function headerTable(table: number): number {
  return table > 255 ? 0 : table;
}

/** Return the body of an RTM_NEWROUTE or RTM_DELROUTE. */
export function encodeRoute(route: Route): Uint8Array {
  const table = route.table ?? RT_TABLE_MAIN;
  const scope = route.scope ?? (route.gateway === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE);
  const { prefix } = route.destination;
  const header = Uint8Array.of(
    AF_INET,
    prefix,
    0,
    0,
    headerTable(table),
    route.connected === undefined ? RTPROT_BOOT : RTPROT_KERNEL,
    scope,
    RTN_UNICAST,
    0,
    0,
    0,
    0,
  );
  const encoder = new AttributeEncoder().raw(header);
  if (prefix > 0) encoder.bytes(RTA_DST, ipv4Octets(subnetOf(route.destination).address));
  if (route.gateway !== undefined) encoder.bytes(RTA_GATEWAY, ipv4Octets(route.gateway));
  if (route.connected !== undefined) encoder.bytes(RTA_PREFSRC, ipv4Octets(route.connected));
  if (route.link !== undefined) encoder.u32(RTA_OIF, route.link);
  if (table > 255) encoder.u32(RTA_TABLE, table);
  const { mtu, advmss, priority } = route;
  if (priority !== undefined) encoder.u32(RTA_PRIORITY, priority);
  if (mtu !== undefined || advmss !== undefined) {
    const fill = (metrics: AttributeEncoder) => {
      if (mtu !== undefined) metrics.u32(RTAX_MTU, mtu);
      if (advmss !== undefined) metrics.u32(RTAX_ADVMSS, advmss);
    };
    encoder.nested(RTA_METRICS, fill, false);
  }
  return encoder.done();
}

function describe(route: Route): string {
  const via = route.gateway === undefined ? "" : ` via ${formatIPv4(route.gateway)}`;
  return `${formatCidr(route.destination)}${via}`;
}

/** Return the request that adds a route; refused with EEXIST if there is one to that destination. */
export function routeAddition(route: Route): Request {
  const operation = `route add ${describe(route)}`;
  return { operation, type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_EXCL, body: encodeRoute(route) };
}

/** Add a route; false if there was one to that destination already. */
export function routeAdd(nl: NetlinkSocket, route: Route): boolean {
  return attempt(nl, routeAddition(route), EEXIST);
}

/** Add a route, in place of the one to that destination, if there is one. */
export function routeReplace(nl: NetlinkSocket, route: Route): void {
  const operation = `route replace ${describe(route)}`;
  const flags = NLM_F_CREATE | NLM_F_REPLACE;
  nl.request({ operation, type: RTM_NEWROUTE, flags, body: encodeRoute(route) });
}

/** Delete a route; false if there was none. */
export function routeDelete(nl: NetlinkSocket, route: Route): boolean {
  const operation = `route delete ${describe(route)}`;
  return attempt(nl, { operation, type: RTM_DELROUTE, body: encodeRoute(route) }, ESRCH);
}

/** Which routes to list: of the main table unless another is given, of all links and protocols unless one is. */
export interface RouteFilter {
  readonly table?: number | "all";
  readonly link?: number;
  /** RTPROT_…: routing daemons may add a million routes. */
  readonly protocol?: number;
}

/** Return unicast IPv4 routes of the namespace. */
export function routeList(
  nl: NetlinkSocket,
  { table = RT_TABLE_MAIN, link, protocol }: RouteFilter = {},
): Route[] {
  const header = new Uint8Array(RTMSG);
  header[0] = AF_INET;
  header[5] = protocol ?? RTPROT_UNSPEC;
  const encoder = new AttributeEncoder().raw(header);
  // Filtered by the kernel: hosts may have very many others.
  if (link !== undefined) encoder.u32(RTA_OIF, link);
  const body = encoder.done();
  return nl
    .dump({ operation: "route list", type: RTM_GETROUTE, body })
    .filter(({ body: found }) => found[7] === RTN_UNICAST)
    .map(({ body: found }) => {
      const { attributes } = decodeBody(found, RTMSG);
      const address = attributes.get(RTA_DST)?.payload;
      const gateway = attributes.get(RTA_GATEWAY)?.payload;
      return {
        destination: { address: address ? ipv4FromOctets(address) : 0, prefix: found[1] ?? 0 },
        gateway: gateway && ipv4FromOctets(gateway),
        link: attributes.get(RTA_OIF)?.u32,
        table: attributes.get(RTA_TABLE)?.u32 ?? found[4] ?? 0,
        mtu: attributes.get(RTA_METRICS)?.nested.get(RTAX_MTU)?.u32,
        protocol: found[5] ?? 0,
      };
    })
    .filter(
      (route) =>
        (table === "all" || route.table === table) &&
        (link === undefined || route.link === link) &&
        (protocol === undefined || route.protocol === protocol),
    );
}

/** Return the body of an RTM_NEWRULE or RTM_DELRULE. */
export function encodeRule(rule: Rule): Uint8Array {
  const header = Uint8Array.of(AF_INET, 0, 0, 0, headerTable(rule.table), 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0);
  const encoder = new AttributeEncoder().raw(header).u32(FRA_PRIORITY, rule.priority);
  if (rule.mark !== undefined) encoder.u32(FRA_FWMARK, rule.mark);
  if (rule.table > 255) encoder.u32(FRA_TABLE, rule.table);
  return encoder.done();
}

/** Add a policy routing rule; false if it was there already. */
export function ruleAdd(nl: NetlinkSocket, rule: Rule): boolean {
  const operation = `rule add ${rule.priority}`;
  const flags = NLM_F_CREATE | NLM_F_EXCL;
  return attempt(nl, { operation, type: RTM_NEWRULE, flags, body: encodeRule(rule) }, EEXIST);
}

/** Delete a policy routing rule; false if there was none. */
export function ruleDelete(nl: NetlinkSocket, rule: Rule): boolean {
  const operation = `rule delete ${rule.priority}`;
  return attempt(nl, { operation, type: RTM_DELRULE, body: encodeRule(rule) }, ENOENT);
}

/** Return the IPv4 policy routing rules of the namespace. */
export function ruleList(nl: NetlinkSocket): Rule[] {
  const body = new Uint8Array(RTMSG);
  body[0] = AF_INET;
  return nl.dump({ operation: "rule list", type: RTM_GETRULE, body }).map(({ body: found }) => {
    const { attributes } = decodeBody(found, RTMSG);
    return {
      priority: attributes.get(FRA_PRIORITY)?.u32 ?? 0,
      mark: attributes.get(FRA_FWMARK)?.u32,
      table: attributes.get(FRA_TABLE)?.u32 ?? found[4] ?? 0,
    };
  });
}
