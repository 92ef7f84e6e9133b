// nftables as the kernel keeps it, in memory, at the other end of a netlink socket: tables, chains, rules, sets and elements,
// changed by whole transactions or not at all. It refuses what the kernel refuses of what we send; its answers are the bytes
// that it was given, with what the kernel adds to them.
import { AttributeEncoder, decodeAttributes } from "../../lib/netlink/attributes.ts";
import {
  decodeMessages,
  encodeMessage,
  type Message,
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLMSG_DONE,
  NLMSG_ERROR,
} from "../../lib/netlink/message.ts";
import { NFT_MSG } from "../../lib/netlink/nftables/message.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";

export const ERRNO = { EPERM: 1, ENOENT: 2, EBUSY: 16, EEXIST: 17, EINVAL: 22 } as const;

interface FakeRule {
  readonly handle: bigint;
  readonly body: Uint8Array;
}
interface FakeChain {
  readonly body: Uint8Array;
  readonly rules: FakeRule[];
}
interface FakeSet {
  readonly body: Uint8Array;
  /** By key; what was sent of each. */
  readonly elements: Map<string, Uint8Array>;
}
interface FakeTable {
  flags: number;
  readonly chains: Map<string, FakeChain>;
  readonly sets: Map<string, FakeSet>;
}

const NFGENMSG = 4;
const [NAME, TABLE_FLAGS, TABLE_USE] = [1, 2, 3];
const [CHAIN_NAME, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS] = [3, 2, 3, 4];
const [SET_NAME, ELEMENTS_OF, ELEMENTS] = [2, 2, 3];

class Refusal extends Error {
  constructor(readonly errno: number) {
    super(`errno ${errno}`);
  }
}
const refuse = (errno: number): never => {
  throw new Refusal(errno);
};

const clone = (tables: ReadonlyMap<string, FakeTable>): Map<string, FakeTable> =>
  new Map(
    Array.from(tables, ([key, { flags, chains, sets }]) => [
      key,
      {
        flags,
        chains: new Map(Array.from(chains, ([name, { body, rules }]) => [name, { body, rules: [...rules] }])),
        sets: new Map(
          Array.from(sets, ([name, { body, elements }]) => [name, { body, elements: new Map(elements) }]),
        ),
      },
    ]),
  );

/** Names of chains and sets that bytes mention, as strings that end with zero. */
const mentions = (body: Uint8Array, name: string) => Buffer.from(body).includes(`${name}\0`);

export class NftKernel {
  tables = new Map<string, FakeTable>();
  /** Number of transactions, those refused among them. */
  transactions = 0;
  /** Refuse the transaction of this number, from 1, at the message of this number, from 0. */
  refuse: { readonly transaction: number; readonly message: number; readonly errno: number } | undefined;
  /** Families without nftables. */
  readonly lacking = new Set<number>();
  #handles = 0n;

  /** A socket whose other end this is. */
  socket(): NetlinkSocket {
    const waiting: Uint8Array[] = [];
    return new NetlinkSocket(NETLINK_NETFILTER, {
      send: (_what, datagram) => waiting.push(...this.#answers(decodeMessages(datagram.slice()))),
      receive(_what, _buffer, wait) {
        const next = waiting.shift();
        if (!next && wait) throw new Error("the kernel would never answer");
        return next;
      },
      netnsCookie: () => undefined,
      close() {},
    });
  }

  /** What there is, in words: to be compared. */
  dump(): unknown {
    const hex = (body: Uint8Array) => Buffer.from(body).toString("hex");
    return Object.fromEntries(
      [...this.tables].sort().map(([key, { flags, chains, sets }]) => [
        key,
        {
          flags,
          chains: Object.fromEntries(
            [...chains]
              .sort()
              .map(([name, { body, rules }]) => [name, [hex(body), ...rules.map((r) => hex(r.body))]]),
          ),
          sets: Object.fromEntries(
            [...sets]
              .sort()
              .map(([name, { body, elements }]) => [
                name,
                [hex(body), ...[...elements.values()].map(hex).sort()],
              ]),
          ),
        },
      ]),
    );
  }

  #answers(messages: readonly Message[]): Uint8Array[] {
    const [first] = messages;
    if (!first) return [];
    // NFNL_MSG_BATCH_BEGIN
    if (first.type === 16) return this.#transaction(messages.slice(1, -1));
    return messages.flatMap((message) => this.#read(message));
  }

  #transaction(messages: readonly Message[]): Uint8Array[] {
    this.transactions++;
    const before = clone(this.tables);
    const answers: Uint8Array[] = [];
    let failed = false;
    const { transaction, message: at, errno = 0 } = this.refuse ?? {};
    for (const [i, message] of messages.entries()) {
      try {
        const isLast = i === messages.length - 1;
        if (transaction === this.transactions && (at === i || (isLast && !failed))) refuse(errno);
        this.#apply(message);
        if (message.flags & NLM_F_ACK) answers.push(acknowledge(message, 0));
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        failed = true;
        answers.push(acknowledge(message, error.errno));
      }
    }
    if (failed) this.tables = before;
    return answers;
  }

