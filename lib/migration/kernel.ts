// What the original leaves in the kernel of a host, and what takes it away: links of its datapaths, rules of iptables, sets
// of ipset (weave: net/bridge.go, net/iptables.go, npc/). What is ours as well is left: the bridge, containers' links.

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

/** The link of its datapath of openvswitch, and the ports that join that, or its capture, to the bridge. */
const DATAPATH = "datapath";
const PORTS = ["vethwe-bridge", "vethwe-datapath", "vethwe-pcap"];
/** The tables of iptables that it uses. */
const TABLES = ["filter", "nat", "mangle"];
const CHAIN = /^WEAVE(-|$)/;
const SETS = /^weaver?-/;

/** Rules of one kind of iptables. */
export interface OriginalRules {
  readonly variant: "iptables-nft" | "iptables-legacy";
  readonly chains: number;
  readonly rules: number;
}

/** What there is of it on this host, in the namespace that this thread is in. */
export interface OriginalKernel {
  readonly links: readonly string[];
  readonly rules: readonly OriginalRules[];
  readonly sets: readonly string[];
}

export function findOriginal(route: NetlinkSocket, nf: NetlinkSocket): OriginalKernel {
  return {
    links: links(route).map(({ name }) => name),
    rules: [...summary("iptables-nft", nftParts(nf)), ...summary("iptables-legacy", legacyParts())],
    sets: ipsetList(nf).filter((name) => SETS.test(name)),
  };
}

export const isNothing = ({ links, rules, sets }: OriginalKernel) =>
  links.length + rules.length + sets.length === 0;

function links(route: NetlinkSocket): Link[] {
  const all = linkList(route);
  const datapath = all.find(({ name, kind }) => name === DATAPATH && kind === "openvswitch");
  return all.filter((link) => link === datapath || (PORTS.includes(link.name) && link.kind === "veth"));
}

/** Removes its links: where openvswitch has the port that the fast datapath takes, ours cannot have it. */
export function removeOriginalLinks(route: NetlinkSocket): void {
  for (const { name, kind } of links(route)) {
    if (kind === "openvswitch") datapathDelete(name);
    else linkDelete(route, name);
  }
}

/** Removes the rest; returns the sets that something still uses. */
export function removeOriginalRules(nf: NetlinkSocket): string[] {
  removeNftRules(nf);
  removeLegacyRules();
  // A set that lists others goes before these can.
  for (let again = true; again; ) {
    again = ipsetList(nf).some((name) => SETS.test(name) && ipsetDestroy(nf, name));
  }
  return ipsetList(nf).filter((name) => SETS.test(name));
}

const text = new TextDecoder("latin1");
/** The name of our bridge, and no longer one that ends alike. */
const ABOUT_BRIDGE = new RegExp(`(^|[^\\w.-])${BRIDGE}\0`);

const isOwnChain = (name: string) => CHAIN.test(name) && name !== FORWARDING_CHAIN;

/** Whether a rule is about its chains, the bridge, or says that it is its. */
function isOriginals(jump: string | undefined, aboutBridge: boolean, words: string): boolean {
  return jump === undefined ? aboutBridge || words.includes("Weave Net") : isOwnChain(jump);
}

interface Part<Chain, Rule> {
  readonly own: readonly Chain[];
  readonly rules: readonly Rule[];
}

/** What there is in some tables; nothing where none has a chain of the original: then rules are somebody else's. */
function summary(
  variant: OriginalRules["variant"],
  parts: readonly Part<unknown, unknown>[],
): OriginalRules[] {
  const chains = parts.reduce((sum, { own }) => sum + own.length, 0);
  const rules = parts.reduce((sum, each) => sum + each.rules.length, 0);
  return chains === 0 ? [] : [{ variant, chains, rules }];
}

/** Its chains and rules by table; none where no table has a chain of its, so that rules need not be looked through. */
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
    // They jump to each other: all are emptied before any is deleted.
    ...parts.flatMap(({ table, own }) => own.map((chain) => flushChain(table, chain))),
    ...parts.flatMap(({ table, own }) => own.flatMap((chain) => deleteChain(table, chain))),
  ]);
}

interface LegacyPart extends Part<LegacyChain, LegacyRule> {
  readonly table: LegacyTable;
  readonly others: readonly LegacyChain[];
}

/** The same of the older kind. */
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
