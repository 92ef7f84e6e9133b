// The MTU of routes (RTAX_MTU, linux/rtnetlink.h): what the kernel sends by a route, where that is less than its link takes.
import { AF_INET } from "../sys/socket.ts";
import { type Attribute, AttributeEncoder, decodeBody } from "./attributes.ts";
import { NLM_F_CREATE, NLM_F_REPLACE } from "./message.ts";
import {
  encodeRoute,
  RT_TABLE_MAIN,
  RTA_METRICS,
  RTA_OIF,
  RTAX_MTU,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTMSG,
} from "./route.ts";
import type { NetlinkSocket } from "./socket.ts";

const RTN_UNICAST = 1;
const RTN_MULTICAST = 5;
const RTA_CACHEINFO = 12;
const RTA_MULTIPATH = 9;
const RTAX_LOCK = 1;
/** Of the flags, the only one that is a setting. */
const RTNH_F_ONLINK = 4;
const MULTICAST = { address: 0xe000_0000, prefix: 4 };

interface Found {
  readonly body: Uint8Array;
  readonly attributes: readonly Attribute[];
  readonly metrics: readonly Attribute[];
}

/**
 * Set the MTU of the unicast routes by a link in the main table, in bytes; undefined removes it. Those with a locked MTU
 * (`ip route … mtu lock`) stay. Where the default route is by that link, multicast has a route as well: the kernel ignores the
 * metrics of the default route for it. Returns the number of routes changed.
 */
export function routesSetMtu(nl: NetlinkSocket, link: number, mtu: number | undefined): number {
  const routes = routesBy(nl, link);
  let changed = 0;
  for (const route of routes) {
    const locked = ((route.metrics.find(({ type }) => type === RTAX_LOCK)?.u32 ?? 0) >> RTAX_MTU) & 1;
    if (locked || mtuOf(route) === mtu) continue;
    nl.request({
      operation: `route MTU ${mtu ?? "of the link"}`,
      type: RTM_NEWROUTE,
      flags: NLM_F_CREATE | NLM_F_REPLACE,
      body: withMtu(route, mtu),
    });
    changed++;
  }
  const [hasDefault, hasMulticast] = [0, 4].map((prefix) => routes.some(({ body }) => body[1] === prefix));
  if (mtu === undefined || !hasDefault || hasMulticast) return changed;
  const body = encodeRoute({ destination: MULTICAST, link, mtu });
  nl.request({ operation: "multicast route", type: RTM_NEWROUTE, flags: NLM_F_CREATE, body });
  return changed + 1;
}

const mtuOf = ({ metrics }: Found) => metrics.find(({ type }) => type === RTAX_MTU)?.u32;

function routesBy(nl: NetlinkSocket, link: number): Found[] {
  const header = new Uint8Array(RTMSG);
  header[0] = AF_INET;
  const request = new AttributeEncoder().raw(header).u32(RTA_OIF, link).done();
  return nl.dump({ operation: "route list", type: RTM_GETROUTE, body: request }).flatMap(({ body }) => {
    const { attributes } = decodeBody(body, RTMSG);
    const isOurs =
      body[4] === RT_TABLE_MAIN &&
      (body[7] === RTN_UNICAST || body[7] === RTN_MULTICAST) &&
      attributes.get(RTA_OIF)?.u32 === link &&
      !attributes.get(RTA_MULTIPATH);
    if (!isOurs) return [];
    return [{ body, attributes: attributes.list, metrics: attributes.get(RTA_METRICS)?.nested.list ?? [] }];
  });
}

/** Return the message that replaces a route by the same one with another MTU. */
function withMtu({ body, attributes, metrics }: Found, mtu: number | undefined): Uint8Array {
  const header = body.slice(0, RTMSG);
  new DataView(header.buffer).setUint32(
    8,
    new DataView(header.buffer).getUint32(8, true) & RTNH_F_ONLINK,
    true,
  );
  const encoder = new AttributeEncoder().raw(header);
  for (const { type, payload } of attributes)
    if (type !== RTA_METRICS && type !== RTA_CACHEINFO) encoder.bytes(type, payload);
  const others = metrics.filter(({ type }) => type !== RTAX_MTU);
  if (mtu === undefined && others.length === 0) return encoder.done();
  encoder.nested(
    RTA_METRICS,
    (inner) => {
      for (const { type, payload } of others) inner.bytes(type, payload);
      if (mtu !== undefined) inner.u32(RTAX_MTU, mtu);
    },
    false,
  );
  return encoder.done();
}
