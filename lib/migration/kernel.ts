// Find and remove what the original leaves in a host's kernel: datapath links, iptables rules and chains, ipsets (weave:
// net/bridge.go, net/iptables.go, npc/). The bridge and containers' links stay: the new router uses them.

import { BRIDGE, FORWARDING_CHAIN } from "../host/names.ts";
import { legacyTables, readLegacyTable, replaceLegacyTable } from "../netlink/iptables/socket.ts";
import { type LegacyChain, type LegacyRule, type LegacyTable, linksOf } from "../netlink/iptables/table.ts";
import { linkDelete } from "../netlink/link/delete.ts";
import { type Link, linkList } from "../netlink/link.ts";
import { chainList, deleteChain } from "../netlink/nftables/chain.ts";
import { commit, type TableName } from "../netlink/nftables/message.ts";
import { deleteRule, flushChain, ruleList } from "../netlink/nftables/rule.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { ipsetDestroy, ipsetList } from "./ipset.ts";
import { datapathDelete } from "./openvswitch.ts";

/** The openvswitch datapath, and the veths that join it, or the pcap capture, to the bridge. */
const DATAPATH = "datapath";
const PORTS = ["vethwe-bridge", "vethwe-datapath", "vethwe-pcap"];
/** iptables tables that it uses. */
const TABLES = ["filter", "nat", "mangle"];
const CHAIN = /^WEAVE(-|$)/;
const SETS = /^weaver?-/;

/** Counts of one variant of iptables. */
export interface OriginalRules {
  readonly variant: "iptables-nft" | "iptables-legacy";
  readonly chains: number;
  readonly rules: number;
}

/** State of the original in this thread's network namespace. */
export interface OriginalKernel {
  readonly links: readonly string[];
  readonly rules: readonly OriginalRules[];
  readonly sets: readonly string[];
}

export function findOriginalKernel(route: NetlinkSocket, nf: NetlinkSocket): OriginalKernel {
  return {
    links: links(route).map(({ name }) => name),
    rules: [...summary("iptables-nft", nftParts(nf)), ...summary("iptables-legacy", legacyParts())],
    sets: ipsetList(nf).filter((name) => SETS.test(name)),
  };
}

export const isEmpty = ({ links, rules, sets }: OriginalKernel) =>
  links.length + rules.length + sets.length === 0;

function links(route: NetlinkSocket): Link[] {
  const all = linkList(route);
  const datapath = all.find(({ name, kind }) => name === DATAPATH && kind === "openvswitch");
  return all.filter((link) => link === datapath || (PORTS.includes(link.name) && link.kind === "veth"));
}

/** Remove its links: openvswitch holds the UDP port that the fast datapath needs. */
export function removeOriginalLinks(route: NetlinkSocket): void {
  for (const { name, kind } of links(route)) {
    if (kind === "openvswitch") datapathDelete(name);
    else linkDelete(route, name);
  }
}

/** Remove rules, chains and sets; returns the sets that are still in use. */
export function removeOriginalRules(nf: NetlinkSocket): string[] {
  removeNftRules(nf);
  removeLegacyRules();
  // A list of sets has to go before its members.
  for (let again = true; again; ) {
    again = ipsetList(nf).some((name) => SETS.test(name) && ipsetDestroy(nf, name));
  }
  return ipsetList(nf).filter((name) => SETS.test(name));
}

const text = new TextDecoder("latin1");
/** The bridge's name as a whole word. */
const ABOUT_BRIDGE = new RegExp(`(^|[^\\w.-])${BRIDGE}\0`);

const isOwnChain = (name: string) => CHAIN.test(name) && name !== FORWARDING_CHAIN;

/** Whether a rule jumps to its chains, matches the bridge, or has its comment. */
function isOriginals(jump: string | undefined, aboutBridge: boolean, words: string): boolean {
  return jump === undefined ? aboutBridge || words.includes("Weave Net") : isOwnChain(jump);
}

interface Part<Chain, Rule> {
  readonly own: readonly Chain[];
  readonly rules: readonly Rule[];
}

/** Count chains and rules; empty if no table has a chain of the original: the rules are then not its own. */
function summary(
  variant: OriginalRules["variant"],
  parts: readonly Part<unknown, unknown>[],
): OriginalRules[] {
  const chains = parts.reduce((sum, { own }) => sum + own.length, 0);
  const rules = parts.reduce((sum, each) => sum + each.rules.length, 0);
  return chains === 0 ? [] : [{ variant, chains, rules }];
}

/** Its chains and rules by table; empty if no table has a chain of its own, which saves listing all rules. */
function nftParts(
  nf: NetlinkSocket,
): (Part<string, { chain: string; handle: bigint }> & { table: TableName })[] {
  const all = chainList(nf, "ip").filter(({ table }) => TABLES.includes(table));
  if (!all.some(({ name }) => isOwnChain(name))) return [];
  return TABLES.map((name): TableName => ({ family: "ip", name })).map((table) => {
    const chains = all.filter((chain) => chain.table === table.name).map(({ name }) => name);
    const rules = chains
      .filter((chain) => !CHAIN.test(chain))
      .flatMap((chain) =>
        ruleList(nf, table, chain)
          .filter(({ content, jump }) => {
            const words = text.decode(content);
            return isOriginals(jump, ABOUT_BRIDGE.test(words), words);
          })
          .map(({ handle }) => ({ chain, handle })),
      );
    return { table, own: chains.filter(isOwnChain), rules };
  });
}

function removeNftRules(nf: NetlinkSocket): void {
  const parts = nftParts(nf);
  commit(nf, [
    ...parts.flatMap(({ table, rules }) =>
      rules.map(({ chain, handle }) => deleteRule(table, chain, handle)),
    ),
    // Chains jump to each other: flush all before deleting any.
    ...parts.flatMap(({ table, own }) => own.map((chain) => flushChain(table, chain))),
    ...parts.flatMap(({ table, own }) => own.flatMap((chain) => deleteChain(table, chain))),
  ]);
}

interface LegacyPart extends Part<LegacyChain, LegacyRule> {
  readonly table: LegacyTable;
  readonly others: readonly LegacyChain[];
}

/** The same for iptables-legacy. */
function legacyParts(): LegacyPart[] {
  const tables = legacyTables()
    .filter((name) => TABLES.includes(name))
    .map(readLegacyTable);
  if (!tables.some(({ chains }) => chains.some(({ name }) => isOwnChain(name)))) return [];
  return tables.map((table) => {
    const others = [...table.hooks, ...table.chains.filter(({ name }) => !CHAIN.test(name))];
    const rules = others.flatMap((chain) =>
      chain.rules.filter((rule) =>
        isOriginals(rule.jump, linksOf(rule).includes(BRIDGE), text.decode(rule.bytes)),
      ),
    );
    return { table, others, rules, own: table.chains.filter(({ name }) => isOwnChain(name)) };
  });
}

function removeLegacyRules(): void {
  for (const { table, own, others, rules } of legacyParts()) {
    if (own.length + rules.length === 0) continue;
    for (const chain of others) chain.rules = chain.rules.filter((rule) => !rules.includes(rule));
    table.chains = table.chains.filter((chain) => !own.includes(chain));
    replaceLegacyTable(table);
  }
}
