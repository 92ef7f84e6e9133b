// Sets and maps of nftables (linux/netfilter/nf_tables.h: enum nft_set_attributes); what is in them is in element.ts.
import type { Attributes } from "../attributes.ts";
import type { Request } from "../socket.ts";
import { named, type TableName, tableMessage } from "./message.ts";

export const NFTA_SET_NAME = 2;
const NFTA_SET_FLAGS = 3;
const NFTA_SET_KEY_TYPE = 4;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_DATA_TYPE = 6;
const NFTA_SET_DATA_LEN = 7;
const NFTA_SET_DESC = 9;
const NFTA_SET_ID = 10;

/** enum nft_set_desc_attributes, nft_set_field_attributes */
const NFTA_SET_DESC_CONCAT = 2;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_FIELD_LEN = 1;

/** enum nft_set_flags */
const NFT_SET_INTERVAL = 4;
const NFT_SET_MAP = 8;
const NFT_SET_CONCAT = 0x80;

/** enum nft_data_types */
const NFT_DATA_VERDICT = 0xffff_ff00;

/** Parts of a key: their type as nft(8) numbers them, and their length in bytes. */
const KEY_PART = {
  ipv4: { type: 7, length: 4 },
  ipv6: { type: 8, length: 16 },
  protocol: { type: 12, length: 1 },
  port: { type: 13, length: 2 },
  /** A number of 128 bits, which nft(8) shows as an IPv6 address. */
  number: { type: 8, length: 16 },
} as const;
const TYPE_BITS = 6;

export interface SetDefinition {
  readonly name: string;
  readonly key: readonly (keyof typeof KEY_PART)[];
  /** Its elements are ranges that do not overlap. */
  readonly interval?: boolean;
  /** It has a verdict for each element. */
  readonly verdicts?: boolean;
  /** It has a value for each element, put together of these parts. */
  readonly values?: readonly (keyof typeof KEY_PART)[];
}

/** Whether keys are put together of several parts. */
export const isConcatenation = ({ key }: SetDefinition) => key.length > 1;

const padded = (length: number) => (length + 3) & ~3;

/** Return the type of parts put together, as nft(8) numbers it, and their length in bytes. */
function layout(names: readonly (keyof typeof KEY_PART)[]): { type: number; length: number } {
  const parts = names.map((part) => KEY_PART[part]);
  const [only] = parts;
  const length =
    parts.length === 1 && only ? only.length : parts.reduce((sum, part) => sum + padded(part.length), 0);
  return { type: parts.reduce((types, part) => (types << TYPE_BITS) | part.type, 0), length };
}

/** Put the parts of a key together, in the byte order of packets, each padded to four bytes. */
export function concatenated(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + padded(part.length), 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += padded(part.length);
  }
  return bytes;
}

/** Add a set, empty. */
export function addSet(table: TableName, set: SetDefinition): Request {
  const parts = set.key.map((part) => KEY_PART[part]);
  const concat = isConcatenation(set);
  const flags =
    (set.interval ? NFT_SET_INTERVAL : 0) |
    (set.verdicts || set.values ? NFT_SET_MAP : 0) |
    (set.interval && concat ? NFT_SET_CONCAT : 0);
  const { type, length } = layout(set.key);
  const values = set.values && layout(set.values);
  return tableMessage(table, "NEWSET", `add set ${named(table)} ${set.name}`, (body) => {
    body
      .string(NFTA_SET_NAME, set.name)
      .u32be(NFTA_SET_FLAGS, flags)
      .u32be(NFTA_SET_KEY_TYPE, type)
      .u32be(NFTA_SET_KEY_LEN, length);
    if (set.verdicts) body.u32be(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
    if (values) body.u32be(NFTA_SET_DATA_TYPE, values.type).u32be(NFTA_SET_DATA_LEN, values.length);
    // Within a batch a set is found by its name; the kernel wants a number all the same.
    body.u32be(NFTA_SET_ID, 1);
    if (!set.interval || !concat) return;
    body.nested(NFTA_SET_DESC, (description) =>
      description.nested(NFTA_SET_DESC_CONCAT, (fields) => {
        for (const part of parts)
          fields.nested(NFTA_LIST_ELEM, (field) => field.u32be(NFTA_SET_FIELD_LEN, part.length));
      }),
    );
  });
}

export function deleteSet(table: TableName, name: string): Request {
  return tableMessage(table, "DELSET", `delete set ${named(table)} ${name}`, (body) =>
    body.string(NFTA_SET_NAME, name),
  );
}

/** Return how a set is defined as text to be compared; throws AttributeError. */
export function definitionText(set: Attributes): string {
  const number = (type: number) => set.get(type)?.u32be ?? 0;
  return `flags ${number(NFTA_SET_FLAGS)} key ${number(NFTA_SET_KEY_TYPE)} of ${number(NFTA_SET_KEY_LEN)} bytes, data ${number(NFTA_SET_DATA_TYPE)}`;
}
