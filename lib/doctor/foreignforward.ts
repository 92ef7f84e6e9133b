// Forward chains of other programs' nftables tables that drop by policy, such as that of an /etc/nftables.conf: what a table
// of ours accepts, they drop nevertheless, and nobody but their owner can change that.
import { FIREWALLD, IPTABLES_NFT } from "../host/forwarding/nft.ts";
import { BRIDGE, VETH_PREFIX } from "../host/names.ts";
import { chainList } from "../netlink/nftables/chain.ts";
import { ruleList } from "../netlink/nftables/rule.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { type Finding, warning } from "./finding.ts";

const FAMILIES = ["ip", "inet", "bridge"] as const;
/** Other findings tell of these. */
const KNOWN = [IPTABLES_NFT, FIREWALLD].map(({ table, name }) => `${table.family} ${table.name} ${name}`);
const FORWARD = /^type filter hook forward .*policy drop/;

const text = new TextDecoder("latin1");
/** In a rule: the name of the bridge, and no longer one; or that of a port of it. */
const ABOUT_US = new RegExp(`(^|[^\\w.-])(${BRIDGE}(\0|$)|${VETH_PREFIX})`);

/** Rules that let packets of the network pass, for a shell. Not by ibrname, which many kernels lack. */
const accepting = (family: string, table: string, chain: string) =>
  ["iifname", "oifname"]
    .map((key) => `${key} ${family === "bridge" ? `"${VETH_PREFIX}*"` : BRIDGE}`)
    .map((match) => `'nft insert rule ${family} ${table} ${chain} ${match} accept'`);

/** Nothing of a chain whose table has a rule that names our links: only a packet can tell what that decides. */
export function foreignForwardFindings(): Finding[] {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  return FAMILIES.flatMap((family) => {
    const chains = chainList(nf, family);
    const namesUs = (table: string) =>
      chains.some(
        (chain) =>
          chain.table === table &&
          ruleList(nf, { family, name: table }, chain.name).some(({ content }) =>
            ABOUT_US.test(text.decode(content)),
          ),
      );
    return chains
      .filter(({ table, name, hook }) => FORWARD.test(hook) && !KNOWN.includes(`${family} ${table} ${name}`))
      .filter(({ table }) => !namesUs(table))
      .map(({ table, name }) =>
        warning(
          "forward",
          `chain ${name} of nftables table ${family} ${table} drops forwarded packets by policy, and no rule there names a link of weave`,
          `unless it accepts them by address ('weave trace' shows it): ${accepting(family, table, name).join(", ")}, and the same in the file that makes it`,
        ),
      );
  });
}
