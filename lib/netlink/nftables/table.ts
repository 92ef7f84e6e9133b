// Whole nftables tables, replaced in one atomic batch (linux/netfilter/nf_tables.h, nfnetlink.h).
import { ENOENT, isErrno } from "../../sys/errno.ts";
import { AttributeEncoder, decodeAttributes } from "../attributes.ts";
import { NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from "../message.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { type Expression, encodeExpressions } from "./expression.ts";

const SUBSYSTEM = 10;
const NFT_MSG_NEWTABLE = 0;
const NFT_MSG_GETTABLE = 1;
const NFT_MSG_DELTABLE = 2;
const NFT_MSG_NEWCHAIN = 3;
const NFT_MSG_NEWRULE = 6;
const BATCH_BEGIN = 16;
const BATCH_END = 17;

const FAMILY = { ip: 2, bridge: 7, inet: 1 } as const;
const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

export type Family = keyof typeof FAMILY;

/** A base chain: where in the path of a packet it hangs, and what happens to packets that no rule decides on. */
export interface Chain {
  readonly name: string;
  readonly type: "filter" | "nat";
  readonly hook: keyof typeof HOOK;
  readonly priority: number;
  readonly policy: "accept" | "drop";
  readonly rules: readonly (readonly Expression[])[];
}

export interface Table {
  readonly family: Family;
  readonly name: string;
  readonly chains: readonly Chain[];
}

function message(
  family: Family,
  type: number,
  operation: string,
  fill: (body: AttributeEncoder) => void,
): Request {
  const body = new AttributeEncoder().raw(Uint8Array.of(FAMILY[family], 0, 0, 0));
  fill(body);
  const flags = NLM_F_CREATE | NLM_F_ACK | (type === NFT_MSG_NEWRULE ? NLM_F_APPEND : 0);
  return { operation: `nft ${operation}`, type: (SUBSYSTEM << 8) | type, flags, body: body.done() };
}

function tableMessage(type: number, what: string, table: Pick<Table, "family" | "name">): Request {
  return message(table.family, type, `${what} table ${table.family} ${table.name}`, (body) =>
    body.string(1, table.name).u32be(2, 0),
  );
}

function chainMessage(table: Table, chain: Chain): Request {
  return message(table.family, NFT_MSG_NEWCHAIN, `add chain ${table.name} ${chain.name}`, (body) =>
    body
      .string(1, table.name)
      .string(3, chain.name)
      .nested(4, (hook) => hook.u32be(1, HOOK[chain.hook]).u32be(2, chain.priority))
      .u32be(5, chain.policy === "accept" ? 1 : 0)
      .string(7, chain.type),
  );
}

/** The message that appends a rule to a chain. */
export function ruleMessage(table: Table, chain: Chain, rule: readonly Expression[]): Request {
  return message(table.family, NFT_MSG_NEWRULE, `add rule ${table.name} ${chain.name}`, (body) =>
    body
      .string(1, table.name)
      .string(2, chain.name)
      .nested(4, (list) => encodeExpressions(list, rule)),
  );
}

function batch(nl: NetlinkSocket, requests: readonly Request[]): void {
  const edge = Uint8Array.of(0, 0, 0, SUBSYSTEM);
  nl.batch([
    { operation: "nft batch begin", type: BATCH_BEGIN, body: edge },
    ...requests,
    { operation: "nft batch end", type: BATCH_END, body: edge },
  ]);
}

/** Puts a table in place of the one of that name, if there is one: all of it, at once, or nothing. */
export function tableReplace(nl: NetlinkSocket, table: Table): void {
  batch(nl, [
    // Deleting needs it to exist; adding an existing one changes nothing.
    tableMessage(NFT_MSG_NEWTABLE, "add", table),
    tableMessage(NFT_MSG_DELTABLE, "delete", table),
    tableMessage(NFT_MSG_NEWTABLE, "add", table),
    ...table.chains.map((chain) => chainMessage(table, chain)),
    ...table.chains.flatMap((chain) => chain.rules.map((rule) => ruleMessage(table, chain, rule))),
  ]);
}

/** Removes a table; false if there was none. */
export function tableDelete(nl: NetlinkSocket, table: Pick<Table, "family" | "name">): boolean {
  try {
    batch(nl, [tableMessage(NFT_MSG_DELTABLE, "delete", table)]);
    return true;
  } catch (error) {
    if (isErrno(error, ENOENT)) return false;
    throw error;
  }
}

/** The names of all tables of a family. */
export function tableList(nl: NetlinkSocket, family: Family): string[] {
  const body = Uint8Array.of(FAMILY[family], 0, 0, 0);
  return nl
    .dump({ operation: "nft list tables", type: (SUBSYSTEM << 8) | NFT_MSG_GETTABLE, body })
    .map(({ body: found }) => decodeAttributes(found.subarray(4)).need(1).string);
}
