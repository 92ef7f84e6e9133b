// firewalld rejects packets of links in none of its zones, even if our nftables table accepts them. Its rules show the
// zone of a link: chain filter_FORWARD_ZONES of table firewalld has a rule for each link, and last that of the default
// zone.
import { FIREWALLD } from "../host/forwarding/nft.ts";
import { BRIDGE, FORWARDING_CHAIN } from "../host/names.ts";
import { DEFAULT_PORT } from "../mesh/port.ts";
import { ruleList } from "../netlink/nftables/rule.ts";
import { tableList } from "../netlink/nftables/table.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { fastdpPort } from "../overlay/ports.ts";
import { type Finding, ok, problem } from "./finding.ts";

const { table: TABLE, name: FORWARD } = FIREWALLD;
const ZONES = `${FORWARD}_ZONES`;
const ZONE = "filter_FWD_";
/** Zones that drop without an expression of their own for it. */
const DROPPING = ["drop", "block"];

const commands = (port: number) => [
  `firewall-cmd --permanent --zone=trusted --add-interface=${BRIDGE}`,
  `firewall-cmd --permanent --add-port=${port}/tcp --add-port=${port}/udp --add-port=${fastdpPort(port)}/udp`,
  "firewall-cmd --reload",
];

const text = new TextDecoder("latin1");
/** The name of our bridge, and no longer one that ends alike. */
const ABOUT_BRIDGE = new RegExp(`(^|[^\\w.-])${BRIDGE}\0`);

/** Nothing where firewalld does not run, or has iptables do its work. `port`: that of the mesh. */
export function firewalldFindings(port = DEFAULT_PORT): Finding[] {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  if (!tableList(nf, TABLE.family).includes(TABLE.name)) return [];
  const rules = ruleList(nf, TABLE, ZONES);
  const own = rules.find(({ content }) => ABOUT_BRIDGE.test(text.decode(content)));
  const chain = (own ?? rules.at(-1))?.jump;
  if (!chain?.startsWith(ZONE)) return [];
  const zone = chain.slice(ZONE.length);
  // A router of ours has its own accepted there, where it may; what is for this host itself still is not.
  const accepted = ruleList(nf, TABLE, FORWARD)[0]?.jump === FORWARDING_CHAIN;
  const rejects = ruleList(nf, TABLE, chain).some(({ content }) => text.decode(content).includes("reject\0"));
  if (!rejects && !DROPPING.includes(zone)) return [ok("firewalld", `link ${BRIDGE} is in zone ${zone}`)];
  return [
    problem(
      "firewalld",
      `link ${BRIDGE} is in zone ${zone}, which rejects what containers send to ${accepted ? "" : "and by "}this host`,
      commands(port)
        .map((command) => `'${command}'`)
        .join(", "),
    ),
  ];
}
