// What others do to kernel objects of a host that are the router's, by the tools that they do it with.
import { type Host, must } from "./hosts.ts";

const BRIDGE = "weave";
const VXLAN = "vxlan-6784";
const TAP = "sleeve-6783";

/** One thing that can be done to a host. */
export interface Undoing {
  readonly host: Host;
  /** What it is done to; the router takes it for a fight where that is one object again and again. */
  readonly object: string;
  /** As shell commands, in the host's namespace. */
  readonly script: string;
  /** Puts back what is not the router's. */
  readonly restore?: string | undefined;
}

/** The host that things are done to, and what it has. */
export interface Target {
  readonly host: Host;
  /** Host ends of containers' veths. */
  readonly veths: readonly string[];
  /** The one whose container has a route that somebody has added. */
  readonly byHand?: string | undefined;
  /** The exposed address with its prefix, and the network it is of. */
  readonly exposed: string;
  readonly network: string;
  /** The kind of iptables whose policy for forwarded packets is DROP. */
  readonly iptables: "iptables-nft" | "iptables-legacy";
}

type Script = string | readonly [script: string, restore: string];
/** Scripts by the object that they are about. */
type Table = Readonly<Record<string, readonly Script[]>>;

/** Bits of a port of the bridge, each with another value than ours. */
const PORT_BITS = [
  "learning off",
  "flood off",
  "isolated on",
  "guard on",
  "root_block on",
  "mcast_flood off",
  "state 0",
];

function linkChanges(link: string): Script[] {
  const set = (rest: string) => `ip link set ${link} ${rest}`;
  return [
    set("down"),
    set("mtu 1200"),
    set("address 02:00:00:aa:bb:cc"),
    `${set("down")}; ${set("name other0")}`,
  ];
}

function bridgeChanges({ exposed, network }: Target): Table {
  const set = (rest: string) => `ip link set ${BRIDGE} ${rest}`;
  const type = (rest: string) => set(`type bridge ${rest}`);
  const address = exposed.replace(/\/.*/, "");
  return {
    bridge: [...linkChanges(BRIDGE), set("arp off"), `ip link del ${BRIDGE}`],
    "bridge settings": [...["stp_state 1", "ageing_time 100", "mcast_snooping 0"].map(type)],
    addresses: [
      `ip addr flush dev ${BRIDGE} scope global`,
      `ip addr del ${exposed} dev ${BRIDGE}`,
      [
        `ip addr del ${exposed} dev ${BRIDGE}; ip addr add ${address}/24 dev ${BRIDGE}`,
        `ip addr del ${address}/24 dev ${BRIDGE}`,
      ],
    ],
    routes: [
      `ip route del ${network} dev ${BRIDGE}`,
      `ip route flush dev ${BRIDGE}`,
      `ip route replace blackhole ${network}`,
    ],
  };
}

/** A program that drops every frame to other hosts. */
const DROP_ALL = `tc filter add dev ${VXLAN} egress pref 1 bpf bytecode '1,6 0 0 2,' da`;

function overlayChanges(): Table {
  const ofPort = (link: string): Script[] => [
    `ip link set ${link} nomaster`,
    [`ip link add other1 type bridge; ip link set ${link} master other1`, "ip link del other1"],
    ...PORT_BITS.map((bit) => `bridge link set dev ${link} ${bit}`),
    `bridge link set dev ${link} hairpin on`,
  ];
  return {
    [VXLAN]: [...linkChanges(VXLAN), `ip link del ${VXLAN}`],
    [`port ${VXLAN}`]: ofPort(VXLAN),
    [TAP]: [...linkChanges(TAP), `ip link del ${TAP}`],
    programs: [
      ...[VXLAN, TAP].map((link) => `tc qdisc del dev ${link} clsact`),
      `tc filter del dev ${VXLAN} ingress`,
      `tc filter del dev ${VXLAN} egress`,
      `tc filter del dev ${TAP} ingress`,
      `tc filter del dev ${VXLAN} egress; ${DROP_ALL}`,
      `tc filter replace dev ${TAP} ingress pref 1 handle 1 bpf bytecode '1,6 0 0 0,' da`,
    ],
    "programs of ports": [`tc qdisc del dev ${BRIDGE} clsact`, `tc filter del dev ${BRIDGE} egress`],
  };
}

function containerChanges({ veths, byHand }: Target): Table {
  return Object.fromEntries(
    veths.flatMap((veth): [string, Script[]][] => [
      [
        veth,
        [
          ...linkChanges(veth),
          `ip link set ${veth} alias ''`,
          ...(veth === byHand ? [] : [`ip link del ${veth}`]),
        ],
      ],
      [
        `port ${veth}`,
        [
          `ip link set ${veth} nomaster`,
          [`ip link add other1 type bridge; ip link set ${veth} master other1`, "ip link del other1"],
          ...PORT_BITS.map((bit) => `bridge link set dev ${veth} ${bit}`),
        ],
      ],
      [`program of ${veth}`, [`tc qdisc del dev ${veth} clsact`, `tc filter del dev ${veth} ingress`]],
    ]),
  );
}

