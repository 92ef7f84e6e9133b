// The gossip of addresses and names: decoded, and merged with what this host has.
import { Entries } from "../../../lib/dns/entries.ts";
import { decodeNames, encodeNames } from "../../../lib/dns/wire.ts";
import { Consensus } from "../../../lib/ipam/consensus.ts";
import { Ring } from "../../../lib/ipam/ring/ring.ts";
import { decodeRange, decodeState, encodeState } from "../../../lib/ipam/wire.ts";
import { nameFromNumber } from "../../../lib/mesh/name.ts";
import { mergeInto } from "../../support/rings.ts";
import { type Decoder, inWays, type Target, wayOf } from "../target.ts";
import { different, recordedGossip } from "./recorded.ts";

const peer = (number: number) => nameFromNumber(BigInt(number));

/** The state of a ring of three peers. */
function state(): Uint8Array {
  const ring = new Ring(0x0a200000, 0x0a300000, peer(1));
  ring.claimForPeers([peer(1), peer(2), peer(3)]);
  ring.grant(0x0a200010, 0x0a200020, peer(2));
  const sent = { ...ring.state(), peer: peer(1) };
  return encodeState({
    now: 1_700_000_000n,
    nicknames: new Map([[peer(1), "one"]]),
    consensus: undefined,
    ring: sent,
  });
}

/** A vote of two peers on the first ring. */
function vote(): Uint8Array {
  const [one, two] = [1, 2].map((number) => new Consensus({ name: peer(number), uid: BigInt(number) }));
  for (const each of [one, two]) if (each) each.quorum = 2;
  one?.propose();
  if (one) two?.update(one.state);
  return encodeState({
    now: 1_700_000_000n,
    nicknames: new Map([[peer(1), "one"]]),
    consensus: two?.state,
    ring: undefined,
  });
}

async function ring(): Promise<Decoder> {
  const recorded = (await recordedGossip("IPallocation")).map(({ kind, payload }) =>
    kind === "unicast" ? payload.subarray(1) : payload,
  );
  return {
    seeds: inWays(2, different([state(), vote(), ...recorded])),
    refuses: ["GobError", "PeerNameError", "IpamError", "RingError"],
    run(input) {
      const [way, bytes] = wayOf(input, 2);
      if (way === 1) return decodeRange(bytes);
      const sent = decodeState(bytes);
      if (sent.consensus) {
        const consensus = new Consensus({ name: peer(1), uid: 1n });
        consensus.quorum = 2;
        const changed = consensus.update(sent.consensus);
        consensus.propose();
        consensus.update(sent.consensus);
        return [changed, consensus.own, consensus.agreed(), consensus.rivals, consensus.state.size];
      }
      if (!sent.ring) return sent;
      const own = new Ring(sent.ring.start, sent.ring.end, peer(1));
      const merged = mergeInto(own, sent.ring, () => false);
      if (own.entries.length === 0) return merged;
      own.restore(own.state());
      const found = [
        own.ranges(),
        own.ownedRanges(),
        own.donors(own.start, own.end, () => 0.5),
        own.owner(own.start),
      ];
      return [merged, own.contradicts(sent.ring), mergeInto(own, sent.ring, () => true), found];
    },
  };
}

async function names(): Promise<Decoder> {
  const entry = {
    origin: peer(2),
    containerId: "c".repeat(64),
    address: 0x0a200001,
    hostname: "web.weave.local.",
    version: 1,
    tombstone: 0,
  };
  const made = encodeNames({
    timestamp: 1_700_000_000,
    entries: [entry, { ...entry, hostname: "a.b.weave.local.", tombstone: 5 }],
  });
  return {
    seeds: different([made, ...(await recordedGossip("nameserver")).map(({ payload }) => payload)]),
    refuses: ["GobError", "PeerNameError"],
    run(input) {
      const message = decodeNames(input);
      const entries = new Entries();
      entries.merge(message.entries);
      const found = message.entries.map(({ hostname, address }) => [
        entries.lookup(hostname),
        entries.reverse(address),
      ]);
      return [message.timestamp, [...entries.all()], found.length, entries.isParent("weave.local.")];
    },
  };
}

export const SHARED_TARGETS: readonly Target[] = [
  { name: "ring", open: ring },
  { name: "names", open: names },
];
