// Changes of nftables as they happen (NFNLGRP_NFTABLES), so that whoever keeps a table sees when somebody else touches it. The
// kernel tells of each object that a transaction touches, and at its end of the process that it was. Some programs
// (kube-proxy) write thousands of rules a second: of a message nothing is read but the name of its table.
import { printable } from "../../log/printable.ts";
import type { Watch } from "../../sys/readable.ts";
import { listen } from "../listen.ts";
import type { Message } from "../message.ts";
import { NETLINK_NETFILTER, openNetlink } from "../socket.ts";
import { FAMILY, NFT_MSG, type TableName, tableAttributes } from "./table.ts";

const GROUP_NFTABLES = 7;
const SUBSYSTEM = 10;
const NEW_GENERATION = 15;
const PROCESS_ID = 2;
const PROCESS_NAME = 3;

/** The family header, and the header of the first attribute: the name of the table, in all messages about one. */
const FAMILY_HEADER = 4;
const NAME_AT = FAMILY_HEADER + 4;
const NAME_TYPE = 1;

/** A process that has changed tables. */
export interface Writer {
  readonly pid: number;
  readonly name: string;
}

/** A table; of others' tables, the chains that matter. */
export interface WatchedTable extends TableName {
  readonly chains?: readonly string[];
}

/** Where messages have the name of a chain. */
const CHAIN_AT: ReadonlyMap<number, number> = new Map([
  [NFT_MSG.newChain, 3],
  [NFT_MSG.delChain, 3],
  [NFT_MSG.newRule, 2],
  [NFT_MSG.delRule, 2],
]);

export interface TablesListener {
  /** A transaction of others has touched this table of ours. */
  changed(table: TableName, by: Writer | undefined): void;
  /** Messages were lost: anything may have changed. */
  lost(): void;
  /** The watch has failed, and begins again. */
  failed(error: Error): void;
}

/** Watches tables of the namespace that this thread is in now, but for what sockets of these ports change. */
export function watchTables(
  tables: readonly WatchedTable[],
  ports: () => ReadonlySet<number>,
  listener: TablesListener,
): Watch {
  const find = finder(tables);
  const touched = new Set<WatchedTable>();
  return listen(() => openNetlink("nftables monitor", NETLINK_NETFILTER, [GROUP_NFTABLES]), {
    message(message) {
      if (message.type >> 8 !== SUBSYSTEM) return;
      if ((message.type & 255) === NEW_GENERATION) {
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
  });
}

/** Whether a message about a table may concern us: kube-proxy writes other chains of iptables all the time. */
function isAbout({ chains }: WatchedTable, { type, body }: Message): boolean {
  if (!chains) return true;
  const kind = type & 255;
  if (kind === NFT_MSG.newTable || kind === NFT_MSG.delTable) return true;
  const at = CHAIN_AT.get(kind);
  const name = at === undefined ? undefined : tableAttributes(body).get(at)?.string;
  return name !== undefined && chains.includes(name);
}

/** Who has made a new generation of rules; undefined where the kernel does not tell. */
function writerOf({ body }: Message): Writer | undefined {
  const attributes = tableAttributes(body);
  const [pid, name] = [attributes.get(PROCESS_ID)?.u32be, attributes.get(PROCESS_NAME)?.string];
  return pid === undefined || name === undefined ? undefined : { pid, name: printable(name) };
}

/** Returns what finds the table that a message is about, by its first bytes. */
function finder(tables: readonly WatchedTable[]): (body: Uint8Array) => WatchedTable | undefined {
  const known = tables.map((table) => {
    return { table, family: FAMILY[table.family], name: new TextEncoder().encode(`${table.name}\0`) };
  });
  return (body) => {
    if (body[FAMILY_HEADER + 2] !== NAME_TYPE) return undefined;
    const isNamed = (name: Uint8Array) => name.every((byte, i) => body[NAME_AT + i] === byte);
    return known.find(({ family, name }) => body[0] === family && isNamed(name))?.table;
  };
}
