// Sets and maps of nftables (linux/netfilter/nf_tables.h). Keys are bytes as in the packet, the parts of a
// concatenation each padded to four bytes.
import type { AttributeEncoder } from "../attributes.ts";
import type { Request } from "../socket.ts";
import { encodeVerdict, type Verdict } from "./expression.ts";
import { named, nftMessage, type TableName } from "./table.ts";

const SET_INTERVAL = 4;
const SET_MAP = 8;
const SET_CONCAT = 0x80;
const ELEM_INTERVAL_END = 1;
const DATA_VALUE = 1;
const DATA_TYPE_VERDICT = 0xffff_ff00;
/** A list of elements is one attribute, of at most 64 kB. */
const ELEMENTS_SIZE = 32_768;

/** Parts of a key: their type as nft(8) numbers them, and their length in bytes. */
const KEY_PART = {
  ipv4: { type: 7, length: 4 },
  ipv6: { type: 8, length: 16 },
  protocol: { type: 12, length: 1 },
  port: { type: 13, length: 2 },
} as const;
const TYPE_BITS = 6;

export interface SetDefinition {
  readonly name: string;
  readonly key: readonly (keyof typeof KEY_PART)[];
  /** Its elements are ranges that do not overlap. */
  readonly interval?: boolean;
  /** It has a verdict for each element. */
  readonly verdicts?: boolean;
}

export interface Element {
  readonly key: Uint8Array;
  /** The last key of a range of keys, in sets of intervals. */
  readonly last?: Uint8Array | undefined;
  readonly verdict?: Verdict | undefined;
}

/** A set or map with what is in it. */
export interface FilledSet {
  readonly definition: SetDefinition;
  readonly elements: Iterable<Element>;
}

const padded = (length: number) => (length + 3) & ~3;

/** Puts the parts of a key together. */
export function concatenated(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + padded(part.length), 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += padded(part.length);
  }
  return bytes;
}

/** Adds a set, empty. */
export function addSet(table: TableName, set: SetDefinition): Request {
  const parts = set.key.map((part) => KEY_PART[part]);
  const concat = parts.length > 1;
  const flags =
    (set.interval ? SET_INTERVAL : 0) |
    (set.verdicts ? SET_MAP : 0) |
    (set.interval && concat ? SET_CONCAT : 0);
  const length = concat ? parts.reduce((sum, part) => sum + padded(part.length), 0) : (parts[0]?.length ?? 0);
  return nftMessage(table, "newSet", `add set ${named(table)} ${set.name}`, (body) => {
    body
      .string(1, table.name)
      .string(2, set.name)
      .u32be(3, flags)
      .u32be(
        4,
        parts.reduce((type, part) => (type << TYPE_BITS) | part.type, 0),
      )
      .u32be(5, length);
    if (set.verdicts) body.u32be(6, DATA_TYPE_VERDICT);
    // Within a batch a set is found by its name; the number is asked for all the same.
    body.u32be(10, 1);
    if (set.interval && concat) {
      body.nested(9, (description) =>
        description.nested(2, (fields) => {
          for (const part of parts) fields.nested(1, (field) => field.u32be(1, part.length));
        }),
      );
    }
  });
}

export function deleteSet(table: TableName, name: string): Request {
  return nftMessage(table, "delSet", `delete set ${named(table)} ${name}`, (body) =>
    body.string(1, table.name).string(2, name),
  );
}

export function addElements(table: TableName, set: SetDefinition, elements: Iterable<Element>): Request[] {
  return elementMessages(table, "newSetElem", set, elements);
}

export function deleteElements(table: TableName, set: SetDefinition, elements: Iterable<Element>): Request[] {
  return elementMessages(table, "delSetElem", set, elements);
}

function elementMessages(
  table: TableName,
  type: "newSetElem" | "delSetElem",
  set: SetDefinition,
  elements: Iterable<Element>,
): Request[] {
  const messages: Request[] = [];
  const what = `${type === "newSetElem" ? "add" : "delete"} elements ${named(table)} ${set.name}`;
  let waiting: Element[] = [];
  let size = 0;
  const flush = () => {
    const list = waiting;
    if (list.length === 0) return;
    messages.push(
      nftMessage(table, type, what, (body) =>
        body
          .string(1, table.name)
          .string(2, set.name)
          .nested(3, (items) => {
            for (const element of list) encodeElement(items, set, element, type === "newSetElem");
          }),
      ),
    );
    waiting = [];
    size = 0;
  };
  for (const element of elements) {
    waiting.push(element);
    // Generously: keys twice, a verdict with the name of a chain, headers.
    size += 2 * element.key.length + (element.verdict ? 128 : 32);
    if (size > ELEMENTS_SIZE) flush();
  }
  flush();
  return messages;
}

function encodeElement(items: AttributeEncoder, set: SetDefinition, element: Element, whole: boolean): void {
  const { key, last, verdict } = element;
  const concat = set.key.length > 1;
  items.nested(1, (item) => {
    item.nested(1, (data) => data.bytes(DATA_VALUE, key));
    if (set.interval && concat) item.nested(10, (data) => data.bytes(DATA_VALUE, last ?? key));
    if (verdict && whole) item.nested(2, (data) => encodeVerdict(data, verdict));
  });
  if (!set.interval || concat) return;
  // The end of an interval is an element of its own: the first key behind it. Behind the last of all there is none.
  const end = next(last ?? key);
  if (!end) return;
  items.nested(1, (item) =>
    item.u32be(3, ELEM_INTERVAL_END).nested(1, (data) => data.bytes(DATA_VALUE, end)),
  );
}

/** The key behind this one, as numbers go; undefined behind the last. */
function next(key: Uint8Array): Uint8Array | undefined {
  const bytes = key.slice();
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = ((bytes[i] ?? 0) + 1) & 255;
    if (bytes[i] !== 0) return bytes;
  }
  return undefined;
}
