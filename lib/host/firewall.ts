// The host's packet filter: one nftables table of our own. Rules in the tables of iptables and firewalld are in forwarding/.
import { type AddressRange, ipv4Octets, parseCidr } from "../address/ipv4.ts";
import { parseMac } from "../address/mac.ts";
import type { Chain } from "../netlink/nftables/chain.ts";
import { matchEstablished, matchState, matchTranslated, STATE } from "../netlink/nftables/conntrack.ts";
import type { Expression } from "../netlink/nftables/expr/expression.ts";
import { verdict } from "../netlink/nftables/expr/immediate.ts";
import { masquerade } from "../netlink/nftables/expr/masq.ts";
import { matchAddress, matchForwarded, matchLink, matchSet, setMark } from "../netlink/nftables/match.ts";
import { commit, type TableName } from "../netlink/nftables/message.ts";
import { fillTable, type Table } from "../netlink/nftables/replace.ts";
import type { SetDefinition } from "../netlink/nftables/set.ts";
import { readTable, stateOf, type TableState, tableDifference } from "../netlink/nftables/state.ts";
import { hasTable, renewTable, tableDelete } from "../netlink/nftables/table.ts";
import {
  matchFragmentationNeeded,
  matchTcpPort,
  matchTransport,
  matchUdpPort,
} from "../netlink/nftables/transport.ts";
import type { NetlinkSocket, Request } from "../netlink/socket.ts";
import type { Exposed } from "./expose.ts";
import { removeForwarding } from "./forwarding/forwarding.ts";
import { HOST_PORTS } from "./hostports/table.ts";
import { BRIDGE, TABLE } from "./names.ts";
import type { Change, Resource } from "./reconcile/resource.ts";

/** Destinations that are not masqueraded: multicast and broadcast keep the pod's address. */
const NOT_UNICAST = ["224.0.0.0/4", "255.255.255.255/32"].map(parseCidr);
const LOOPBACK = parseCidr("127.0.0.0/8");
const SOURCE_NAT = 100;
/** After source NAT, which is in the state of the connection by then. */
const LAST = 300;
const FILTER = 0;
const UDP_HEADER = 8;

/**
 * Packet mark of what may be cached (overlay/flowcache): packets to the bridge, of an established connection without address
 * translation, that no rule has dropped.
 */
export const ESTABLISHED_MARK = 0x80_0000;

/** UDP ports of the overlays, the same on all hosts, and the Ethernet address by which sleeve's datagrams name this one. */
interface OverlayPorts {
  readonly sleeve: number;
  readonly vxlan: number;
  readonly name: string;
}

/** The contents of the table. */
export interface FirewallSettings {
  readonly exposed: readonly Exposed[];
  /** TCP port of the control API; closed to all but the host itself. */
  readonly controlPort: number | undefined;
  readonly overlays?: OverlayPorts | undefined;
  /** Ranges of this host's containers: packets to them from outside keep their source address. */
  readonly local: readonly AddressRange[];
  /** Mark packets for the flow cache. */
  readonly flowCache?: boolean;
}

export const FIREWALL: TableName = { family: "ip", name: TABLE };
const LOCAL: SetDefinition = { name: "local", key: ["ipv4"], interval: true };

function masqueradeRules({ cidr }: Exposed): Expression[][] {
  return [
    ...NOT_UNICAST.map((all) => [
      ...matchAddress("saddr", cidr),
      ...matchAddress("daddr", all),
      verdict("return"),
    ]),
    [...matchAddress("daddr", cidr), ...matchAddress("saddr", cidr, false), masquerade()],
    [...matchAddress("saddr", cidr), ...matchAddress("daddr", cidr, false), masquerade()],
  ];
}

const flowChain: Chain = {
  name: "flows",
  base: { type: "filter", hook: "postrouting", priority: LAST, policy: "accept" },
  rules: [
    [
      ...matchLink("oifname", BRIDGE),
      ...matchState(STATE.established),
      ...matchTranslated(false),
      ...setMark(ESTABLISHED_MARK),
    ],
  ],
};

/**
 * Drop forwarded packets of this host's other networks that are masqueraded and would spoof overlay frames of this host. VXLAN
 * identifies a peer by its address alone, so peers behind source NAT use sleeve, whose datagrams begin with their sender's name.
 */
function notInOurName({ sleeve, vxlan, name }: OverlayPorts): Chain {
  const masqueraded = [...matchForwarded(), ...matchTranslated(true, "source")];
  const named = matchTransport(UDP_HEADER, parseMac(name));
  return {
    name: "masqueraded",
    base: { type: "filter", hook: "postrouting", priority: LAST, policy: "accept" },
    rules: [
      [...matchUdpPort(vxlan), ...masqueraded, verdict("drop")],
      [...matchUdpPort(sleeve), ...named, ...masqueraded, verdict("drop")],
    ],
  };
}

