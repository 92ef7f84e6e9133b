// A table as a whole: what messages make of it, what the kernel has of it, and how the two differ. Both sides are read from
// messages by the same decoders, so that nothing can be encoded in one way and compared in another.
import { ENOENT, isErrno } from "../../sys/errno.ts";
import type { Attributes } from "../attributes.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { dataText, expressionTexts } from "./canonical.ts";
import { HOOK, NFT_MSG, named, nftMessage, type TableName, tableAttributes } from "./table.ts";

const DORMANT = 1;
/** NFT_CHAIN_BASE, which the kernel sets. */
const BASE = 1;
const INTERVAL_END = 1;

export interface ChainState {
  /** Its hook in the words of nft; "" for chains that others jump to. */
  readonly hook: string;
  /** Expressions, a line each, by rule. */
  readonly rules: readonly string[];
}

export interface SetState {
  readonly definition: string;
  readonly elements: readonly string[];
}

export interface TableState {
  /** Its rules are switched off. */
  readonly dormant: boolean;
  /** It has other chains, sets or objects than those below. */
  readonly foreign: boolean;
  readonly chains: ReadonlyMap<string, ChainState>;
  readonly sets: ReadonlyMap<string, SetState>;
}

const NAMES = new Map<number, string>(Object.entries(HOOK).map(([name, number]) => [number, name]));

function hookText(chain: Attributes): string {
  const hook = chain.get(4)?.nested;
  if (!hook) return "";
  const number = hook.need(1).u32be;
  const flags = (chain.get(10)?.u32be ?? 0) & ~BASE;
  const policy = chain.get(5)?.u32be === 0 ? "drop" : "accept";
  const text = `type ${chain.need(7).string} hook ${NAMES.get(number) ?? number} priority ${hook.need(2).u32be | 0} policy ${policy}`;
  return flags === 0 ? text : `${text} flags ${flags}`;
}

/** What a rule says. */
export function ruleText(rule: Attributes): string {
  const comment = rule.get(7)?.payload;
  const lines = expressionTexts(rule.get(4)?.nested);
  return [...lines, ...(comment?.length ? [`comment ${Buffer.from(comment).toString("hex")}`] : [])].join(
    "\n",
  );
}

function definitionText(set: Attributes): string {
  const number = (type: number) => set.get(type)?.u32be ?? 0;
  return `flags ${number(3)} key ${number(4)} of ${number(5)} bytes, data ${number(6)}`;
}

function elementTexts(list: Attributes | undefined): string[] {
  return (list?.list ?? []).map(({ nested }) => {
    const [key, end, data] = [nested.get(1), nested.get(10), nested.get(2)];
    const flags = (nested.get(3)?.u32be ?? 0) & INTERVAL_END;
    return `${flags ? "end " : ""}${key ? dataText(key) : ""}${end ? `-${dataText(end)}` : ""}${data ? ` ${dataText(data)}` : ""}`;
  });
}

/** What these messages put into an empty table. */
export function stateOf(requests: readonly Request[]): TableState {
  const chains = new Map<string, { hook: string; rules: string[] }>();
  const sets = new Map<string, { definition: string; elements: string[] }>();
  for (const { type, body } of requests) {
    const attributes = tableAttributes(body);
    const name = (at: number) => attributes.need(at).string;
    switch (type & 255) {
      case NFT_MSG.newChain:
        chains.set(name(3), { hook: hookText(attributes), rules: [] });
        break;
      case NFT_MSG.newRule:
        chains.get(name(2))?.rules.push(ruleText(attributes));
        break;
      case NFT_MSG.newSet:
        sets.set(name(2), { definition: definitionText(attributes), elements: [] });
        break;
      case NFT_MSG.newSetElem:
        sets.get(name(2))?.elements.push(...elementTexts(attributes.get(3)?.nested));
        break;
    }
  }
  for (const { elements } of sets.values()) elements.sort();
  return { dormant: false, foreign: false, chains, sets };
}

/**
 * What the kernel has of a table, of the chains and sets that `wanted` has; undefined where there is no such table. Others
 * are counted only: a dump of chains would have those of all tables.
 */
export function readTable(nl: NetlinkSocket, table: TableName, wanted: TableState): TableState | undefined {
  const get = (type: "getTable" | "getChain" | "getSet", what: string, attribute: number, name = "") => {
    const request = nftMessage(table, type, `get ${what} ${named(table)} ${name}`, (body) => {
      body.string(1, table.name);
      if (name !== "") body.string(attribute, name);
    });
    return orNothing(() => nl.request(request)[0]);
  };
  const dump = (type: "getRule" | "getSetElem", what: string, name: string) =>
    nl.dump(
      nftMessage(table, type, `list ${what} ${named(table)} ${name}`, (body) =>
        body.string(1, table.name).string(2, name),
      ),
    );
  const own = get("getTable", "table", 0);
  if (!own) return undefined;
  const attributes = tableAttributes(own.body);
  const chains = new Map<string, ChainState>();
  for (const name of wanted.chains.keys()) {
    const chain = get("getChain", "chain", 3, name);
    if (!chain) continue;
    const rules = dump("getRule", "rules", name).map(({ body }) => ruleText(tableAttributes(body)));
    chains.set(name, { hook: hookText(tableAttributes(chain.body)), rules });
  }
  const sets = new Map<string, SetState>();
  for (const name of wanted.sets.keys()) {
    const set = get("getSet", "set", 2, name);
    if (!set) continue;
    const elements = orNothing(() => dump("getSetElem", "elements", name)) ?? [];
    sets.set(name, {
      definition: definitionText(tableAttributes(set.body)),
      elements: elements.flatMap(({ body }) => elementTexts(tableAttributes(body).get(3)?.nested)).sort(),
    });
  }
  return {
    dormant: ((attributes.get(2)?.u32be ?? 0) & DORMANT) !== 0,
    foreign: attributes.need(3).u32be !== chains.size + sets.size,
    chains,
    sets,
  };
}

/** Undefined where the kernel has no such thing, any more. */
function orNothing<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch (error) {
    if (isErrno(error, ENOENT)) return undefined;
    throw error;
  }
}

/** What is wrong with a table, in words; nothing where it is as wanted. */
export function tableDifference(wanted: TableState, found: TableState | undefined): string[] {
  if (!found) return ["missing"];
  const wrong = found.dormant ? ["dormant"] : [];
  for (const [name, chain] of wanted.chains) {
    const other = found.chains.get(name);
    if (!other) wrong.push(`without chain ${name}`);
    else if (other.hook !== chain.hook) wrong.push(`with "${other.hook}" of chain ${name}`);
    const rules = other && rulesDifference(chain.rules, other.rules);
    if (rules) wrong.push(`with ${rules} in chain ${name}`);
  }
  for (const [name, set] of wanted.sets) {
    const other = found.sets.get(name);
    if (!other) wrong.push(`without set ${name}`);
    else if (other.definition !== set.definition) wrong.push(`with another set ${name}`);
    else if (other.elements.join() !== set.elements.join()) wrong.push(`with other elements in set ${name}`);
  }
  if (found.foreign) wrong.push("with foreign chains or sets");
  return wrong;
}

/** How rules differ, in words; undefined where they are the same. */
export function rulesDifference(wanted: readonly string[], found: readonly string[]): string | undefined {
  if (wanted.length !== found.length) return `${found.length} of ${wanted.length} rules`;
  return wanted.every((rule, i) => rule === found[i]) ? undefined : "changed rules";
}
