// Tables of nftables (linux/netfilter/nf_tables.h: enum nft_table_attributes).
import type { NetlinkSocket, Request } from "../socket.ts";
import {
  commit,
  ifPresent,
  nftAttributes,
  nftMessage,
  type TableFamily,
  type TableName,
  tableMessage,
} from "./message.ts";

const NFTA_TABLE_NAME = 1;
const NFTA_TABLE_FLAGS = 2;
const NFTA_TABLE_USE = 3;

/** enum nft_table_flags: its rules are switched off; it goes with the socket that made it (Linux 5.12). */
const NFT_TABLE_F_DORMANT = 1;
export const NFT_TABLE_F_OWNER = 2;

export function addTable(table: TableName, flags = 0): Request {
  return tableMessage(table, "NEWTABLE", `add table ${table.family} ${table.name}`, (body) =>
    body.u32be(NFTA_TABLE_FLAGS, flags),
  );
}

export function deleteTable(table: TableName): Request {
  return tableMessage(table, "DELTABLE", `delete table ${table.family} ${table.name}`);
}

/** Return what puts an empty table in place of the one of that name, if there is one. */
export function renewTable(table: TableName): Request[] {
  // Deleting needs it to exist; adding an existing one changes nothing.
  return [addTable(table), deleteTable(table), addTable(table)];
}

/** Remove a table; false if there was none. */
export function tableDelete(nl: NetlinkSocket, table: TableName): boolean {
  return (
    ifPresent(() => {
      commit(nl, [deleteTable(table)]);
      return true;
    }) ?? false
  );
}

/** Return the names of all tables of a family. */
export function tableList(nl: NetlinkSocket, family: TableFamily): string[] {
  return nl
    .dump(nftMessage(family, "GETTABLE", "list tables"))
    .map(({ body }) => nftAttributes(body).need(NFTA_TABLE_NAME).string);
}

/** Whether a table exists; false, too, where the kernel has no nftables. */
export function hasTable(nl: NetlinkSocket, { family, name }: TableName): boolean {
  try {
    return tableList(nl, family).includes(name);
  } catch {
    return false;
  }
}

/** A table as the kernel has it. */
export interface FoundTable {
  /** Its rules are switched off. */
  readonly dormant: boolean;
  /** Only the socket that has made it may change it. */
  readonly owned: boolean;
  /** Number of its chains, sets and other objects. */
  readonly objects: number;
}

/** Read a table; undefined where there is none. Throws NetlinkError, AttributeError. */
export function tableGet(nl: NetlinkSocket, table: TableName): FoundTable | undefined {
  const request = tableMessage(table, "GETTABLE", `get table ${table.family} ${table.name}`);
  const answer = ifPresent(() => nl.request(request)[0]);
  if (!answer) return undefined;
  const attributes = nftAttributes(answer.body);
  const flags = attributes.get(NFTA_TABLE_FLAGS)?.u32be ?? 0;
  return {
    dormant: (flags & NFT_TABLE_F_DORMANT) !== 0,
    owned: (flags & NFT_TABLE_F_OWNER) !== 0,
    objects: attributes.need(NFTA_TABLE_USE).u32be,
  };
}
