// Tables of iptables-legacy in the kernel's format (linux/netfilter_ipv4/ip_tables.h, linux/netfilter/x_tables.h): the rules of
// each hook and its policy, then user-defined chains; a jump has the offset of its chain.
import { type Cidr, ipv4Octets, subnetOf } from "../../address/ipv4.ts";
import { viewOf } from "../../bytes/view.ts";

export const NAME = 32;
/** Bytes of struct ipt_getinfo. */
export const INFO = 84;
const HOOKS = 5;
export const REPLACE_HEADER = 96;

/** Byte offsets in struct ipt_entry, and its length without matches and target. */
const ENTRY = {
  destination: 4,
  mask: 12,
  inLink: 16,
  outLink: 32,
  inMask: 48,
  outMask: 64,
  /** Everything before this selects packets. */
  cache: 84,
  target: 88,
  next: 90,
  comesFrom: 92,
  counters: 96,
  length: 112,
};
const LINK_NAME = 16;
/** Byte offsets in struct xt_entry_target; the nameless one has a verdict, or the offset to jump to. */
const TARGET = { name: 2, nameLength: 29, verdict: 32, standard: 40, error: 64 };
const ERROR = "ERROR";
/** Verdicts are negative: -NF_DROP - 1 and so on; XT_RETURN is -NF_REPEAT - 1. */
const ACCEPT = -2;
const DROP = -1;
const RETURN = -5;

/** A match of packets by links and by the subnet of the destination. */
export interface IptablesMatch {
  readonly inLink?: string;
  readonly outLink?: string;
  readonly destination?: Cidr;
}

/** A malformed table from the kernel. */
export class IptablesError extends Error {
  override readonly name = "IptablesError";
  constructor(what: string) {
    super(`iptables: ${what}`);
  }
}

/** A rule as the kernel has it; `jump` is the chain that it jumps to. */
export interface LegacyRule {
  readonly bytes: Uint8Array;
  readonly jump: string | undefined;
}

export interface LegacyChain {
  readonly name: string;
  rules: LegacyRule[];
}

/** A table; its built-in chains are PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING. */
export interface LegacyTable {
  readonly name: string;
  readonly hooks: (LegacyChain & { readonly hook: number; readonly policy: Uint8Array })[];
  chains: LegacyChain[];
  /** Number of entries when it was read. */
  readonly entries: number;
}

const HOOK_NAMES = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/** Whether the policy of a built-in chain is to drop. */
export function dropsByPolicy({ policy }: LegacyTable["hooks"][number]): boolean {
  return verdictOf(policy) === DROP;
}

/** Whether a rule drops or rejects every packet. */
export function dropsAll({ bytes }: LegacyRule): boolean {
  if (targetAt(bytes) !== ENTRY.length || bytes.subarray(0, ENTRY.cache).some((byte) => byte !== 0))
    return false;
  return targetName(bytes) === "REJECT" || verdictOf(bytes) === DROP;
}

/** Return a rule as text, without counters and its place in the table. */
export function legacyRuleText({ bytes, jump }: LegacyRule): string {
  const copy = bytes.slice();
  copy.fill(0, ENTRY.cache, ENTRY.target);
  copy.fill(0, ENTRY.comesFrom, ENTRY.length);
  if (jump !== undefined) copy.fill(0, targetAt(copy) + TARGET.verdict);
  return `${Buffer.from(copy).toString("hex")} ${jump ?? ""}`.trimEnd();
}

/** Return a rule that accepts, or jumps. */
export function legacyRule(match: IptablesMatch, jump?: string): LegacyRule {
  const bytes = entry("", TARGET.standard);
  const link = (name: string | undefined, at: number, mask: number) => {
    if (name === undefined) return;
    putText(bytes, at, name);
    bytes.fill(0xff, mask, mask + name.length + 1);
  };
  link(match.inLink, ENTRY.inLink, ENTRY.inMask);
  link(match.outLink, ENTRY.outLink, ENTRY.outMask);
  if (match.destination) {
    const { prefix } = match.destination;
    bytes.set(ipv4Octets(subnetOf(match.destination).address), ENTRY.destination);
    bytes.set(ipv4Octets(prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0), ENTRY.mask);
  }
  viewOf(bytes).setInt32(ENTRY.length + TARGET.verdict, ACCEPT, true);
  return { bytes, jump };
}

