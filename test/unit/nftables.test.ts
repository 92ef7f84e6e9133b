// Messages about nftables: what does not fit into one, and whose transactions concern our tables.
import { describe, expect, test } from "bun:test";
import { ipv4Octets } from "../../lib/address/ipv4.ts";
import { decodeAttributes } from "../../lib/netlink/attributes.ts";
import {
  addElements,
  deleteElements,
  type Element,
  elementTexts,
} from "../../lib/netlink/nftables/element.ts";
import { NFT_MSG, nftMessage, tableMessage } from "../../lib/netlink/nftables/message.ts";
import type { SetDefinition } from "../../lib/netlink/nftables/set.ts";
import { addSet } from "../../lib/netlink/nftables/set.ts";
import { stateOf } from "../../lib/netlink/nftables/state.ts";
import { addTable } from "../../lib/netlink/nftables/table.ts";
import { readTransactions } from "../../lib/netlink/nftables/watch.ts";
import type { Request } from "../../lib/netlink/socket.ts";

const TABLE = { family: "inet", name: "weave-npc" } as const;

describe("5,000 elements", () => {
  const keys = Array.from({ length: 5_000 }, (_, i) => ipv4Octets(0x0a20_0000 + 2 * i));
  const name = "n".repeat(100);
  const cases: [string, SetDefinition, Element[]][] = [
    ["addresses", { name: "s", key: ["ipv4"] }, keys.map((key) => ({ key }))],
    ["ranges", { name: "s", key: ["ipv4"], interval: true }, keys.map((key) => ({ key, last: key }))],
    [
      "verdicts",
      { name: "s", key: ["ipv4"], verdicts: true },
      keys.map((key) => ({ key, verdict: { jump: name } })),
    ],
  ];
  test.each(cases)("%s go in messages whose lists fit an attribute, and all arrive", (_, set, elements) => {
    for (const messages of [addElements(TABLE, set, elements), deleteElements(TABLE, set, elements)]) {
      expect(messages.length).toBeGreaterThan(1);
      for (const { body } of messages) expect(body.length).toBeLessThan(65_536);
    }
    const state = stateOf([addSet(TABLE, set), ...addElements(TABLE, set, elements)]);
    expect(new Set(state.sets.get("s")?.elements).size).toBe(set.interval ? 10_000 : 5_000);
  });

  test.each([
    ["10.0.0.0", "10.0.0.255", "10.0.1.0"],
    ["10.0.0.0", "10.0.255.255", "10.1.0.0"],
    ["10.0.0.0", "10.255.255.255", "11.0.0.0"],
    ["10.0.0.7", undefined, "10.0.0.8"],
    ["240.0.0.0", "255.255.255.255", undefined],
  ])("the interval from %s to %s ends before %s", (first, last, end) => {
    const octets = (text: string) => Uint8Array.from(text.split(".").map(Number));
    const set: SetDefinition = { name: "s", key: ["ipv4"], interval: true };
    const element = { key: octets(first), last: last === undefined ? undefined : octets(last) };
    const [message] = addElements(TABLE, set, [element]);
    const texts = elementTexts(decodeAttributes((message?.body ?? new Uint8Array()).subarray(4)));
    expect(texts).toEqual([
      octets(first).toHex(),
      ...(end === undefined ? [] : [`end ${octets(end).toHex()}`]),
    ]);
  });

  test("no element but the last of a message is lost where one more fills it", () => {
    const set: SetDefinition = { name: "s", key: ["ipv4"] };
    const [first, ...others] = addElements(
      TABLE,
      set,
      keys.map((key) => ({ key })),
    );
    const count = ({ body }: Request) => decodeAttributes(body.subarray(4)).need(3).nested.list.length;
    expect(others.length).toBeGreaterThan(0);
    expect([first as Request, ...others].reduce((sum, message) => sum + count(message), 0)).toBe(5_000);
  });
});

describe("transactions", () => {
  const OWN = 77;
  const told: string[] = [];
  const reader = readTransactions(
    [TABLE, { family: "ip", name: "filter", chains: ["FORWARD"] }],
    () => new Set([OWN]),
    {
      changed: ({ name }) => told.push(name),
      lost: () => told.push("lost"),
      failed: (error) => told.push(error.message),
    },
  );
  const after = (requests: readonly Request[], port = 5) => {
    told.length = 0;
    for (const { type, body } of [...requests, nftMessage("inet", "NEWGEN", "generation")])
      reader.message({ type, flags: 0, sequence: 0, port, body });
    return told;
  };
  const chain = (family: "ip" | "inet", table: string, name: string) =>
    tableMessage({ family, name: table }, "NEWCHAIN", "chain", (body) => body.string(3, name));

  test("of others that touch our table are told, once each", () => {
    expect(after([addTable(TABLE), chain("inet", TABLE.name, "a"), chain("inet", TABLE.name, "b")])).toEqual([
      TABLE.name,
    ]);
  });

  test("after one of these, those of other tables are not", () => {
    after([addTable(TABLE)]);
    const others = Array.from({ length: 10 }, () => after([addTable({ family: "ip", name: "kube-proxy" })]));
    expect(others.flat()).toEqual([]);
  });

  test("of our own are not, nor are those of a table of that name in another family, or with a longer name", () => {
    expect(after([addTable(TABLE)], OWN)).toEqual([]);
    expect(after([addTable({ ...TABLE, family: "ip" }), addTable({ ...TABLE, name: "weave-npc2" })])).toEqual(
      [],
    );
  });

  test("of others' tables concern us by the chains that matter", () => {
    expect(after([chain("ip", "filter", "KUBE-SERVICES")])).toEqual([]);
    expect(after([chain("ip", "filter", "FORWARD")])).toEqual(["filter"]);
    expect(after([addTable({ family: "ip", name: "filter" })])).toEqual(["filter"]);
  });

  test("that were lost take what was heard with them", () => {
    reader.message({ ...addTable(TABLE), flags: 0, sequence: 0, port: 5 });
    reader.lost();
    expect(after([])).toEqual([]);
    expect(NFT_MSG.NEWGEN).toBe(15);
  });
});