  #key(body: Uint8Array): string {
    const name = decodeAttributes(body.subarray(NFGENMSG)).need(NAME).string;
    if (this.lacking.has(body[0] ?? 0)) refuse(95);
    return `${body[0]} ${name}`;
  }

  #table(body: Uint8Array): FakeTable {
    return this.tables.get(this.#key(body)) ?? refuse(ERRNO.ENOENT);
  }

  #apply({ type, flags, body }: Message): void {
    const attributes = decodeAttributes(body.subarray(NFGENMSG));
    const text = (attribute: number) => attributes.need(attribute).string;
    const isUsed = (table: FakeTable, name: string) =>
      [...table.chains.values()].some(({ rules }) => rules.some((rule) => mentions(rule.body, name))) ||
      [...table.sets.values()].some(({ elements }) =>
        [...elements.values()].some((element) => mentions(element, name)),
      );
    switch (type & 255) {
      case NFT_MSG.NEWTABLE: {
        const key = this.#key(body);
        const found = this.tables.get(key);
        if (found && flags & NLM_F_EXCL) refuse(ERRNO.EEXIST);
        const own = attributes.get(TABLE_FLAGS)?.u32be ?? 0;
        if (!found) this.tables.set(key, { flags: own, chains: new Map(), sets: new Map() });
        return;
      }
      case NFT_MSG.DELTABLE:
        if (!this.tables.delete(this.#key(body))) refuse(ERRNO.ENOENT);
        return;
      case NFT_MSG.NEWCHAIN: {
        const { chains } = this.#table(body);
        const name = text(CHAIN_NAME);
        if (!chains.has(name)) chains.set(name, { body, rules: [] });
        return;
      }
      case NFT_MSG.DELCHAIN: {
        const table = this.#table(body);
        const name = text(CHAIN_NAME);
        const chain = table.chains.get(name) ?? refuse(ERRNO.ENOENT);
        if (isUsed(table, name) || chain.rules.length > 0) refuse(ERRNO.EBUSY);
        table.chains.delete(name);
        return;
      }
      case NFT_MSG.NEWRULE: {
        const table = this.#table(body);
        const { rules } = table.chains.get(text(RULE_CHAIN)) ?? refuse(ERRNO.ENOENT);
        const handle = ++this.#handles;
        const rule = { handle, body };
        if (flags & NLM_F_APPEND) rules.push(rule);
        else rules.unshift(rule);
        this.#requireNames(table, attributes.need(RULE_EXPRESSIONS).payload);
        return;
      }
      case NFT_MSG.DELRULE: {
        const { rules } = this.#table(body).chains.get(text(RULE_CHAIN)) ?? refuse(ERRNO.ENOENT);
        const handle = attributes.get(RULE_HANDLE)?.u64be;
        const at = rules.findIndex((rule) => rule.handle === handle);
        if (handle === undefined) rules.splice(0);
        else if (at < 0) refuse(ERRNO.ENOENT);
        else rules.splice(at, 1);
        return;
      }
      case NFT_MSG.NEWSET: {
        const { sets } = this.#table(body);
        const name = text(SET_NAME);
        if (!sets.has(name)) sets.set(name, { body, elements: new Map() });
        return;
      }
      case NFT_MSG.DELSET: {
        const table = this.#table(body);
        const name = text(SET_NAME);
        if (isUsed(table, name)) refuse(ERRNO.EBUSY);
        if (!table.sets.delete(name)) refuse(ERRNO.ENOENT);
        return;
      }
      case NFT_MSG.NEWSETELEM:
      case NFT_MSG.DELSETELEM: {
        const table = this.#table(body);
        const { elements } = table.sets.get(text(ELEMENTS_OF)) ?? refuse(ERRNO.ENOENT);
        for (const item of attributes.get(ELEMENTS)?.nested.list ?? []) {
          // Key and, of an end of a range, its flag.
          const key = [1, 3, 10].map((part) =>
            Buffer.from(item.nested.get(part)?.payload ?? []).toString("hex"),
          );
          const found = elements.get(key.join());
          if ((type & 255) === NFT_MSG.DELSETELEM) {
            if (!elements.delete(key.join())) refuse(ERRNO.ENOENT);
          } else if (found && !Buffer.from(found).equals(item.payload)) refuse(ERRNO.EEXIST);
          else elements.set(key.join(), item.payload);
          this.#requireNames(table, item.payload);
        }
        return;
      }
      default:
        refuse(ERRNO.EINVAL);
    }
  }

  /** Chains that a verdict leads to, and sets that are looked up, have to be there. */
  #requireNames({ chains, sets }: FakeTable, bytes: Uint8Array): void {
    const names = Buffer.from(bytes)
      .toString("latin1")
      .match(
        /(?:chain|peers|blocked|ports|ranges|pods\d|blocks\d|endpoints\d|self\d|isolated\d)-[\w:-]+(?=\0)/g,
      );
    for (const name of names ?? []) if (!chains.has(name) && !sets.has(name)) refuse(ERRNO.ENOENT);
  }

  #read(message: Message): Uint8Array[] {
    const { type, flags, sequence, body } = message;
    const answer = (kind: number, bytes: Uint8Array) =>
      encodeMessage({ type: (type & 0xff00) | kind, flags: 0, sequence, body: bytes });
    try {
      // It tracks no connections (NFNL_SUBSYS_CTNETLINK).
      const found = type >> 8 === 1 ? [] : this.#found(type & 255, body);
      const bodies = found.map(([kind, bytes]) => answer(kind, bytes));
      if ((flags & NLM_F_DUMP) === NLM_F_DUMP)
        return [...bodies, encodeMessage({ type: NLMSG_DONE, flags: 0, sequence, body: new Uint8Array(4) })];
      return [...bodies, acknowledge(message, bodies.length === 0 ? ERRNO.ENOENT : 0)];
    } catch (error) {
      if (error instanceof Refusal) return [acknowledge(message, error.errno)];
      throw error;
    }
  }

  #found(type: number, body: Uint8Array): (readonly [kind: number, body: Uint8Array])[] {
    const attributes = decodeAttributes(body.subarray(NFGENMSG));
    const [family = 0] = body;
    if (this.lacking.has(family)) refuse(95);
    const header = () => new AttributeEncoder().raw(Uint8Array.of(family, 0, 0, 0));
    const tableName = attributes.get(NAME)?.string;
    const describe = (name: string, { flags, chains, sets }: FakeTable) =>
      header()
        .string(NAME, name)
        .u32be(TABLE_FLAGS, flags)
        .u32be(TABLE_USE, chains.size + sets.size)
        .done();
    if (type === NFT_MSG.GETTABLE && tableName === undefined)
      return [...this.tables]
        .filter(([key]) => key.startsWith(`${family} `))
        .map(([key, table]) => [NFT_MSG.NEWTABLE, describe(key.slice(key.indexOf(" ") + 1), table)] as const);
    if (type === NFT_MSG.GETCHAIN && tableName === undefined)
      return [...this.tables]
        .filter(([key]) => key.startsWith(`${family} `))
        .flatMap(([, { chains }]) =>
          [...chains.values()].map((chain) => [NFT_MSG.NEWCHAIN, chain.body] as const),
        );
    const table = this.tables.get(`${family} ${tableName}`);
    // A dump of what is not there is empty.
    if (!table) return type === NFT_MSG.GETRULE ? [] : refuse(ERRNO.ENOENT);
    switch (type) {
      case NFT_MSG.GETTABLE:
        return [[NFT_MSG.NEWTABLE, describe(tableName ?? "", table)]];
      case NFT_MSG.GETCHAIN: {
        const chain = table.chains.get(attributes.need(CHAIN_NAME).string);
        return chain ? [[NFT_MSG.NEWCHAIN, chain.body]] : refuse(ERRNO.ENOENT);
      }
      case NFT_MSG.GETRULE: {
        const { rules } = table.chains.get(attributes.need(RULE_CHAIN).string) ?? { rules: [] };
        return rules.map((rule) => {
          const sent = decodeAttributes(rule.body.subarray(NFGENMSG));
          const bytes = new AttributeEncoder().raw(rule.body.subarray(0, NFGENMSG));
          for (const { type: kind, payload } of sent.list) bytes.bytes(kind, payload);
          return [NFT_MSG.NEWRULE, bytes.u64be(RULE_HANDLE, rule.handle).done()];
        });
      }
      case NFT_MSG.GETSET: {
        const set = table.sets.get(attributes.need(SET_NAME).string);
        return set ? [[NFT_MSG.NEWSET, set.body]] : refuse(ERRNO.ENOENT);
      }
      case NFT_MSG.GETSETELEM: {
        const name = attributes.need(ELEMENTS_OF).string;
        const set = table.sets.get(name) ?? refuse(ERRNO.ENOENT);
        const asked = attributes.get(ELEMENTS)?.nested.list;
        const keyOf = (bytes: Uint8Array) =>
          Buffer.from(decodeAttributes(bytes).need(1).payload).toString("hex");
        const wanted = asked?.map(({ payload }) => keyOf(payload));
        const elements = [...set.elements.values()].filter((each) => wanted?.includes(keyOf(each)) ?? true);
        if (wanted && elements.length === 0) refuse(ERRNO.ENOENT);
        const bytes = header()
          .string(NAME, tableName ?? "")
          .string(ELEMENTS_OF, name)
          .nested(ELEMENTS, (list) => {
            for (const element of elements) list.bytes(1, element);
          });
        return [[NFT_MSG.NEWSETELEM, bytes.done()]];
      }
      default:
        return refuse(ERRNO.EINVAL);
    }
  }
}

const acknowledge = ({ sequence }: Message, errno: number) =>
  encodeMessage({
    type: NLMSG_ERROR,
    flags: 0,
    sequence,
    body: new Uint8Array(new Int32Array([-errno]).buffer),
  });
