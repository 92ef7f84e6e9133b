// What the original leaves in the kernel of a host, and what takes it away: links of its datapaths, rules of iptables, sets
// of ipset (weave: net/bridge.go, net/iptables.go, npc/). What is ours as well is left: the bridge, containers' links.

import { ipsetDestroy, ipsetList } from "../netlink/ipset.ts";
import { legacyTables, readLegacyTable, replaceLegacyTable } from "../netlink/iptables/socket.ts";
import { type LegacyChain, type LegacyRule, linksOf } from "../netlink/iptables/table.ts";
import { type Link, linkDelete, linkList } from "../netlink/link.ts";
import {
  chainList,
  commit,
  deleteChain,
  deleteRule,
  flushChain,
  ruleList,
  type TableName,
} from "../netlink/nftables/table.ts";
import { datapathDelete } from "../netlink/openvswitch.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { FORWARDING_CHAIN } from "./forwarding.ts";
import { BRIDGE } from "./names.ts";

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
    rules: [...nftRules(nf), ...legacyRules()],
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
  for (const name of TABLES) removeNftRules(nf, { family: "ip", name });
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

/** Whether a rule is about its chains, the bridge, or says that it is its. */
function isOriginals(content: Uint8Array, jump: string | undefined): boolean {
  if (jump !== undefined) return CHAIN.test(jump) && jump !== FORWARDING_CHAIN;
  const words = text.decode(content);
  return ABOUT_BRIDGE.test(words) || words.includes("Weave Net");
}

function nftParts(nf: NetlinkSocket, table: TableName) {
  const chains = chainList(nf, table.family).filter((chain) => chain.table === table.name);
  const own = chains.filter(({ name }) => CHAIN.test(name) && name !== FORWARDING_CHAIN);
  const rules = chains
    .filter(({ name }) => !CHAIN.test(name))
    .flatMap(({ name }) =>
      ruleList(nf, table, name)
        .filter(({ content, jump }) => isOriginals(content, jump))
        .map(({ handle }) => ({ chain: name, handle })),
    );
  return { own: own.map(({ name }) => name), rules };
}

function nftRules(nf: NetlinkSocket): OriginalRules[] {
  const parts = TABLES.map((name) => nftParts(nf, { family: "ip", name }));
  const [chains, rules] = [
    parts.reduce((sum, { own }) => sum + own.length, 0),
    parts.reduce((sum, each) => sum + each.rules.length, 0),
  ];
  return chains + rules === 0 ? [] : [{ variant: "iptables-nft", chains, rules }];
}

function removeNftRules(nf: NetlinkSocket, table: TableName): void {
  const { own, rules } = nftParts(nf, table);
  commit(nf, [
    ...rules.map(({ chain, handle }) => deleteRule(table, chain, handle)),
    // They jump to each other: all are emptied before any is deleted.
    ...own.map((chain) => flushChain(table, chain)),
    ...own.map((chain) => deleteChain(table, chain)).flatMap(([, remove]) => remove ?? []),
  ]);
}

/** Tables of the older kind that are in use, with what is the original's in them. */
function legacyParts() {
  return legacyTables()
    .filter((name) => TABLES.includes(name))
    .map((name) => {
      const table = readLegacyTable(name);
      const isOwn = ({ name }: LegacyChain) => CHAIN.test(name) && name !== FORWARDING_CHAIN;
      const own = table.chains.filter(isOwn);
      const others = [...table.hooks, ...table.chains.filter((chain) => !CHAIN.test(chain.name))];
      const isRule = (rule: LegacyRule) =>
        rule.jump === undefined
          ? linksOf(rule).includes(BRIDGE) || text.decode(rule.bytes).includes("Weave Net")
          : CHAIN.test(rule.jump) && rule.jump !== FORWARDING_CHAIN;
      return { table, own, others, isRule };
    });
}

function legacyRules(): OriginalRules[] {
  const parts = legacyParts();
  const chains = parts.reduce((sum, { own }) => sum + own.length, 0);
  const rules = parts.flatMap(({ others, isRule }) =>
    others.flatMap((chain) => chain.rules.filter(isRule)),
  ).length;
  return chains + rules === 0 ? [] : [{ variant: "iptables-legacy", chains, rules }];
}

function removeLegacyRules(): void {
  for (const { table, own, others, isRule } of legacyParts()) {
    if (own.length === 0 && !others.some((chain) => chain.rules.some(isRule))) continue;
    for (const chain of others) chain.rules = chain.rules.filter((rule) => !isRule(rule));
    table.chains = table.chains.filter((chain) => !own.includes(chain));
    replaceLegacyTable(table);
  }
}
