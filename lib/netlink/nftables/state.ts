// The state of a table: as our messages make it, as the kernel has it, and the difference. Both sides are read from messages by
// the same decoders, so that nothing can be encoded in one way and compared in another.
import type { NetlinkSocket, Request } from "../socket.ts";
import { chainGet, decodeChain } from "./chain.ts";
import { elementTexts, NFTA_SET_ELEM_LIST_SET } from "./element.ts";
import { ifPresent, NFT_MSG, named, nftAttributes, type TableName, tableMessage } from "./message.ts";
import { NFTA_RULE_CHAIN, ruleContent, ruleList, ruleText } from "./rule.ts";
import { definitionText, NFTA_SET_NAME } from "./set.ts";
import { tableGet } from "./table.ts";

interface ChainState {
  /** Its hook in the words of nft; "" for chains that others jump to. */
  readonly hook: string;
  /** Expressions, a line each, by rule. */
  readonly rules: readonly string[];
}

interface SetState {
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

/** Return what these messages put into an empty table; throws AttributeError. */
export function stateOf(requests: readonly Request[]): TableState {
  const chains = new Map<string, { hook: string; rules: string[] }>();
  const sets = new Map<string, { definition: string; elements: string[] }>();
  for (const request of requests) {
    const attributes = nftAttributes(request.body);
    const name = (type: number) => attributes.need(type).string;
    switch (request.type & 255) {
      case NFT_MSG.NEWCHAIN: {
        const chain = decodeChain(request);
        chains.set(chain.name, { hook: chain.hook, rules: [] });
        break;
      }
      case NFT_MSG.NEWRULE:
        chains.get(name(NFTA_RULE_CHAIN))?.rules.push(ruleText(ruleContent(attributes)));
        break;
      case NFT_MSG.NEWSET:
        sets.set(name(NFTA_SET_NAME), { definition: definitionText(attributes), elements: [] });
        break;
      case NFT_MSG.NEWSETELEM:
        sets.get(name(NFTA_SET_ELEM_LIST_SET))?.elements.push(...elementTexts(attributes));
        break;
    }
  }
  for (const { elements } of sets.values()) elements.sort();
  return { dormant: false, foreign: false, chains, sets };
}

/**
 * Read what the kernel has of a table, of the chains and sets that `wanted` has; undefined where there is no such table.
 * Others are counted only: a dump of chains would have those of all tables. Throws NetlinkError, AttributeError.
 */
export function readTable(nl: NetlinkSocket, table: TableName, wanted: TableState): TableState | undefined {
  const own = tableGet(nl, table);
  if (!own) return undefined;
  const chains = new Map<string, ChainState>();
  for (const name of wanted.chains.keys()) {
    const chain = chainGet(nl, table, name);
    if (chain) chains.set(name, { hook: chain.hook, rules: ruleList(nl, table, name).map(ruleText) });
  }
  const sets = new Map<string, SetState>();
  for (const name of wanted.sets.keys()) {
    const set = readSet(nl, table, name);
    if (set) sets.set(name, set);
  }
  return { dormant: own.dormant, foreign: own.objects !== chains.size + sets.size, chains, sets };
}

function readSet(nl: NetlinkSocket, table: TableName, name: string): SetState | undefined {
  const which = `${named(table)} ${name}`;
  const get = tableMessage(table, "GETSET", `get set ${which}`, (body) => body.string(NFTA_SET_NAME, name));
  const set = ifPresent(() => nl.request(get)[0]);
  if (!set) return undefined;
  const list = tableMessage(table, "GETSETELEM", `list elements ${which}`, (body) =>
    body.string(NFTA_SET_ELEM_LIST_SET, name),
  );
  const elements = ifPresent(() => nl.dump(list)) ?? [];
  return {
    definition: definitionText(nftAttributes(set.body)),
    elements: elements.flatMap(({ body }) => elementTexts(nftAttributes(body))).sort(),
  };
}

/** Return what is wrong with a table, in words. */
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

/** Return how rules differ, in words; undefined where they are the same. */
export function rulesDifference(wanted: readonly string[], found: readonly string[]): string | undefined {
  if (wanted.length !== found.length) return `${found.length} of ${wanted.length} rules`;
  return wanted.every((rule, i) => rule === found[i]) ? undefined : "changed rules";
}
