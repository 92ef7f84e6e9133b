// Settings of IPv4 on a link, by the names that they have under /proc/sys/net/ipv4 (ip-sysctl.rst), by rtnetlink(7): they go in
// one datagram with other requests, while each file takes several system calls.
import { AttributeEncoder } from "./attributes.ts";
import { linkMessage, RTM_SETLINK } from "./link/message.ts";
import type { Request } from "./socket.ts";

/** linux/neighbour.h */
const RTM_SETNEIGHTBL = 67;
const NDTMSG = 4;
const NDTA_NAME = 1;
const NDTA_PARMS = 6;
const NDTPA_IFINDEX = 1;
const NDTPA_BASE_REACHABLE_TIME = 4;
const NDTPA_DELAY_PROBE_TIME = 7;
const NDTPA_UCAST_PROBES = 10;

const IFLA_AF_SPEC = 26;
const AF_INET = 2;
const IFLA_INET_CONF = 1;
/** linux/ip.h */
const IPV4_DEVCONF = { promote_secondaries: 20, arp_notify: 22, drop_unicast_in_l2_multicast: 30 } as const;

/** Timing of ARP on a link; in seconds, and unicast probes. */
export interface ArpTiming {
  readonly base_reachable_time: number;
  readonly delay_first_probe_time: number;
  readonly ucast_solicit: number;
}

export type Ipv4Flags = { readonly [Name in keyof typeof IPV4_DEVCONF]?: number };

/** Return the body of the RTM_SETNEIGHTBL that changes the timing of ARP. */
export function encodeArpTiming(index: number, timing: ArpTiming): Uint8Array {
  const ms = (seconds: number) => BigInt(1_000 * seconds);
  return new AttributeEncoder()
    .raw(new Uint8Array(NDTMSG))
    .string(NDTA_NAME, "arp_cache")
    .nested(
      NDTA_PARMS,
      (parameters) =>
        parameters
          .u32(NDTPA_IFINDEX, index)
          .u64(NDTPA_BASE_REACHABLE_TIME, ms(timing.base_reachable_time))
          .u64(NDTPA_DELAY_PROBE_TIME, ms(timing.delay_first_probe_time))
          .u32(NDTPA_UCAST_PROBES, timing.ucast_solicit),
      false,
    )
    .done();
}

/** Return the request that changes the timing of ARP. `what` names the link in errors. */
export function arpTimingChange(what: string, index: number, timing: ArpTiming): Request {
  return {
    operation: `ARP timing set ${what}`,
    type: RTM_SETNEIGHTBL,
    body: encodeArpTiming(index, timing),
  };
}

/** Return the request that changes flags. `what` names the link in errors. */
export function ipv4Change(what: string, index: number, flags: Ipv4Flags): Request {
  const body = linkMessage(index).nested(IFLA_AF_SPEC, (families) =>
    families.nested(AF_INET, (inet) =>
      inet.nested(IFLA_INET_CONF, (conf) => {
        for (const [name, value] of Object.entries(flags))
          conf.u32(IPV4_DEVCONF[name as keyof Ipv4Flags], value);
      }),
    ),
  );
  return { operation: `IPv4 set ${what}`, type: RTM_SETLINK, body: body.done() };
}
