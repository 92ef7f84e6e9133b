// What the original leaves in the kernel of a host, and what takes it away: links of its datapaths, rules of iptables, sets
// of ipset (weave: net/bridge.go, net/iptables.go, npc/). What is ours as well is left: the bridge, containers' links.

import { ipsetDestroy, ipsetList } from "../netlink/ipset.ts";
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

/** Whether a rule is about its chains, the bridge, or says that it is its. */
function isOriginals(content: Uint8Array, jump: string | undefined): boolean {
  if (jump !== undefined) return CHAIN.test(jump) && jump !== FORWARDING_CHAIN;
  const words = text.decode(content);
  return words.includes(`${BRIDGE}\0`) || words.includes("Weave Net");
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

const LEGACY = "iptables-legacy";

function legacy(table: string, ...args: string[]): string[] {
  if (!Bun.which(LEGACY)) return [];
  const { stdout } = Bun.spawnSync([LEGACY, "-w", "-t", table, ...args], {
    stdout: "pipe",
    stderr: "ignore",
  });
  return stdout.toString().split("\n").filter(Boolean);
}

function legacyParts(table: string) {
  const lines = legacy(table, "-S");
  const own = lines
    .flatMap((line) => /^-N (\S+)$/.exec(line)?.[1] ?? [])
    .filter((name) => CHAIN.test(name) && name !== FORWARDING_CHAIN);
  const rules = lines.filter((line) => {
    const [, chain = "", rest = ""] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain === "" || CHAIN.test(chain)) return false;
    const jump = /-[jg] (\S+)/.exec(rest)?.[1] ?? "";
    if (CHAIN.test(jump)) return jump !== FORWARDING_CHAIN;
    return new RegExp(`-[io] ${BRIDGE}( |$)|Weave Net`).test(rest);
  });
  return { own, rules };
}

function legacyRules(): OriginalRules[] {
  const parts = TABLES.map(legacyParts);
  const chains = parts.reduce((sum, { own }) => sum + own.length, 0);
  const rules = parts.reduce((sum, each) => sum + each.rules.length, 0);
  return chains + rules === 0 ? [] : [{ variant: LEGACY, chains, rules }];
}

function removeLegacyRules(): void {
  for (const table of TABLES) {
    const { own, rules } = legacyParts(table);
    for (const rule of rules) legacy(table, ...words(rule.replace(/^-A/, "-D")));
    for (const chain of own) legacy(table, "-F", chain);
    for (const chain of own) legacy(table, "-X", chain);
  }
}

/** The words of a rule as the program prints it, some of them in quotes. */
function words(rule: string): string[] {
  return [...rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(
    ([, quoted, plain]) => plain ?? (quoted ?? "").replace(/\\(.)/g, "$1"),
  );
}
