// Where iptables drops forwarded packets by policy (Docker sets that), ours have to be accepted in its own chain: there is no
// overruling a drop from elsewhere. iptables is one of two things: a way to write nftables, which we do as well; or the
// older tables of the kernel, for which its program is needed.
import { type Cidr, formatCidr } from "../address/ipv4.ts";
import { ipAddress, linkName, verdict } from "../netlink/nftables/expression.ts";
import {
  addChain,
  addRule,
  chainList,
  commit,
  deleteChain,
  deleteRule,
  flushChain,
  insertRule,
  type Rule,
  ruleList,
  type TableName,
} from "../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { BRIDGE } from "./names.ts";

export const FORWARDING_CHAIN = "WEAVE-FORWARD";
const FORWARD = "FORWARD";
/** The table of iptables' filter, as it keeps it in nftables. */
const TABLE: TableName = { family: "ip", name: "filter" };
const LEGACY = "iptables-legacy";

/** The two kinds of iptables. */
export type Variant = "iptables-nft" | typeof LEGACY;

/** The kinds of iptables that drop what is forwarded by policy, as far as that can be seen. */
export function droppingForwarded(nf: NetlinkSocket): Variant[] {
  const nft = chainList(nf, TABLE.family).some(
    ({ table, name, policy }) => table === TABLE.name && name === FORWARD && policy === "drop",
  );
  const legacy = /^-P FORWARD DROP$/m.test(iptables("-S", FORWARD) ?? "");
  return [...(nft ? (["iptables-nft"] as const) : []), ...(legacy ? ([LEGACY] as const) : [])];
}

/** Lets packets of containers through where they would be dropped; returns who would have. */
export function acceptForwarded(nf: NetlinkSocket, subnets: readonly Cidr[]): Variant[] {
  const dropping = droppingForwarded(nf);
  if (dropping.includes("iptables-nft")) acceptInNft(nf, subnets);
  if (dropping.includes(LEGACY)) acceptInLegacy(subnets);
  return dropping;
}

/** Takes that back. */
export function undoForwarding(nf: NetlinkSocket): void {
  const ours = chainList(nf, TABLE.family).some(
    ({ table, name }) => table === TABLE.name && name === FORWARDING_CHAIN,
  );
  if (ours) {
    const jumps = ruleList(nf, TABLE, FORWARD).filter(({ jump }) => jump === FORWARDING_CHAIN);
    commit(nf, [
      ...jumps.map(({ handle }) => deleteRule(TABLE, FORWARD, handle)),
      ...deleteChain(TABLE, FORWARDING_CHAIN),
    ]);
  }
  if (iptables("-S", FORWARDING_CHAIN) === undefined) return;
  iptables("-D", FORWARD, "-j", FORWARDING_CHAIN);
  iptables("-F", FORWARDING_CHAIN);
  iptables("-X", FORWARDING_CHAIN);
}

/** Only what iptables can print, too, for whoever looks at its rules. */
function acceptInNft(nf: NetlinkSocket, subnets: readonly Cidr[]): void {
  const rules: Rule[] = [
    [...linkName("iifname", BRIDGE), verdict("accept")],
    ...subnets.map((subnet) => [
      ...linkName("oifname", BRIDGE),
      ...ipAddress("daddr", subnet),
      verdict("accept"),
    ]),
  ];
  const jumps = ruleList(nf, TABLE, FORWARD).some(({ jump }) => jump === FORWARDING_CHAIN);
  commit(nf, [
    addChain(TABLE, { name: FORWARDING_CHAIN }),
    flushChain(TABLE, FORWARDING_CHAIN),
    ...rules.map((rule) => addRule(TABLE, FORWARDING_CHAIN, rule)),
    ...(jumps ? [] : [insertRule(TABLE, FORWARD, [verdict({ jump: FORWARDING_CHAIN })])]),
  ]);
}

function acceptInLegacy(subnets: readonly Cidr[]): void {
  iptables("-N", FORWARDING_CHAIN);
  iptables("-F", FORWARDING_CHAIN);
  iptables("-A", FORWARDING_CHAIN, "-i", BRIDGE, "-j", "ACCEPT");
  for (const subnet of subnets)
    iptables("-A", FORWARDING_CHAIN, "-o", BRIDGE, "-d", formatCidr(subnet), "-j", "ACCEPT");
  if (!iptables("-S", FORWARD)?.includes(`-j ${FORWARDING_CHAIN}`))
    iptables("-I", FORWARD, "1", "-j", FORWARDING_CHAIN);
}

/** What the program prints; undefined where it fails, or is not there. */
function iptables(...args: string[]): string | undefined {
  if (!Bun.which(LEGACY)) return undefined;
  const { exitCode, stdout } = Bun.spawnSync([LEGACY, "-w", ...args], { stdout: "pipe", stderr: "ignore" });
  return exitCode === 0 ? stdout.toString() : undefined;
}