/** All that iptables makes of its filter, with the policy. */
export const IPTABLES_NFT =
  "iptables-nft -P FORWARD DROP; iptables-nft-save -t filter | iptables-nft-restore";

const lastHandle = (chain: string) =>
  `$(nft -a list chain ip weave ${chain} | sed -n 's/.* handle \\([0-9]*\\)$/\\1/p' | tail -1)`;

function filterChanges({ iptables, network }: Target): Table {
  const chains = ["postrouting", "forward", "input"];
  const drop = `${iptables} -P FORWARD DROP`;
  // The router may have taken a chain away in between.
  // Again where a rule was put back meanwhile that leads to one of them; iptables-nft takes empty chains of its own away, too.
  const deleteChains = `until ${iptables} -X; do ${iptables} -F; done`;
  const whole = iptables === "iptables-nft" ? IPTABLES_NFT : drop;
  const save = `${iptables}-save -t filter`;
  return {
    nftables: [
      ["nft flush ruleset", whole],
      "nft delete table ip weave",
      "nft flush table ip weave",
      ...chains.map((chain) => `nft flush chain ip weave ${chain}`),
      ...chains.map((chain) => `nft flush chain ip weave ${chain}; nft delete chain ip weave ${chain}`),
      ...chains.map((chain) => `nft delete rule ip weave ${chain} handle ${lastHandle(chain)}`),
      `nft insert rule ip weave forward ip saddr ${network} drop`,
      `nft insert rule ip weave postrouting ip saddr ${network} return`,
      `nft add chain ip weave forward '{ policy drop; }'; nft flush chain ip weave forward`,
      "nft add table ip weave '{ flags dormant; }'",
      "nft add element ip weave local '{ 192.0.2.1 }'",
      "nft flush set ip weave local",
    ],
    iptables: [
      `${iptables} -F`,
      `${iptables} -F FORWARD`,
      [`${iptables} -F FORWARD; ${iptables} -F WEAVE-FORWARD; ${deleteChains}`, whole],
      `${iptables} -F WEAVE-FORWARD`,
      `${iptables} -D FORWARD -j WEAVE-FORWARD`,
      `${iptables} -D WEAVE-FORWARD 1`,
      `${iptables} -I WEAVE-FORWARD -j DROP`,
      `${iptables} -Z`,
      `${save} | grep -v WEAVE | ${iptables}-restore`,
      [`${iptables} -P FORWARD ACCEPT; ${iptables} -F; ${deleteChains}; ${drop}`, whole],
      [
        `${iptables} -I FORWARD -s 192.0.2.1 -j DROP; ${save} | grep -v WEAVE | ${iptables}-restore`,
        `${iptables} -D FORWARD -s 192.0.2.1 -j DROP`,
      ],
    ],
  };
}

function settingChanges({ veths }: Target): Table {
  const set = (name: string, value: number | string) => `echo ${value} > /proc/sys/net/${name}`;
  return {
    settings: [
      set("ipv4/ip_forward", 0),
      set(`ipv4/conf/${BRIDGE}/forwarding`, 0),
      set(`ipv4/neigh/${BRIDGE}/base_reachable_time`, 30),
      set(`ipv4/neigh/${BRIDGE}/delay_first_probe_time`, 5),
      set(`ipv4/neigh/${BRIDGE}/ucast_solicit`, 3),
      set(`ipv6/conf/${BRIDGE}/accept_ra`, 1),
      set(`ipv6/conf/${BRIDGE}/router_solicitations`, 3),
      set(`ipv4/conf/${BRIDGE}/drop_unicast_in_l2_multicast`, 0),
      set(`ipv6/conf/${BRIDGE}/drop_unicast_in_l2_multicast`, 0),
      set(`ipv6/conf/${VXLAN}/disable_ipv6`, 0),
      set(`ipv6/conf/${TAP}/disable_ipv6`, 0),
    ],
    "settings of ports": veths.map((veth) => `bridge link set dev ${veth} hairpin on`),
  };
}

/** All that can be done to a host. */
export function undoings(target: Target): Undoing[] {
  const tables = [bridgeChanges, overlayChanges, containerChanges, filterChanges, settingChanges];
  return tables.flatMap((table) =>
    Object.entries(table(target)).flatMap(([object, scripts]) =>
      scripts.map((script): Undoing => {
        const [what, restore] = typeof script === "string" ? [script] : script;
        return { host: target.host, object, script: what, restore };
      }),
    ),
  );
}

/** Does it. */
export async function undo({ host, script }: Undoing): Promise<void> {
  await must(host.command("sh", "-ec", script));
}
