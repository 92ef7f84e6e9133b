// Tables, chains and rules of nftables, changed in atomic batches (linux/netfilter/nf_tables.h, nfnetlink.h).
import { ENOENT, isErrno } from "../../sys/errno.ts";
import { AttributeEncoder, decodeAttributes } from "../attributes.ts";
import { NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from "../message.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { type Expression, encodeExpressions } from "./expression.ts";

const SUBSYSTEM = 10;
const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  delChain: 5,
  newRule: 6,
  delRule: 8,
  newSet: 9,
  delSet: 11,
  newSetElem: 12,
  delSetElem: 14,
} as const;
const BATCH_BEGIN = 16;
const BATCH_END = 17;

const FAMILY = { ip: 2, bridge: 7, inet: 1 } as const;
const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

export type TableFamily = keyof typeof FAMILY;

/** A table by its name. */
export interface TableName {
  readonly family: TableFamily;
  readonly name: string;
}

/** Where in the path of a packet a base chain hangs, and what happens to packets that no rule decides on. */
export interface Hook {
  readonly type: "filter" | "nat";
  readonly hook: keyof typeof HOOK;
  readonly priority: number;
  readonly policy: "accept" | "drop";
}

export type Rule = readonly Expression[];

export interface Chain {
  readonly name: string;
  /** Undefined for chains that others jump to. */
  readonly base?: Hook | undefined;
  readonly rules: readonly Rule[];
}

/** A message to the kernel about something in a table. */
export function nftMessage(
  { family }: TableName,
  type: keyof typeof NFT_MSG,
  operation: string,
  fill: (body: AttributeEncoder) => void,
): Request {
  const body = new AttributeEncoder().raw(Uint8Array.of(FAMILY[family], 0, 0, 0));
  fill(body);
  const flags = type.startsWith("new") ? NLM_F_CREATE | (type === "newRule" ? NLM_F_APPEND : 0) : 0;
  return { operation: `nft ${operation}`, type: (SUBSYSTEM << 8) | NFT_MSG[type], flags, body: body.done() };
}

export function addTable(table: TableName): Request {
  return nftMessage(table, "newTable", `add table ${table.family} ${table.name}`, (body) =>
    body.string(1, table.name).u32be(2, 0),
  );
}

export function deleteTable(table: TableName): Request {
  return nftMessage(table, "delTable", `delete table ${table.family} ${table.name}`, (body) =>
    body.string(1, table.name),
  );
}

/** Adds a chain, without its rules. */
export function addChain(table: TableName, { name, base }: Omit<Chain, "rules">): Request {
  return nftMessage(table, "newChain", `add chain ${table.name} ${name}`, (body) => {
    body.string(1, table.name).string(3, name);
    if (!base) return;
    body
      .nested(4, (hook) => hook.u32be(1, HOOK[base.hook]).u32be(2, base.priority))
      .u32be(5, base.policy === "accept" ? 1 : 0)
      .string(7, base.type);
  });
}

/** Deletes a chain that nothing refers to, with its rules. */
export function deleteChain(table: TableName, name: string): Request[] {
  const named = (body: AttributeEncoder, attribute: number) =>
    body.string(1, table.name).string(attribute, name);
  return [
    nftMessage(table, "delRule", `flush chain ${table.name} ${name}`, (body) => named(body, 2)),
    nftMessage(table, "delChain", `delete chain ${table.name} ${name}`, (body) => named(body, 3)),
  ];
}

/** Appends a rule to a chain. */
export function addRule(table: TableName, chain: string, rule: Rule): Request {
  return nftMessage(table, "newRule", `add rule ${table.name} ${chain}`, (body) =>
    body
      .string(1, table.name)
      .string(2, chain)
      .nested(4, (list) => encodeExpressions(list, rule)),
  );
}

/** Does all of it at once, or nothing; throws NetlinkError, named by the first that was refused. */
export function commit(nl: NetlinkSocket, requests: readonly Request[]): void {
  const last = requests.at(-1);
  if (!last) return;
  const edge = Uint8Array.of(0, 0, 0, SUBSYSTEM);
  nl.batch([
    { operation: "nft batch begin", type: BATCH_BEGIN, body: edge },
    ...requests.slice(0, -1),
    // What is refused is answered in any case; that all is done, once.
    { ...last, flags: (last.flags ?? 0) | NLM_F_ACK },
    { operation: "nft batch end", type: BATCH_END, body: edge },
  ]);
}

/** What puts an empty table in place of the one of that name, if there is one. */
export function renewTable(table: TableName): Request[] {
  // Deleting needs it to exist; adding an existing one changes nothing.
  return [addTable(table), deleteTable(table), addTable(table)];
}

/** Removes a table; false if there was none. */
export function tableDelete(nl: NetlinkSocket, table: TableName): boolean {
  try {
    commit(nl, [deleteTable(table)]);
    return true;
  } catch (error) {
    if (isErrno(error, ENOENT)) return false;
    throw error;
  }
}

/** The names of all tables of a family. */
export function tableList(nl: NetlinkSocket, family: TableFamily): string[] {
  return nl
    .dump(nftMessage({ family, name: "" }, "getTable", "list tables", () => {}))
    .map(({ body }) => decodeAttributes(body.subarray(4)).need(1).string);
}
