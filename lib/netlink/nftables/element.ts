// Elements of sets and maps of nftables (linux/netfilter/nf_tables.h: enum nft_set_elem_attributes). Keys are bytes as in the
// packet, the parts of a concatenation each padded to four bytes.
import type { AttributeEncoder, Attributes } from "../attributes.ts";
import type { NetlinkSocket, Request } from "../socket.ts";
import { dataText, encodeData, type Verdict, valueIn } from "./expr/data.ts";
import { ifPresent, named, nftAttributes, type TableName, tableMessage } from "./message.ts";
import { commentIn } from "./rule.ts";
import { isConcatenation, type SetDefinition } from "./set.ts";

/** enum nft_set_elem_list_attributes */
export const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;

const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_USERDATA = 6;
const NFTA_SET_ELEM_KEY_END = 10;

/** enum nft_set_elem_flags */
const NFT_SET_ELEM_INTERVAL_END = 1;

/** Bytes of elements in one message: their list is one attribute, of less than 64 KiB. */
const LIST_SIZE = 32_768;

/** Type of the comment in an element's user data (libnftnl: udata.h), and its longest text in bytes. */
const NFTNL_UDATA_SET_ELEM_COMMENT = 0;
const MAX_COMMENT = 128;

export interface Element {
  readonly key: Uint8Array;
  /** The last key of a range of keys, in sets of intervals. */
  readonly last?: Uint8Array | undefined;
  readonly verdict?: Verdict | undefined;
  /** In a map of values: the parts put together, as those of the key. */
  readonly value?: Uint8Array | undefined;
  /** Shown by nft(8); cut after 127 bytes. */
  readonly comment?: string | undefined;
}

/** A set or map with what is in it. */
export interface FilledSet {
  readonly definition: SetDefinition;
  readonly elements: Iterable<Element>;
}

export function addElements(table: TableName, set: SetDefinition, elements: Iterable<Element>): Request[] {
  return elementMessages(table, "NEWSETELEM", set, elements);
}

export function deleteElements(table: TableName, set: SetDefinition, elements: Iterable<Element>): Request[] {
  return elementMessages(table, "DELSETELEM", set, elements);
}

function elementMessages(
  table: TableName,
  type: "NEWSETELEM" | "DELSETELEM",
  set: SetDefinition,
  elements: Iterable<Element>,
): Request[] {
  const messages: Request[] = [];
  const what = `${type === "NEWSETELEM" ? "add" : "delete"} elements ${named(table)} ${set.name}`;
  let waiting: Element[] = [];
  let size = 0;
  const flush = () => {
    const list = waiting;
    if (list.length === 0) return;
    messages.push(
      tableMessage(table, type, what, (body) =>
        body.string(NFTA_SET_ELEM_LIST_SET, set.name).nested(NFTA_SET_ELEM_LIST_ELEMENTS, (items) => {
          for (const element of list) encodeElement(items, set, element, type === "NEWSETELEM");
        }),
      ),
    );
    waiting = [];
    size = 0;
  };
  for (const element of elements) {
    waiting.push(element);
    // Generously: keys twice, a verdict with the name of a chain or a comment, headers.
    size += 2 * element.key.length + (element.verdict || element.comment ? 256 : 64);
    if (size > LIST_SIZE) flush();
  }
  flush();
  return messages;
}

function encodeElement(items: AttributeEncoder, set: SetDefinition, element: Element, whole: boolean): void {
  const { key, last, verdict, value, comment } = element;
  const concat = isConcatenation(set);
  items.nested(NFTA_LIST_ELEM, (item) => {
    item.nested(NFTA_SET_ELEM_KEY, (data) => encodeData(data, key));
    if (set.interval && concat) item.nested(NFTA_SET_ELEM_KEY_END, (data) => encodeData(data, last ?? key));
    const content = verdict ?? value;
    if (content && whole) item.nested(NFTA_SET_ELEM_DATA, (data) => encodeData(data, content));
    if (comment && whole) item.bytes(NFTA_SET_ELEM_USERDATA, commentData(comment));
  });
  if (!set.interval || concat) return;
  // The end of an interval is an element of its own: the first key behind it. Behind the last of all there is none.
  const end = nextKey(last ?? key);
  if (!end) return;
  items.nested(NFTA_LIST_ELEM, (item) =>
    item
      .u32be(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END)
      .nested(NFTA_SET_ELEM_KEY, (data) => encodeData(data, end)),
  );
}

/** Return user data with a comment: type, length, text that ends with a zero. */
function commentData(comment: string): Uint8Array {
  const text = new TextEncoder().encode(comment).subarray(0, MAX_COMMENT - 1);
  return Uint8Array.of(NFTNL_UDATA_SET_ELEM_COMMENT, text.length + 1, ...text, 0);
}

/** Return the next key, as a big-endian number; undefined behind the last. */
function nextKey(key: Uint8Array): Uint8Array | undefined {
  const bytes = key.slice();
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = ((bytes[i] ?? 0) + 1) & 255;
    if (bytes[i] !== 0) return bytes;
  }
  return undefined;
}

/** Whether a set or map has an element, without reading the others; false, too, where there is no such set. */
export function hasElement(nl: NetlinkSocket, table: TableName, set: string, key: Uint8Array): boolean {
  const request = tableMessage(table, "GETSETELEM", `get element ${named(table)} ${set}`, (body) =>
    body
      .string(NFTA_SET_ELEM_LIST_SET, set)
      .nested(NFTA_SET_ELEM_LIST_ELEMENTS, (list) =>
        list.nested(NFTA_LIST_ELEM, (item) =>
          item.nested(NFTA_SET_ELEM_KEY, (data) => encodeData(data, key)),
        ),
      ),
  );
  return ifPresent(() => nl.request(request)) !== undefined;
}

/** Read the elements in a message, as text to be compared; throws AttributeError. */
export function elementTexts(message: Attributes): string[] {
  const list = message.get(NFTA_SET_ELEM_LIST_ELEMENTS)?.nested.list ?? [];
  return list.map(({ nested }) => {
    const [key, end, data] = [NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_DATA].map((type) => {
      const found = nested.get(type);
      return found && dataText(found);
    });
    const isEnd = (nested.get(NFTA_SET_ELEM_FLAGS)?.u32be ?? 0) & NFT_SET_ELEM_INTERVAL_END;
    return `${isEnd ? "end " : ""}${key ?? ""}${end ? `-${end}` : ""}${data ? ` ${data}` : ""}`;
  });
}

/** An element with the comment that its maker has given it. */
interface CommentedElement {
  readonly key: Uint8Array;
  readonly comment: string | undefined;
}

/** Return the elements of a set or map; none where there is no such set. Throws NetlinkError, AttributeError. */
export function elementList(nl: NetlinkSocket, table: TableName, set: string): CommentedElement[] {
  const request = tableMessage(table, "GETSETELEM", `list elements ${named(table)} ${set}`, (body) =>
    body.string(NFTA_SET_ELEM_LIST_SET, set),
  );
  const messages = ifPresent(() => nl.dump(request)) ?? [];
  return messages.flatMap(({ body }) =>
    (nftAttributes(body).get(NFTA_SET_ELEM_LIST_ELEMENTS)?.nested.list ?? []).map(({ nested }) => {
      const userData = nested.get(NFTA_SET_ELEM_USERDATA)?.payload;
      return {
        key: valueIn(nested.need(NFTA_SET_ELEM_KEY)),
        comment: userData && commentIn(userData),
      };
    }),
  );
}
