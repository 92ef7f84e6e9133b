// The original's gossip: decoded, understood, and encoded again to the very same bytes.
import { describe, expect, test } from "bun:test";
import { decodeNames, encodeNames } from "../../lib/dns/wire.ts";
import { GobEncoder } from "../../lib/gob/encoder.ts";
import type { GobType } from "../../lib/gob/type.ts";
import { decodeState, encodeState, RingType } from "../../lib/ipam/wire.ts";
import { decodeGossip, encodeGossip, type GossipMessage, TAG } from "../../lib/mesh/message.ts";
import { decodeTopology, encodeTopologyWith, Peer } from "../../lib/mesh/peer.ts";
import { linksOf } from "../support/links.ts";
import { capture, hex, plainMessages } from "../support/vectors.ts";

const captures = [await capture("plain"), await capture("plain-fastdp")];
const gossip: { message: GossipMessage; bytes: Uint8Array }[] = captures
  .flatMap(({ connections }) => connections.flatMap(({ client, server }) => [client, server]))
  .flatMap((side) => plainMessages(side).slice(1))
  .filter((bytes) => bytes[0] !== undefined && bytes[0] >= TAG.gossip && bytes[0] <= TAG.gossipBroadcast)
  .map((bytes) => ({ message: decodeGossip(bytes[0] ?? 0, bytes.subarray(1)), bytes }));

/** The id that a stream gives the first type it describes: in the second field, negative. */
function firstTypeId(stream: Uint8Array): number {
  const view = new DataView(stream.buffer, stream.byteOffset);
  const raw = view.getUint8(1) === 0xff ? view.getUint8(2) : view.getUint8(1);
  return (raw + 1) / 2;
}

test("there is gossip of all kinds and channels", () => {
  const kinds = new Set(gossip.map(({ message }) => `${message.channel} ${message.kind}`));
  for (const kind of [
    "topology gossip",
    "IPallocation gossip",
    "IPallocation broadcast",
    "IPallocation unicast",
    "nameserver gossip",
  ]) {
    expect(kinds).toContain(kind);
  }
});

test("envelopes", () => {
  for (const { message, bytes } of gossip) expect(hex(encodeGossip(message))).toBe(hex(bytes));
});

describe("topology", () => {
  const updates = gossip.filter(({ message }) => message.channel === "topology");

  test("decodes and encodes to the same bytes", () => {
    expect(updates.length).toBeGreaterThan(5);
    for (const { message } of updates) {
      const decoded = decodeTopology(message.payload, () => true);
      const peers = new Map(decoded.map(({ summary }) => [summary.name, new Peer(summary)]));
      for (const { summary, connections } of decoded) {
        const peer = peers.get(summary.name);
        for (const { name, ...connection } of connections) {
          linksOf(peer ?? expect.unreachable()).set(name, {
            remote: peers.get(name) ?? Peer.placeholder(name),
            ...connection,
          });
        }
      }
      const again = encodeTopologyWith(new GobEncoder(firstTypeId(message.payload)), peers.values());
      expect(hex(again)).toBe(hex(message.payload));
    }
  });

  test("says who is connected to whom", () => {
    const names = updates.flatMap(({ message }) => decodeTopology(message.payload, () => true));
    const middle = names.filter(({ summary }) => summary.nickName === "h2").at(-1);
    expect(middle?.summary).toMatchObject({ name: "00:00:00:00:00:02", hasShortId: true });
    expect(middle?.connections.every(({ established }) => typeof established === "boolean")).toBe(true);
  });
});

describe("addresses", () => {
  const states = gossip
    .filter(({ message }) => message.channel === "IPallocation")
    .map(({ message }) =>
      message.kind === "unicast"
        ? { tag: message.payload[0], body: message.payload.subarray(1) }
        : { tag: 1, body: message.payload },
    )
    .filter(({ tag }) => tag === 1)
    .map(({ body }) => body);

  /** The ring's types were known to the process before those of the gossip. */
  function ringIds(): [GobType, number][] {
    if (RingType.kind !== "struct") throw new Error("a ring is a struct");
    const entries = RingType.byName.get("Entries");
    const seeds = RingType.byName.get("Seeds");
    if (entries?.kind !== "slice" || !seeds) throw new Error("a ring has entries and seeds");
    return [
      [RingType, 65],
      [entries.element, 66],
      [entries, 67],
      [seeds, 68],
    ];
  }

  test("decode and encode to the same bytes", () => {
    expect(states.length).toBeGreaterThan(10);
    for (const body of states) {
      const again = encodeState(decodeState(body), new GobEncoder(firstTypeId(body), ringIds()));
      expect(hex(again)).toBe(hex(body));
    }
  });

  test("hold consensus, then a ring seeded by all three", () => {
    const decoded = states.map(decodeState);
    expect(decoded.some(({ consensus }) => (consensus?.size ?? 0) === 3)).toBe(true);
    const ring = decoded.find(({ ring: found }) => found)?.ring;
    expect(ring?.seeds.length).toBeGreaterThan(1);
    expect(ring?.entries[0]?.token).toBe(10 * 2 ** 24 + 32 * 2 ** 16);
  });
});

describe("names", () => {
  const updates = gossip.filter(({ message }) => message.channel === "nameserver");

  test("decode and encode to the same bytes", () => {
    expect(updates.length).toBeGreaterThan(3);
    for (const { message } of updates) {
      const again = encodeNames(decodeNames(message.payload), new GobEncoder(firstTypeId(message.payload)));
      expect(hex(again)).toBe(hex(message.payload));
    }
  });

  test("say what was registered, and what was removed", () => {
    const entries = updates.flatMap(({ message }) => decodeNames(message.payload).entries);
    const said = entries.map(
      ({ hostname, version, tombstone }) => `${hostname} v${version} ${tombstone > 0}`,
    );
    for (const expected of [
      "web.weave.local. v0 false",
      "web.weave.local. v1 true",
      "db.weave.local. v0 false",
    ]) {
      expect(said).toContain(expected);
    }
  });
});
