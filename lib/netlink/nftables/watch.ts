// Notifications of changes of nftables (NFNLGRP_NFTABLES), for keepers of tables that others may touch. The kernel sends one for
// each object that a transaction touches, and at its end one with the process. Some programs (kube-proxy) write thousands of
// rules a second: of a message only the name of its table is read.
import { printable } from "../../log/printable.ts";
import type { Watch } from "../../sys/readable.ts";
import { listen, type MessageListener } from "../listen.ts";
import type { Message } from "../message.ts";
import { NFGENMSG, NFNL_SUBSYS_NFTABLES, NFPROTO } from "../nfnetlink.ts";
import { NETLINK_NETFILTER, openNetlink } from "../socket.ts";
import { NFTA_CHAIN_NAME } from "./chain.ts";
import { NFT_MSG, NFTA_TABLE, nftAttributes, type TableName } from "./message.ts";
import { NFTA_RULE_CHAIN } from "./rule.ts";

/** enum nfnetlink_groups */
const NFNLGRP_NFTABLES = 7;
/** enum nft_gen_attributes */
const NFTA_GEN_PROC_PID = 2;
const NFTA_GEN_PROC_NAME = 3;

/** Where the name of the table is in all messages about one: behind the header of the first attribute. */
const NAME_AT = NFGENMSG + 4;

/** A process that changed tables. */
export interface Writer {
  readonly pid: number;
  readonly name: string;
}

/** A table to watch; of others' tables, the chains that matter. */
export interface WatchedTable extends TableName {
  readonly chains?: readonly string[];
}

/** The attribute with the name of a chain, by message. */
const CHAIN_NAME: ReadonlyMap<number, number> = new Map([
  [NFT_MSG.NEWCHAIN, NFTA_CHAIN_NAME],
  [NFT_MSG.DELCHAIN, NFTA_CHAIN_NAME],
  [NFT_MSG.NEWRULE, NFTA_RULE_CHAIN],
  [NFT_MSG.DELRULE, NFTA_RULE_CHAIN],
]);

export interface TablesListener {
  /** A transaction of another process has touched a table. */
  changed(table: TableName, by: Writer | undefined): void;
  /** Messages were lost: anything may have changed. */
  lost(): void;
  /** The watch has failed, and begins again. */
  failed(error: Error): void;
}

/** Watch tables of the namespace that this thread is in now, but for changes by sockets with these netlink ports. */
export function watchTables(
  tables: readonly WatchedTable[],
  ports: () => ReadonlySet<number>,
  listener: TablesListener,
): Watch {
  const open = () => openNetlink("nftables monitor", NETLINK_NETFILTER, [NFNLGRP_NFTABLES]);
  return listen(open, readTransactions(tables, ports, listener));
}

/** Return what reads the messages of transactions in turn; see watchTables(). */
export function readTransactions(
  tables: readonly WatchedTable[],
  ports: () => ReadonlySet<number>,
  listener: TablesListener,
): MessageListener {
  const find = finder(tables);
  const touched = new Set<WatchedTable>();
  return {
    message(message) {
      if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES) return;
      if ((message.type & 255) === NFT_MSG.NEWGEN) {
        if (touched.size === 0) return;
        const by = writerOf(message);
        for (const table of touched) listener.changed(table, by);
        return touched.clear();
      }
      const table = find(message.body);
      if (table && isAbout(table, message) && !ports().has(message.port)) touched.add(table);
    },
    lost() {
      touched.clear();
      listener.lost();
    },
    failed: (error) => listener.failed(error),
  };
}

/** Whether a message about a table concerns us: kube-proxy writes other chains of iptables all the time. */
function isAbout({ chains }: WatchedTable, { type, body }: Message): boolean {
  if (!chains) return true;
  const kind = type & 255;
  if (kind === NFT_MSG.NEWTABLE || kind === NFT_MSG.DELTABLE) return true;
  const attribute = CHAIN_NAME.get(kind);
  const name = attribute === undefined ? undefined : nftAttributes(body).get(attribute)?.string;
  return name !== undefined && chains.includes(name);
}

/** Return the process that made a new generation of rules; undefined where the kernel does not tell. */
function writerOf({ body }: Message): Writer | undefined {
  const attributes = nftAttributes(body);
  const [pid, name] = [attributes.get(NFTA_GEN_PROC_PID)?.u32be, attributes.get(NFTA_GEN_PROC_NAME)?.string];
  return pid === undefined || name === undefined ? undefined : { pid, name: printable(name) };
}

/** Return what finds the table that a message is about, by its first bytes. */
function finder(tables: readonly WatchedTable[]): (body: Uint8Array) => WatchedTable | undefined {
  const known = tables.map((table) => {
    return { table, family: NFPROTO[table.family], name: new TextEncoder().encode(`${table.name}\0`) };
  });
  return (body) => {
    if (body[NFGENMSG + 2] !== NFTA_TABLE) return undefined;
    const isNamed = (name: Uint8Array) => name.every((byte, i) => body[NAME_AT + i] === byte);
    return known.find(({ family, name }) => body[0] === family && isNamed(name))?.table;
  };
}
