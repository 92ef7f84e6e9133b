// Messages about nftables, and transactions of them (linux/netfilter/nf_tables.h, nfnetlink.h).
import { ENOENT, unlessErrno } from "../../sys/errno.ts";
import { AttributeEncoder, type Attributes, decodeBody } from "../attributes.ts";
import { NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from "../message.ts";
import {
  NFGENMSG,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  nfgenmsg,
  nfnlType,
} from "../nfnetlink.ts";
import type { NetlinkSocket, Request } from "../socket.ts";

/** enum nf_tables_msg_types */
export const NFT_MSG = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  GETSET: 10,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  NEWGEN: 15,
  TRACE: 17,
} as const;

/** The name of the table is the first attribute of all messages about something in it: NFTA_CHAIN_TABLE and so on. */
export const NFTA_TABLE = 1;

/** Families of tables of ours. */
export type TableFamily = Extract<keyof typeof NFPROTO, "inet" | "ip" | "bridge">;

/** A table by its name. */
export interface TableName {
  readonly family: TableFamily;
  readonly name: string;
}

/** A table in the name of an operation, so that errors tell the two of one name apart. */
export function named({ family, name }: TableName): string {
  return family === "bridge" ? `${family} ${name}` : name;
}

/** Return a message about nftables; `operation` names it in errors, e.g. "add chain weave-npc base". */
export function nftMessage(
  family: keyof typeof NFPROTO,
  type: keyof typeof NFT_MSG,
  operation: string,
  fill: (body: AttributeEncoder) => void = () => {},
): Request {
  const body = new AttributeEncoder().raw(nfgenmsg(NFPROTO[family]));
  fill(body);
  const flags = type.startsWith("NEW") ? NLM_F_CREATE | (type === "NEWRULE" ? NLM_F_APPEND : 0) : 0;
  return {
    operation: `nft ${operation}`,
    type: nfnlType(NFNL_SUBSYS_NFTABLES, NFT_MSG[type]),
    flags,
    body: body.done(),
  };
}

/** Return a message about something in a table: its name is the first attribute. */
export function tableMessage(
  table: TableName,
  type: keyof typeof NFT_MSG,
  operation: string,
  fill: (body: AttributeEncoder) => void = () => {},
): Request {
  return nftMessage(table.family, type, operation, (body) => fill(body.string(NFTA_TABLE, table.name)));
}

/** Read the attributes of a message about nftables; throws AttributeError. */
export function nftAttributes(body: Uint8Array): Attributes {
  return decodeBody(body, NFGENMSG).attributes;
}

/** Apply all requests in one transaction, or none; throws NetlinkError, named by the first that was refused. */
export function commit(nl: NetlinkSocket, requests: readonly Request[]): void {
  const last = requests.at(-1);
  if (!last) return;
  const edge = nfgenmsg(0, NFNL_SUBSYS_NFTABLES);
  nl.batch([
    { operation: "nft batch begin", type: NFNL_MSG_BATCH_BEGIN, body: edge },
    ...requests.slice(0, -1),
    // Refusals are answered in any case; success is, once.
    { ...last, flags: (last.flags ?? 0) | NLM_F_ACK },
    { operation: "nft batch end", type: NFNL_MSG_BATCH_END, body: edge },
  ]);
}

/** Return what `ask` does; undefined where the kernel has no such object. */
export const ifPresent = <T>(ask: () => T) => unlessErrno([ENOENT], ask);
