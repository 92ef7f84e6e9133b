// Tables of iptables-legacy, read and replaced whole by socket options (linux/netfilter_ipv4/ip_tables.h).
import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { viewOf } from "../../bytes/view.ts";
import { KeptFile } from "../../sys/keptfile.ts";
import { AF_INET, openSocket, SOCK_RAW } from "../../sys/socket.ts";
import { syscall } from "../../sys/syscall.ts";
import { textOf } from "../../sys/textfile.ts";
import { decodeTable, encodeTable, INFO, type LegacyTable, NAME, putText, REPLACE_HEADER } from "./table.ts";

const IPPROTO_RAW = 255;
const SOL_IP = 0;
const GET_INFO = 64;
const GET_ENTRIES = 65;
const SET_REPLACE = 64;

/** Bytes of struct ipt_get_entries before its entries; of struct xt_counters. */
const ENTRIES_HEADER = 40;
const COUNTER = 16;

const NAMES = "/proc/thread-self/net/ip_tables_names";

/** Return the tables in use in this network namespace; reading another one would create it. */
export const legacyTables = (): string[] => linesOf(textOf(NAMES));

/** The same, again and again, in the network namespace of the thread that asked first. */
export class LegacyTables {
  readonly #file = new KeptFile(NAMES);

  names(): string[] {
    try {
      return linesOf(this.#file.read());
    } catch {
      // The kernel has no such tables, or not yet.
      return [];
    }
  }

  close(): void {
    this.#file.close();
  }
}

const linesOf = (text: string) => text.split("\n").filter(Boolean);

/** Read a table that is in use; throws SysError. */
export function readLegacyTable(name: string): LegacyTable {
  const { info, entries } = readLegacyEntries(name);
  return decodeTable(info, entries);
}

/** Read a table that is in use, as the kernel has it: struct ipt_getinfo, and entries with their counters. Throws SysError. */
export function readLegacyEntries(name: string): { info: Uint8Array; entries: Uint8Array } {
  const info = new Uint8Array(INFO);
  putText(info, 0, name);
  const socket = openSocket("iptables", AF_INET, SOCK_RAW, IPPROTO_RAW);
  try {
    getOption(socket, `table ${name}`, GET_INFO, info);
    const size = viewOf(info).getUint32(80, true);
    const answer = new Uint8Array(ENTRIES_HEADER + size);
    putText(answer, 0, name);
    viewOf(answer).setUint32(NAME, size, true);
    getOption(socket, `entries of table ${name}`, GET_ENTRIES, answer);
    return { info, entries: answer.subarray(ENTRIES_HEADER) };
  } finally {
    closeSync(socket);
  }
}

/** Replace a table with a changed one; throws SysError where it has changed since it was read. */
export function replaceLegacyTable(table: LegacyTable): void {
  const { header, entries } = encodeTable(table);
  // The kernel wants room for the counters of the old rules.
  const counters = new Uint8Array(table.entries * COUNTER);
  const socket = openSocket("iptables", AF_INET, SOCK_RAW, IPPROTO_RAW);
  try {
    const message = new Uint8Array(REPLACE_HEADER + entries.length);
    message.set(header);
    message.set(entries, REPLACE_HEADER);
    viewOf(message).setUint32(84, table.entries, true);
    viewOf(message).setBigUint64(88, BigInt(ptr(counters)), true);
    syscall(
      `replace table ${table.name} of iptables`,
      "setsockopt",
      socket,
      SOL_IP,
      SET_REPLACE,
      message,
      message.length,
    );
  } finally {
    closeSync(socket);
  }
}

function getOption(socket: number, what: string, option: number, buffer: Uint8Array): void {
  const length = new Uint8Array(Uint32Array.of(buffer.length).buffer);
  syscall(`read ${what} of iptables`, "getsockopt", socket, SOL_IP, option, buffer, length);
}
