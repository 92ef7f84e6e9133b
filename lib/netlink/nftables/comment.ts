// The comment of a rule, as nft(8) keeps it in the rule's user data: type 0, length, text (libnftnl: udata.h).
import { AttributeEncoder, decodeAttributes } from "../attributes.ts";
import type { NetlinkSocket } from "../socket.ts";

const GET_RULE = (10 << 8) | 7;
const FAMILY: Readonly<Record<string, number>> = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 };
const ATTRIBUTE = { table: 1, chain: 2, handle: 3, userData: 7 } as const;
const COMMENT = 0;

/** The comment of a rule of any family; undefined where it has none, or is gone. */
export function ruleComment(
  nl: NetlinkSocket,
  family: string,
  table: string,
  chain: string,
  handle: bigint,
): string | undefined {
  const number = new Uint8Array(8);
  new DataView(number.buffer).setBigUint64(0, handle);
  const body = new AttributeEncoder()
    .raw(Uint8Array.of(FAMILY[family] ?? 0, 0, 0, 0))
    .string(ATTRIBUTE.table, table)
    .string(ATTRIBUTE.chain, chain)
    .bytes(ATTRIBUTE.handle, number)
    .done();
  try {
    const [rule] = nl.request({ operation: `nft get rule ${table} ${chain}`, type: GET_RULE, body });
    const data = rule && decodeAttributes(rule.body.subarray(4)).get(ATTRIBUTE.userData)?.payload;
    return data && commentIn(data);
  } catch {
    return undefined;
  }
}

/** Reads user data. */
export function commentIn(data: Uint8Array): string | undefined {
  for (let at = 0; at + 2 <= data.length; ) {
    const [type = 0, length = 0] = data.subarray(at, at + 2);
    const value = data.subarray(at + 2, at + 2 + length);
    if (type === COMMENT && value.length === length)
      return new TextDecoder().decode(value).replace(/\0.*$/s, "").slice(0, 256);
    at += 2 + length;
  }
  return undefined;
}
