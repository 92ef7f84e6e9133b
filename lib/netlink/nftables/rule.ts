// Rules of nftables (linux/netfilter/nf_tables.h: enum nft_rule_attributes).
import type { Attributes } from "../attributes.ts";
import { type Message, NLM_F_APPEND } from "../message.ts";
import type { NFPROTO } from "../nfnetlink.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { hex } from "./expr/data.ts";
import {
  type DecodedExpression,
  decodeExpressions,
  type Expression,
  encodeExpressions,
} from "./expr/expression.ts";
import { jumpTarget } from "./expr/immediate.ts";
import { expressionTexts } from "./expr/text.ts";
import { NFTA_TABLE, named, nftAttributes, nftMessage, type TableName, tableMessage } from "./message.ts";

export const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_HANDLE = 3;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_RULE_USERDATA = 7;

/** Type of the comment in a rule's user data (libnftnl: udata.h). */
const NFTNL_UDATA_RULE_COMMENT = 0;
/** Characters of a comment that are kept. */
const MAX_COMMENT = 256;

export type Rule = readonly Expression[];

/** Append a rule to a chain. */
export function addRule(table: TableName, chain: string, rule: Rule): Request {
  return tableMessage(table, "NEWRULE", `add rule ${named(table)} ${chain}`, (body) =>
    body
      .string(NFTA_RULE_CHAIN, chain)
      .nested(NFTA_RULE_EXPRESSIONS, (list) => encodeExpressions(list, rule)),
  );
}

/** Put a rule before all others of a chain. */
export function insertRule(table: TableName, chain: string, rule: Rule): Request {
  const request = addRule(table, chain, rule);
  return { ...request, flags: (request.flags ?? 0) & ~NLM_F_APPEND };
}

/** Delete one rule, by the number that the kernel has given it. */
export function deleteRule(table: TableName, chain: string, handle: bigint): Request {
  return tableMessage(table, "DELRULE", `delete rule ${named(table)} ${chain}`, (body) =>
    body.string(NFTA_RULE_CHAIN, chain).u64be(NFTA_RULE_HANDLE, handle),
  );
}

/** Delete all rules of a chain. */
export function flushChain(table: TableName, chain: string): Request {
  return tableMessage(table, "DELRULE", `flush chain ${named(table)} ${chain}`, (body) =>
    body.string(NFTA_RULE_CHAIN, chain),
  );
}

/** What a rule says. */
export interface RuleContent {
  readonly expressions: readonly DecodedExpression[];
  /** Its comment and other notes of the program that made it. */
  readonly userData: Uint8Array | undefined;
}

/** A rule of any program. */
export interface ListedRule extends RuleContent {
  /** Its number. */
  readonly handle: bigint;
  /** The chain that it ends with a jump to, if it does. */
  readonly jump: string | undefined;
  /** The message, to look for texts in. */
  readonly content: Uint8Array;
}

/** Return the rules of a chain, in order. */
export function ruleList(nl: NetlinkSocket, table: TableName, chain: string): ListedRule[] {
  const request = tableMessage(table, "GETRULE", `list rules ${named(table)} ${chain}`, (body) =>
    body.string(NFTA_RULE_CHAIN, chain),
  );
  return nl.dump(request).map(decodeRule);
}

/** Read a message about a rule; throws AttributeError. */
export function decodeRule({ body }: Pick<Message, "body">): ListedRule {
  const attributes = nftAttributes(body);
  const content = ruleContent(attributes);
  const last = content.expressions.at(-1);
  return {
    ...content,
    handle: attributes.need(NFTA_RULE_HANDLE).u64be,
    jump: last && jumpTarget(last),
    content: body,
  };
}

/** Read what a rule says; throws AttributeError. */
export function ruleContent(rule: Attributes): RuleContent {
  return {
    expressions: decodeExpressions(rule.get(NFTA_RULE_EXPRESSIONS)?.nested),
    userData: rule.get(NFTA_RULE_USERDATA)?.payload,
  };
}

/** Return what a rule says as text to be compared; throws AttributeError. */
export function ruleText({ expressions, userData }: RuleContent): string {
  const comment = userData?.length ? [`comment ${hex(userData)}`] : [];
  return [...expressionTexts(expressions), ...comment].join("\n");
}

/** Return the comment of a rule of any family; undefined where it has none, or is gone. */
export function ruleComment(
  nl: NetlinkSocket,
  family: keyof typeof NFPROTO,
  table: string,
  chain: string,
  handle: bigint,
): string | undefined {
  const request = nftMessage(family, "GETRULE", `get rule ${table} ${chain}`, (body) =>
    body.string(NFTA_TABLE, table).string(NFTA_RULE_CHAIN, chain).u64be(NFTA_RULE_HANDLE, handle),
  );
  try {
    const [rule] = nl.request(request);
    const { userData } = rule ? ruleContent(nftAttributes(rule.body)) : {};
    return userData && commentIn(userData);
  } catch {
    return undefined;
  }
}

/** Return the comment in user data: attributes of type, length, value, a byte each for the first two. */
export function commentIn(data: Uint8Array): string | undefined {
  for (let at = 0; at + 2 <= data.length; ) {
    const [type = 0, length = 0] = data.subarray(at, at + 2);
    const value = data.subarray(at + 2, at + 2 + length);
    if (type === NFTNL_UDATA_RULE_COMMENT && value.length === length)
      return new TextDecoder().decode(value).replace(/\0.*$/s, "").slice(0, MAX_COMMENT);
    at += 2 + length;
  }
  return undefined;
}