/** Return the links that a rule matches, in and out; "" for any. */
export function linksOf({ bytes }: LegacyRule): string[] {
  return [textAt(bytes, ENTRY.inLink, LINK_NAME), textAt(bytes, ENTRY.outLink, LINK_NAME)];
}

/** Set all counters of a table to 0. Throws as decodeTable(). */
export function clearCounters(blob: Uint8Array): void {
  for (const { bytes } of entriesOf(blob)) bytes.fill(0, ENTRY.counters, ENTRY.length);
}

/** Split a table into entries with their offsets; throws IptablesError where one is cut or malformed. */
function entriesOf(blob: Uint8Array): { at: number; bytes: Uint8Array }[] {
  const all: { at: number; bytes: Uint8Array }[] = [];
  for (let at = 0; at < blob.length; ) {
    const length = uint16(blob, at + ENTRY.next);
    const bytes = blob.subarray(at, at + length);
    if (length < ENTRY.length || length > bytes.length || !hasTarget(bytes))
      throw new IptablesError(`the entry at byte ${at} of a table of ${blob.length} is cut or malformed`);
    all.push({ at, bytes });
    at += length;
  }
  return all;
}

function hasTarget(bytes: Uint8Array): boolean {
  const target = targetAt(bytes);
  if (target < ENTRY.length || target + TARGET.verdict > bytes.length) return false;
  const name = targetName(bytes);
  const length = name === ERROR ? TARGET.error : name === "" ? TARGET.verdict + 4 : TARGET.verdict;
  return target + length <= bytes.length;
}

/** Decode a table; `info` is struct ipt_getinfo. Throws IptablesError. */
export function decodeTable(info: Uint8Array, blob: Uint8Array): LegacyTable {
  if (info.length < INFO) throw new IptablesError(`information about a table of ${info.length} bytes`);
  const data = viewOf(info);
  const valid = data.getUint32(NAME, true);
  const starts = new Map<number, { hook: number; end: number }>();
  for (let hook = 0; hook < HOOKS; hook++) {
    if ((valid & (1 << hook)) === 0) continue;
    const at = NAME + 4 + 4 * hook;
    starts.set(data.getUint32(at, true), { hook, end: data.getUint32(at + 4 * HOOKS, true) });
  }
  const all = entriesOf(blob);
  // Offsets of chains first: rules before them jump there.
  const names = new Map<number, string>();
  for (const { at, bytes } of all) {
    const name = chainName(bytes);
    if (name !== undefined) names.set(at + bytes.length, name);
  }
  const table: LegacyTable = { name: textAt(info, 0, NAME), hooks: [], chains: [], entries: all.length };
  let rules: LegacyRule[] = [];
  let end = -1;
  for (const { at, bytes } of all) {
    const begins = starts.get(at);
    const chain = chainName(bytes);
    if (begins) {
      rules = [];
      end = begins.end;
      table.hooks.push({
        name: HOOK_NAMES[begins.hook] ?? "",
        hook: begins.hook,
        rules,
        policy: new Uint8Array(),
      });
    }
    if (chain !== undefined) {
      rules = [];
      end = -1;
      if (chain !== ERROR || at + bytes.length < blob.length) table.chains.push({ name: chain, rules });
      continue;
    }
    const last = table.hooks.at(-1);
    if (at === end && last) {
      table.hooks[table.hooks.length - 1] = { ...last, policy: bytes };
      continue;
    }
    const distance = verdictOf(bytes);
    rules.push({ bytes, jump: distance !== undefined && distance >= 0 ? names.get(distance) : undefined });
  }
  for (const { name, policy } of table.hooks)
    if (policy.length === 0) throw new IptablesError(`chain ${name} has no end`);
  // Each chain ends with a return of its own.
  for (const chain of table.chains) chain.rules.pop();
  return table;
}

