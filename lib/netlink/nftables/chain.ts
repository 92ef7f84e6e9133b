// Chains of nftables (linux/netfilter/nf_tables.h: enum nft_chain_attributes, nft_hook_attributes).
import type { Attributes } from "../attributes.ts";
import type { Message } from "../message.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { NF_ACCEPT, NF_DROP } from "./expr/data.ts";
import {
  ifPresent,
  NFTA_TABLE,
  named,
  nftAttributes,
  nftMessage,
  type TableFamily,
  type TableName,
  tableMessage,
} from "./message.ts";
import { flushChain, type Rule } from "./rule.ts";

export const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_TYPE = 7;
const NFTA_CHAIN_FLAGS = 10;

const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;

/** enum nft_chain_flags; the kernel sets it. */
const NFT_CHAIN_BASE = 1;

/** enum nf_inet_hooks (linux/netfilter.h); those of bridges have the same numbers. */
const NF_HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;
const HOOK_NAMES = new Map<number, string>(Object.entries(NF_HOOK).map(([name, number]) => [number, name]));

/** The hook of a base chain, and its policy. */
interface Hook {
  readonly type: "filter" | "nat";
  readonly hook: keyof typeof NF_HOOK;
  readonly priority: number;
  readonly policy: "accept" | "drop";
}

export interface Chain {
  readonly name: string;
  /** Undefined for chains that others jump to. */
  readonly base?: Hook | undefined;
  readonly rules: readonly Rule[];
}

/** Add a chain, without its rules. */
export function addChain(table: TableName, { name, base }: Omit<Chain, "rules">): Request {
  return tableMessage(table, "NEWCHAIN", `add chain ${named(table)} ${name}`, (body) => {
    body.string(NFTA_CHAIN_NAME, name);
    if (!base) return;
    body
      .nested(NFTA_CHAIN_HOOK, (hook) =>
        hook.u32be(NFTA_HOOK_HOOKNUM, NF_HOOK[base.hook]).u32be(NFTA_HOOK_PRIORITY, base.priority),
      )
      .u32be(NFTA_CHAIN_POLICY, base.policy === "accept" ? NF_ACCEPT : NF_DROP)
      .string(NFTA_CHAIN_TYPE, base.type);
  });
}

/** Delete a chain that nothing refers to, with its rules. */
export function deleteChain(table: TableName, name: string): Request[] {
  const remove = tableMessage(table, "DELCHAIN", `delete chain ${named(table)} ${name}`, (body) =>
    body.string(NFTA_CHAIN_NAME, name),
  );
  return [flushChain(table, name), remove];
}

/** A chain of any program. */
export interface ListedChain {
  readonly table: string;
  readonly name: string;
  /** Verdict on packets that no rule decides on; undefined for chains that others jump to. */
  readonly policy: "accept" | "drop" | undefined;
  /** Its hook in the words of nft(8); "" for chains that others jump to. */
  readonly hook: string;
}

/** Return all chains of a family. */
export function chainList(nl: NetlinkSocket, family: TableFamily): ListedChain[] {
  return nl.dump(nftMessage(family, "GETCHAIN", "list chains")).map(decodeChain);
}

/** Return one chain; undefined where it or its table is missing. */
export function chainGet(nl: NetlinkSocket, table: TableName, chain: string): ListedChain | undefined {
  const request = tableMessage(table, "GETCHAIN", `get chain ${named(table)} ${chain}`, (body) =>
    body.string(NFTA_CHAIN_NAME, chain),
  );
  const found = ifPresent(() => nl.request(request)[0]);
  return found && decodeChain(found);
}

/** Read a message about a chain; throws AttributeError. */
export function decodeChain({ body }: Pick<Message, "body">): ListedChain {
  const attributes = nftAttributes(body);
  const policy = attributes.get(NFTA_CHAIN_POLICY)?.u32be;
  return {
    table: attributes.need(NFTA_TABLE).string,
    name: attributes.need(NFTA_CHAIN_NAME).string,
    policy: policy === undefined ? undefined : policy === NF_DROP ? "drop" : "accept",
    hook: hookText(attributes),
  };
}

function hookText(chain: Attributes): string {
  const hook = chain.get(NFTA_CHAIN_HOOK)?.nested;
  if (!hook) return "";
  const number = hook.need(NFTA_HOOK_HOOKNUM).u32be;
  const priority = hook.need(NFTA_HOOK_PRIORITY).u32be | 0;
  const policy = chain.get(NFTA_CHAIN_POLICY)?.u32be === NF_DROP ? "drop" : "accept";
  const flags = (chain.get(NFTA_CHAIN_FLAGS)?.u32be ?? 0) & ~NFT_CHAIN_BASE;
  const text = `type ${chain.need(NFTA_CHAIN_TYPE).string} hook ${HOOK_NAMES.get(number) ?? number} priority ${priority} policy ${policy}`;
  return flags === 0 ? text : `${text} flags ${flags}`;
}
