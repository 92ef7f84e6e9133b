// What we ask of the host's packet filter: one nftables table of our own. What iptables may have to be told beside it is in
// forwarding.ts.
import { type AddressRange, type Cidr, ipv4Octets, parseCidr } from "../address/ipv4.ts";
import {
  connectionKnown,
  inSet,
  ipAddress,
  linkName,
  masquerade,
  tcpDestinationPort,
  verdict,
} from "../netlink/nftables/expression.ts";
import { type Table, tableReplace } from "../netlink/nftables/replace.ts";
import type { SetDefinition } from "../netlink/nftables/set.ts";
import type { Expression } from "../netlink/nftables/step.ts";
import { chainGet, ruleList, tableDelete } from "../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { undoForwarding } from "./forwarding.ts";
import { BRIDGE, TABLE } from "./names.ts";

/** Addresses of nobody in particular: a pod that speaks to one is heard under its own. */
const NOT_UNICAST = ["224.0.0.0/4", "255.255.255.255/32"].map(parseCidr);
const LOOPBACK = parseCidr("127.0.0.0/8");
const SOURCE_NAT = 100;
const FILTER = 0;

/** An address of the bridge; `masquerade` where what enters or leaves the network by it takes the host's address. */
export interface Exposed {
  readonly cidr: Cidr;
  readonly masquerade: boolean;
}

/** What the table is made of. */
export interface FirewallSettings {
  readonly exposed: readonly Exposed[];
  /** TCP port of the control API; shut to everybody but the host itself. */
  readonly controlPort: number | undefined;
  /** Addresses of this host's containers: what comes to them from outside keeps its source. */
  readonly local: readonly AddressRange[];
}

const LOCAL: SetDefinition = { name: "local", key: ["ipv4"], interval: true };

function masqueradeRules({ cidr }: Exposed): Expression[][] {
  return [
    ...NOT_UNICAST.map((all) => [...ipAddress("saddr", cidr), ...ipAddress("daddr", all), verdict("return")]),
    [...ipAddress("daddr", cidr), ...ipAddress("saddr", cidr, false), masquerade()],
    [...ipAddress("saddr", cidr), ...ipAddress("daddr", cidr, false), masquerade()],
  ];
}

/** The table for these settings. */
export function firewallTable({ exposed, controlPort, local }: FirewallSettings): Table {
  const fromUs = linkName("iifname", BRIDGE);
  const toUs = linkName("oifname", BRIDGE);
  return {
    family: "ip",
    name: TABLE,
    sets: [
      {
        definition: LOCAL,
        elements: local.map(({ start, end }) => ({ key: ipv4Octets(start), last: ipv4Octets(end - 1) })),
      },
    ],
    chains: [
      {
        name: "postrouting",
        base: { type: "nat", hook: "postrouting", priority: SOURCE_NAT, policy: "accept" },
        rules: [
          ...(local.length > 0 ? [[...inSet(4, ["daddr"], LOCAL.name), verdict("return")]] : []),
          ...exposed.filter((address) => address.masquerade).flatMap(masqueradeRules),
        ],
      },
      {
        name: "forward",
        base: { type: "filter", hook: "forward", priority: FILTER, policy: "accept" },
        rules: [
          [...fromUs, verdict("accept")],
          ...exposed.map(({ cidr }) => [...toUs, ...ipAddress("daddr", cidr), verdict("accept")]),
          [...toUs, ...connectionKnown(), verdict("accept")],
        ],
      },
      {
        name: "input",
        base: { type: "filter", hook: "input", priority: FILTER, policy: "accept" },
        rules:
          controlPort === undefined
            ? []
            : [
                [
                  ...linkName("iifname", "lo", false),
                  ...ipAddress("daddr", LOOPBACK),
                  ...tcpDestinationPort(controlPort),
                  verdict("drop"),
                ],
              ],
      },
    ],
  };
}

/** Takes back everything that was put into the packet filter. */
export function removeFirewall(nf: NetlinkSocket): void {
  tableDelete(nf, { family: "ip", name: TABLE });
  undoForwarding(nf);
}

/** Whether the table has the chains and as many rules as these settings ask for: others flush it, and delete it. */
export function isFirewallThere(nf: NetlinkSocket, settings: FirewallSettings): boolean {
  const table = firewallTable(settings);
  return table.chains.every(
    ({ name, rules }) =>
      chainGet(nf, table, name) !== undefined && ruleList(nf, table, name).length === rules.length,
  );
}

/** Puts the table in place, atomically instead of the one before it. */
export function applyFirewall(nf: NetlinkSocket, settings: FirewallSettings): void {
  tableReplace(nf, firewallTable(settings));
}