/** Drop packets to a TCP port of a loopback address unless they arrive on lo. */
function closedToOthers(port: number): Expression[] {
  return [
    ...matchLink("iifname", "lo", false),
    ...matchAddress("daddr", LOOPBACK),
    ...matchTcpPort(port),
    verdict("drop"),
  ];
}

/** Return the table for these settings. */
export function firewallTable(settings: FirewallSettings): Table {
  const { exposed, controlPort, overlays, local, flowCache = false } = settings;
  const fromUs = matchLink("iifname", BRIDGE);
  const toUs = matchLink("oifname", BRIDGE);
  const beyondUs = matchLink("oifname", BRIDGE, false);
  // Masquerading gives a container's packets the address of a peer: without encryption, other hosts accept them as its frames.
  const toOverlay = overlays ? [overlays.sleeve, overlays.vxlan].map(matchUdpPort) : [];
  // The kernel lowers a path's MTU by this message, whoever sends it: a container could lower that between two hosts.
  const pathMtus = (match: readonly Expression[]) => [
    ...exposed.map(({ cidr }) => [...match, ...matchFragmentationNeeded(cidr), verdict("accept")]),
    [...match, ...matchFragmentationNeeded(), verdict("drop")],
  ];
  return {
    ...FIREWALL,
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
          ...(local.length > 0 ? [[...matchSet(4, ["daddr"], LOCAL.name), verdict("return")]] : []),
          ...exposed.filter((address) => address.masquerade).flatMap(masqueradeRules),
        ],
      },
      {
        name: "forward",
        base: { type: "filter", hook: "forward", priority: FILTER, policy: "accept" },
        rules: [
          ...toOverlay.map((match) => [...fromUs, ...beyondUs, ...match, verdict("drop")]),
          ...pathMtus([...fromUs, ...beyondUs]),
          [...fromUs, verdict("accept")],
          ...exposed.map(({ cidr }) => [...toUs, ...matchAddress("daddr", cidr), verdict("accept")]),
          [...toUs, ...matchEstablished(), verdict("accept")],
        ],
      },
      ...(overlays ? [notInOurName(overlays)] : []),
      ...(flowCache ? [flowChain] : []),
      {
        name: "input",
        base: { type: "filter", hook: "input", priority: FILTER, policy: "accept" },
        rules: [
          ...toOverlay.map((match) => [...fromUs, ...match, verdict("drop")]),
          ...pathMtus(fromUs),
          ...(controlPort === undefined ? [] : [closedToOthers(controlPort)]),
        ],
      },
    ],
  };
}

interface Contents {
  readonly requests: readonly Request[];
  /** The table that the requests make; decoded only if there is a table to compare with. */
  readonly state: () => TableState;
}

type Wanted = Change & Pick<Contents, "requests">;

/**
 * The table as desired state. Any difference replaces all of it in one transaction: it is small, the order of rules counts, and
 * concurrent changes cannot make the transaction fail. Connections keep their translation, which conntrack has.
 */
export class FirewallResource implements Resource<Contents, TableState | undefined, Wanted> {
  readonly name = "packet filter";
  readonly sources = ["nftables"] as const;

  constructor(
    private readonly nf: NetlinkSocket,
    private readonly settings: () => FirewallSettings,
  ) {}

  desired(): Contents {
    const requests = fillTable(firewallTable(this.settings()));
    let state: TableState | undefined;
    return { requests, state: () => (state ??= stateOf(requests)) };
  }

  observe({ state }: Contents): TableState | undefined {
    return hasTable(this.nf, FIREWALL) ? readTable(this.nf, FIREWALL, state()) : undefined;
  }

  difference({ requests, state }: Contents, found: TableState | undefined): Wanted[] {
    const wrong = found ? tableDifference(state(), found) : ["missing"];
    return wrong.length === 0 ? [] : [{ object: `table ip ${TABLE}`, wrong: wrong.join(", "), requests }];
  }

  apply(changes: readonly Wanted[]): void {
    for (const { requests } of changes) commit(this.nf, [...renewTable(FIREWALL), ...requests]);
  }
}

/** Remove everything of ours from the packet filter. */
export function removeFirewall(nf: NetlinkSocket): void {
  tableDelete(nf, FIREWALL);
  tableDelete(nf, HOST_PORTS);
  removeForwarding(nf);
}
