// Tables, chains and rules of nftables, changed in atomic batches (linux/netfilter/nf_tables.h, nfnetlink.h).
import { ENOENT, isErrno } from "../../sys/errno.ts";
import { AttributeEncoder, type Attributes, decodeAttributes, familyHeader } from "../attributes.ts";
import { type Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from "../message.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { encodeExpressions } from "./expression.ts";
import type { Expression } from "./step.ts";

const SUBSYSTEM = 10;
export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  getChain: 4,
  delChain: 5,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  getSet: 10,
  delSet: 11,
  newSetElem: 12,
  getSetElem: 13,
  delSetElem: 14,
} as const;
const BATCH_BEGIN = 16;
const BATCH_END = 17;

export const FAMILY = { ip: 2, bridge: 7, inet: 1 } as const;
const FAMILY_HEADER = 4;
const OWNER = 2;
export const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

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

/** A table in the name of an operation: with its family where that is not IP, so that it is seen which one was refused. */
export function named({ family, name }: TableName): string {
  return family === "bridge" ? `${family} ${name}` : name;
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
  return nftMessage(table, "newChain", `add chain ${named(table)} ${name}`, (body) => {
    body.string(1, table.name).string(3, name);
    if (!base) return;
    body
      .nested(4, (hook) => hook.u32be(1, HOOK[base.hook]).u32be(2, base.priority))
      .u32be(5, base.policy === "accept" ? 1 : 0)
      .string(7, base.type);
  });
}

/** Deletes all rules of a chain. */
export function flushChain(table: TableName, name: string): Request {
  return nftMessage(table, "delRule", `flush chain ${named(table)} ${name}`, (body) =>
    body.string(1, table.name).string(2, name),
  );
}

/** Deletes a chain that nothing refers to, with its rules. */
export function deleteChain(table: TableName, name: string): Request[] {
  const remove = nftMessage(table, "delChain", `delete chain ${named(table)} ${name}`, (body) =>
    body.string(1, table.name).string(3, name),
  );
  return [flushChain(table, name), remove];
}

/** Appends a rule to a chain. */
export function addRule(table: TableName, chain: string, rule: Rule): Request {
  return nftMessage(table, "newRule", `add rule ${named(table)} ${chain}`, (body) =>
    body
      .string(1, table.name)
      .string(2, chain)
      .nested(4, (list) => encodeExpressions(list, rule)),
  );
}

/** Puts a rule before all others of a chain. */
export function insertRule(table: TableName, chain: string, rule: Rule): Request {
  const request = addRule(table, chain, rule);
  return { ...request, flags: (request.flags ?? 0) & ~NLM_F_APPEND };
}

/** Deletes one rule, by the number that the kernel has given it. */
export function deleteRule(table: TableName, chain: string, handle: bigint): Request {
  return nftMessage(table, "delRule", `delete rule ${named(table)} ${chain}`, (body) =>
    body.string(1, table.name).string(2, chain).bytes(3, bigEndian(handle)),
  );
}

function bigEndian(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
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

/** Attributes of a message about something in a table; throws AttributeError. */
export function tableAttributes(body: Uint8Array): Attributes {
  return decodeAttributes(body.subarray(familyHeader(body, FAMILY_HEADER).byteLength));
}

/** The names of all tables of a family. */
export function tableList(nl: NetlinkSocket, family: TableFamily): string[] {
  return nl
    .dump(nftMessage({ family, name: "" }, "getTable", "list tables", () => {}))
    .map(({ body }) => tableAttributes(body).need(1).string);
}

/** Whether a table is there; false, too, where the kernel has no nftables. */
export function hasTable(nl: NetlinkSocket, { family, name }: TableName): boolean {
  try {
    return tableList(nl, family).includes(name);
  } catch {
    return false;
  }
}

/** Whether only the process that has made a table may change it (NFT_TABLE_F_OWNER); false where there is none. */
export function isOwned(nl: NetlinkSocket, table: TableName): boolean {
  const request = nftMessage(table, "getTable", `get table ${table.family} ${table.name}`, (body) =>
    body.string(1, table.name),
  );
  try {
    return nl.request(request).some(({ body }) => ((tableAttributes(body).get(2)?.u32be ?? 0) & OWNER) !== 0);
  } catch (error) {
    if (isErrno(error, ENOENT)) return false;
    throw error;
  }
}

/** A chain of anybody's. */
export interface ListedChain {
  readonly table: string;
  readonly name: string;
  /** What becomes of packets that no rule decides on; undefined for chains that others jump to. */
  readonly policy: "accept" | "drop" | undefined;
}

/** All chains of a family. */
export function chainList(nl: NetlinkSocket, family: TableFamily): ListedChain[] {
  return nl.dump(nftMessage({ family, name: "" }, "getChain", "list chains", () => {})).map(listedChain);
}

/** One chain, however many others there are; undefined where it or its table is missing. */
export function chainGet(nl: NetlinkSocket, table: TableName, chain: string): ListedChain | undefined {
  const request = nftMessage(table, "getChain", `get chain ${named(table)} ${chain}`, (body) =>
    body.string(1, table.name).string(3, chain),
  );
  try {
    return nl.request(request).map(listedChain)[0];
  } catch (error) {
    if (isErrno(error, ENOENT)) return undefined;
    throw error;
  }
}

/** Reads a message about a chain; throws AttributeError. */
export function listedChain({ body }: Pick<Message, "body">): ListedChain {
  const attributes = tableAttributes(body);
  const policy = attributes.get(5)?.u32be;
  return {
    table: attributes.need(1).string,
    name: attributes.need(3).string,
    policy: policy === undefined ? undefined : policy === 0 ? "drop" : "accept",
  };
}

/** A rule of anybody's: its number, and the chain that it ends with a jump to, if it does. */
export interface ListedRule {
  readonly handle: bigint;
  readonly jump: string | undefined;
  /** What it says, as the kernel has it: its expressions, and what a program has noted beside. */
  readonly content: Uint8Array;
}

/** The rules of a chain, in order. */
export function ruleList(nl: NetlinkSocket, table: TableName, chain: string): ListedRule[] {
  return nl
    .dump(
      nftMessage(table, "getRule", `list rules ${named(table)} ${chain}`, (body) =>
        body.string(1, table.name).string(2, chain),
      ),
    )
    .map(listedRule);
}

/** Reads a message about a rule; throws AttributeError. */
export function listedRule({ body }: Pick<Message, "body">): ListedRule {
  const attributes = tableAttributes(body);
  return { handle: attributes.need(3).u64be, jump: jumpOf(attributes.get(4)?.nested), content: body };
}

/** Where a rule jumps to: in its last expression, { name, data: { register, value: { verdict: { code, chain } } } }. */
function jumpOf(expressions: Attributes | undefined): string | undefined {
  const expression = expressions?.list.at(-1)?.nested;
  if (expression?.get(1)?.string !== "immediate") return undefined;
  const value = expression.get(2)?.nested.get(2)?.nested.get(2)?.nested;
  return value?.get(2)?.string;
}
