// Where iptables drops forwarded packets by policy (Docker sets that), ours have to be accepted in its own chain: there is no
// overruling a drop from elsewhere. iptables is one of two things: a way to write nftables, or the older tables of the
// kernel; of both we do what its programs do, which need not be there.
import type { Cidr } from "../address/ipv4.ts";
import { legacyTables, readLegacyTable, replaceLegacyTable } from "../netlink/iptables/socket.ts";
import { dropsByPolicy, type LegacyTable, legacyRule } from "../netlink/iptables/table.ts";
import { ipAddress, linkName, verdict } from "../netlink/nftables/expression.ts";
import {
  addChain,
  addRule,
  chainGet,
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
  const nft = chainGet(nf, TABLE, FORWARD)?.policy === "drop";
  const forward = forwardOf(legacyFilter());
  const legacy = forward !== undefined && dropsByPolicy(forward);
  return [...(nft ? (["iptables-nft"] as const) : []), ...(legacy ? ([LEGACY] as const) : [])];
}

/** Lets packets of containers through where they would be dropped; returns who would have. */
export function acceptForwarded(nf: NetlinkSocket, subnets: readonly Cidr[]): Variant[] {
  const dropping = droppingForwarded(nf);
  if (dropping.includes("iptables-nft")) acceptInNft(nf, subnets);
  if (dropping.includes(LEGACY)) acceptInLegacy(subnets);
  return dropping;
}

/** Whether that was done, for these kinds, and nobody has flushed it since. */
export function isAccepted(nf: NetlinkSocket, dropping: readonly Variant[]): boolean {
  return dropping.every((variant) => (variant === LEGACY ? acceptsInLegacy() : acceptsInNft(nf)));
}

function acceptsInNft(nf: NetlinkSocket): boolean {
  return (
    isInNft(nf) &&
    ruleList(nf, TABLE, FORWARDING_CHAIN).length > 0 &&
    ruleList(nf, TABLE, FORWARD).some(({ jump }) => jump === FORWARDING_CHAIN)
  );
}

function acceptsInLegacy(): boolean {
  const table = legacyFilter();
  const chain = table?.chains.find(({ name }) => name === FORWARDING_CHAIN);
  const jumps = forwardOf(table)?.rules.some(({ jump }) => jump === FORWARDING_CHAIN);
  return chain !== undefined && chain.rules.length > 0 && jumps === true;
}

/** Takes that back. */
export function undoForwarding(nf: NetlinkSocket): void {
  if (isInNft(nf)) {
    const jumps = ruleList(nf, TABLE, FORWARD).filter(({ jump }) => jump === FORWARDING_CHAIN);
    commit(nf, [
      ...jumps.map(({ handle }) => deleteRule(TABLE, FORWARD, handle)),
      ...deleteChain(TABLE, FORWARDING_CHAIN),
    ]);
  }
  const legacy = legacyFilter();
  if (legacy && withoutOurs(legacy)) replaceLegacyTable(legacy);
}

function isInNft(nf: NetlinkSocket): boolean {
  return chainGet(nf, TABLE, FORWARDING_CHAIN) !== undefined;
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

/** The older filter, where it is in use. */
function legacyFilter(): LegacyTable | undefined {
  return legacyTables().includes(TABLE.name) ? readLegacyTable(TABLE.name) : undefined;
}

const forwardOf = (table: LegacyTable | undefined) => table?.hooks.find(({ name }) => name === FORWARD);

function acceptInLegacy(subnets: readonly Cidr[]): void {
  const table = legacyFilter();
  const forward = forwardOf(table);
  if (!table || !forward) return;
  withoutOurs(table);
  const rules = [
    legacyRule({ inLink: BRIDGE }),
    ...subnets.map((destination) => legacyRule({ outLink: BRIDGE, destination })),
  ];
  table.chains.push({ name: FORWARDING_CHAIN, rules });
  forward.rules.unshift(legacyRule({}, FORWARDING_CHAIN));
  replaceLegacyTable(table);
}

/** Takes our chain out of a table; false where it has none. */
function withoutOurs(table: LegacyTable): boolean {
  const before = table.chains.length;
  table.chains = table.chains.filter(({ name }) => name !== FORWARDING_CHAIN);
  for (const chain of [...table.hooks, ...table.chains])
    chain.rules = chain.rules.filter(({ jump }) => jump !== FORWARDING_CHAIN);
  return table.chains.length < before;
}