/** Encode a table: struct ipt_replace without the counters, and the entries. */
export function encodeTable({ name, hooks, chains }: LegacyTable): {
  header: Uint8Array;
  entries: Uint8Array;
} {
  const parts: { bytes: Uint8Array; jump?: string | undefined }[] = [];
  let length = 0;
  const put = (bytes: Uint8Array, jump?: string) => {
    parts.push({ bytes: bytes.slice(), jump });
    length += bytes.length;
  };
  const header = new Uint8Array(REPLACE_HEADER);
  const data = viewOf(header);
  putText(header, 0, name);
  for (const { hook, rules, policy } of hooks) {
    data.setUint32(NAME, data.getUint32(NAME, true) | (1 << hook), true);
    data.setUint32(NAME + 12 + 4 * hook, length, true);
    for (const { bytes, jump } of rules) put(bytes, jump);
    data.setUint32(NAME + 12 + 4 * (HOOKS + hook), length, true);
    put(policy);
  }
  const starts = new Map<string, number>();
  for (const chain of chains) {
    put(errorEntry(chain.name));
    starts.set(chain.name, length);
    for (const { bytes, jump } of chain.rules) put(bytes, jump);
    const back = entry("", TARGET.standard);
    viewOf(back).setInt32(ENTRY.length + TARGET.verdict, RETURN, true);
    put(back);
  }
  put(errorEntry(ERROR));
  for (const { bytes, jump } of parts) {
    const start = jump === undefined ? undefined : starts.get(jump);
    if (start !== undefined) viewOf(bytes).setInt32(targetAt(bytes) + TARGET.verdict, start, true);
  }
  data.setUint32(NAME + 4, parts.length, true);
  data.setUint32(NAME + 8, length, true);
  return { header, entries: new Uint8Array(Buffer.concat(parts.map(({ bytes }) => bytes))) };
}

const targetAt = (bytes: Uint8Array) => uint16(bytes, ENTRY.target);
// Without a DataView for each of thousands of entries.
const int32 = (bytes: Uint8Array, at: number) => uint16(bytes, at) | (uint16(bytes, at + 2) << 16);
const uint16 = (bytes: Uint8Array, at: number) => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
const targetName = (bytes: Uint8Array) => textAt(bytes, targetAt(bytes) + TARGET.name, TARGET.nameLength);

/** Return the name of the chain that begins behind an entry; undefined where none does. */
function chainName(bytes: Uint8Array): string | undefined {
  return targetName(bytes) === ERROR ? textAt(bytes, targetAt(bytes) + TARGET.verdict, NAME) : undefined;
}

/** Return the verdict, or offset to jump to, of the nameless target; undefined for others. */
function verdictOf(bytes: Uint8Array): number | undefined {
  return targetName(bytes) === "" ? int32(bytes, targetAt(bytes) + TARGET.verdict) : undefined;
}

/** Return an entry that matches all packets, with an empty target of that length. */
function entry(target: string, length: number): Uint8Array {
  const bytes = new Uint8Array(ENTRY.length + length);
  const data = viewOf(bytes);
  data.setUint16(ENTRY.target, ENTRY.length, true);
  data.setUint16(ENTRY.next, bytes.length, true);
  data.setUint16(ENTRY.length, length, true);
  putText(bytes, ENTRY.length + TARGET.name, target);
  return bytes;
}

function errorEntry(name: string): Uint8Array {
  const bytes = entry(ERROR, TARGET.error);
  putText(bytes, ENTRY.length + TARGET.verdict, name);
  return bytes;
}

// A character for each byte, whatever it is: names of others' chains are written back as they were.
export function putText(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
}

function textAt(bytes: Uint8Array, at: number, length: number): string {
  // Most targets have no name, and a table may have thousands of them.
  if (bytes[at] === 0) return "";
  const part = bytes.subarray(at, at + length);
  const end = part.indexOf(0);
  return String.fromCharCode(...(end < 0 ? part : part.subarray(0, end)));
}
