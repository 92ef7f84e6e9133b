// Settings of ports of bridges (linux/if_link.h: IFLA_BRPORT_*), by the names that bridge(8) has for them.
import { AttributeEncoder, type Attributes } from "../attributes.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { ifinfomsg, RTM_SETLINK } from "./message.ts";

const AF_BRIDGE = 7;
const IFLA_PROTINFO = 12;

const IFLA_BRPORT_STATE = 1;
/** linux/if_bridge.h */
const BR_STATE_FORWARDING = 3;
const BR_STATE_BLOCKING = 4;

type Size = "flag" | "u8" | "u16" | "u32";
type Value<S extends Size> = S extends "flag" ? boolean : number;

/**
 * Everything about a port that can be set but priority and cost, which only the spanning tree protocol reads, and the state:
 * the attribute, its size, and what the kernel gives a new port.
 */
const SETTINGS = {
  hairpin: [4, "flag", false],
  guard: [5, "flag", false],
  root_block: [6, "flag", false],
  fastleave: [7, "flag", false],
  learning: [8, "flag", true],
  flood: [9, "flag", true],
  proxy_arp: [10, "flag", false],
  proxy_arp_wifi: [12, "flag", false],
  mcast_router: [25, "u8", 1],
  mcast_flood: [27, "flag", true],
  mcast_to_unicast: [28, "flag", false],
  vlan_tunnel: [29, "flag", false],
  bcast_flood: [30, "flag", true],
  group_fwd_mask: [31, "u16", 0],
  neigh_suppress: [32, "flag", false],
  isolated: [33, "flag", false],
  /** ifindex of another port. */
  backup_port: [34, "u32", 0],
  mcast_eht_hosts_limit: [37, "u32", 512],
  locked: [39, "flag", false],
  mab: [40, "flag", false],
  mcast_max_groups: [42, "u32", 0],
  neigh_vlan_suppress: [43, "flag", false],
  backup_nhid: [44, "u32", 0],
} as const satisfies Record<string, readonly [attribute: number, size: Size, initial: boolean | number]>;

type Setting = keyof typeof SETTINGS;

/** Read for each port of each list of links. */
const ENTRIES = Object.entries(SETTINGS);

/** Settings of a port of a bridge; as the kernel has them, those that it knows. */
export type BridgePort = { readonly [S in Setting]?: Value<(typeof SETTINGS)[S][1]> } & {
  /** It forwards no frames although its link has a carrier; the kernel itself does that to those without one. */
  readonly blocked?: boolean;
};

/** A port as the kernel makes it. */
export const NEW_PORT: BridgePort = {
  ...Object.fromEntries(ENTRIES.map(([name, [, , initial]]) => [name, initial])),
  blocked: false,
};

/** Return the body of the RTM_SETLINK that changes a port of a bridge. */
export function encodeBridgePort(index: number, port: BridgePort): Uint8Array {
  const { blocked, ...settings } = port;
  return new AttributeEncoder()
    .raw(ifinfomsg(index, undefined, undefined, AF_BRIDGE))
    .nested(IFLA_PROTINFO, (info) => {
      if (blocked !== undefined)
        info.u8(IFLA_BRPORT_STATE, blocked ? BR_STATE_BLOCKING : BR_STATE_FORWARDING);
      for (const [name, value] of Object.entries(settings)) {
        const [attribute, size] = SETTINGS[name as Setting];
        info[size === "flag" ? "u8" : size](attribute, Number(value));
      }
    })
    .done();
}

/** Change settings of a port. `what` names the link in errors. */
export function bridgePortSet(nl: NetlinkSocket, what: string, index: number, port: BridgePort): void {
  nl.request(bridgePortChange(what, index, port));
}

/** Return the request of bridgePortSet(). */
export function bridgePortChange(what: string, index: number, port: BridgePort): Request {
  return {
    operation: `bridge port set ${what}`,
    type: RTM_SETLINK,
    body: encodeBridgePort(index, port),
  };
}

/** Read IFLA_INFO_SLAVE_DATA of a port; throws AttributeError. */
export function decodeBridgePort(data: Attributes | undefined, carrier: boolean): BridgePort | undefined {
  if (!data) return undefined;
  const settings: Record<string, boolean | number> = {};
  for (const [name, [type, size]] of ENTRIES) {
    const attribute = data.get(type);
    if (attribute) settings[name] = size === "flag" ? attribute.u8 !== 0 : attribute[size];
  }
  return { ...settings, blocked: carrier && data.get(IFLA_BRPORT_STATE)?.u8 !== BR_STATE_FORWARDING };
}
