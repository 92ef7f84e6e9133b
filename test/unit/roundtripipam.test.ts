// After any messages of peers on addresses: ring and votes that we send can be decoded by peers, and those that we save by
// the next start.
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Claims, Consensus, type NodeId, nodeKey } from "../../lib/ipam/consensus.ts";
import type { RingState } from "../../lib/ipam/ring/entry.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { allocatorStore } from "../../lib/ipam/saved.ts";
import {
  decodeRange,
  decodeState,
  encodeRangeMessage,
  encodeState,
  type IpamState,
} from "../../lib/ipam/wire.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Store } from "../../lib/store/store.ts";
import { fc } from "../support/fastcheck.ts";
import { mergeInto } from "../support/rings.ts";

const RUNS = { numRuns: 40 };
const START = 0x0a200000;
const SIZE = 16;
const END = START + SIZE;

const folder = mkdtempSync(join(tmpdir(), "weave-roundtrip-"));
const store = Store.open(join(folder, "weave.db"));
const saved = allocatorStore(store);
afterAll(() => {
  store.close();
  rmSync(folder, { recursive: true });
});

/** What arrives of what somebody sends; undefined where it is refused. */
function arrived(sent: Pick<IpamState, "consensus" | "ring">): IpamState | undefined {
  try {
    return decodeState(encodeState({ now: NOW, nicknames: new Map(), ...sent }));
  } catch (error) {
    expect(["GobError", "PeerNameError", "IpamError"]).toContain((error as Error).name);
    return undefined;
  }
}

const peerName = fc.nat(3).map((i) => nameFromNumber(BigInt(i + 1)));
const OURS = nameFromNumber(1n);
const NOW = 1_700_000_000n;

test("the ring", () => {
  const version = fc.oneof(fc.nat(3), fc.constantFrom(2 ** 32 - 1, 2 ** 32 - 2, 2 ** 31));
  const entry = fc.record({ token: fc.nat(SIZE - 1), peer: peerName, version, free: fc.nat(SIZE) });
  const ringState: fc.Arbitrary<RingState> = fc
    .uniqueArray(entry, { selector: ({ token }) => token, maxLength: 5 })
    .map((entries) => ({
      start: START,
      end: END,
      seeds: [],
      entries: entries
        .sort((a, b) => a.token - b.token)
        .map(({ token, free, ...rest }, i) => {
          const next = (entries[i + 1]?.token ?? SIZE + (entries[0]?.token ?? 0)) - token;
          return { token: START + token, free: Math.min(free, next), ...rest };
        }),
    }));
  const step = fc.oneof(
    ringState.map((hear) => ({ hear })),
    fc.record({ grant: fc.nat(SIZE - 2), to: peerName }),
    fc.record({ from: peerName, heir: peerName }),
    fc.record({ free: fc.nat(3) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, inUse) => {
      const ring = new Ring(START, END, OURS);
      ring.claimForPeers([OURS, nameFromNumber(2n)]);
      for (const step of steps) {
        try {
          if ("hear" in step) {
            const heard = arrived({ consensus: undefined, ring: { ...step.hear, peer: OURS } })?.ring;
            if (heard) mergeInto(ring, heard, () => inUse);
          } else if ("grant" in step) ring.grant(START + step.grant, START + step.grant + 1, step.to);
          else if ("heir" in step) ring.transfer(step.from, step.heir);
          else ring.reportFree(({ start, end }) => Math.min(step.free, end - start));
        } catch (error) {
          expect((error as Error).name).toBe("RingError");
        }
        const state = { ...ring.state(), peer: OURS };
        const message = encodeState({ now: NOW, nicknames: new Map(), consensus: undefined, ring: state });
        expect(decodeState(message).ring).toEqual(state);
        saved.saveRing(state);
        expect(saved.loadRing()).toMatchObject(state);
        // Whoever starts with it, or hears of it, takes it in.
        new Ring(START, END, OURS).restore(state);
        mergeInto(new Ring(START, END, nameFromNumber(9n)), state, () => false);
      }
    }),
    RUNS,
  );
});

test("votes on the first division", () => {
  const round = fc.oneof(
    fc.nat(3),
    fc.constantFrom(2 ** 32, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 1),
  );
  const node: fc.Arbitrary<NodeId> = fc.record({
    name: peerName,
    uid: fc.constantFrom(1n, 7n, (1n << 64n) - 1n),
  });
  const proposal = fc.record({ round, proposer: node });
  const claims: fc.Arbitrary<Claims> = fc.record({
    promise: proposal,
    accepted: proposal,
    acceptedValue: fc.record({ value: fc.array(peerName, { maxLength: 3 }), origin: proposal }),
  });
  const alleged = fc.array(fc.record({ id: node, claims }), { maxLength: 4 });
  fc.assert(
    fc.property(fc.array(alleged, { maxLength: 5 }), fc.nat(3), (messages, quorum) => {
      const us = { name: OURS, uid: 7n };
      const consensus = new Consensus(us);
      consensus.quorum = quorum + 1;
      for (const message of messages) {
        const sent = new Map(message.map((vote) => [nodeKey(vote.id), vote]));
        const heard = arrived({ consensus: sent, ring: undefined })?.consensus;
        if (heard) consensus.update(heard);
        consensus.think();
        consensus.propose();
        consensus.think();
        const bytes = encodeState({
          now: NOW,
          nicknames: new Map(),
          consensus: consensus.state,
          ring: undefined,
        });
        expect(decodeState(bytes).consensus).toEqual(new Map(consensus.state));
        saved.saveVote(consensus.own);
        expect(saved.loadVote()).toEqual(consensus.own);
      }
    }),
    RUNS,
  );
});

test("requests for ranges", () => {
  const range = fc
    .tuple(fc.nat(0xffffffff), fc.nat(0xffffffff))
    .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) + 1 }));
  fc.assert(
    fc.property(range, (asked) => {
      expect(decodeRange(encodeRangeMessage(0, asked).subarray(1))).toEqual(asked);
    }),
    RUNS,
  );
});

test("who holds which addresses", () => {
  const address = fc.nat(0xffffffff);
  const holder = fc.record({
    isContainer: fc.boolean(),
    cidrs: fc.array(fc.record({ address, prefix: fc.nat(32) }), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), holder, (id, owned) => {
      saved.saveHolder(id, owned);
      expect(saved.loadHolders().get(id)).toEqual(owned);
      saved.saveHolder(id, undefined);
    }),
    RUNS,
  );
});
