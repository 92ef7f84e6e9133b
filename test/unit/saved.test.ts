// What is saved of addresses can be read again, whatever peers have told.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { Consensus, NO_PROPOSAL, nodeKey, type ProposalId } from "../../lib/ipam/consensus.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { allocatorStore } from "../../lib/ipam/saved.ts";
import { decodeState, encodeState } from "../../lib/ipam/wire.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { identity } from "../../lib/router/identity.ts";
import { exposuresStore } from "../../lib/router/savedexposures.ts";
import { Store } from "../../lib/store/store.ts";
import { fc } from "../support/fastcheck.ts";
import { mergeInto } from "../support/rings.ts";

const [START, END] = [0x0a200000, 0x0a200100];
const LAST = 2 ** 32 - 1;

function withStore(use: (open: () => Store) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "weave-saved-"));
  const stores: Store[] = [];
  try {
    use(() => {
      const store = Store.open(join(folder, "weave.db"));
      stores.push(store);
      return store;
    });
  } finally {
    for (const store of stores) store.close();
    rmSync(folder, { recursive: true });
  }
}

const name = fc.bigInt(1n, 5n).map(nameFromNumber);
const version = fc.oneof(fc.nat(9), fc.integer({ min: LAST - 200, max: LAST }));
const entries = fc
  .uniqueArray(
    fc.record({ token: fc.integer({ min: START, max: END - 1 }), peer: name, version, free: fc.constant(0) }),
    {
      selector: ({ token }) => token,
      minLength: 1,
      maxLength: 8,
    },
  )
  .map((list) => list.sort((a, b) => a.token - b.token));

test("a ring that was merged from anything that peers may send is sent and saved as it is", () => {
  withStore((open) => {
    const saved = allocatorStore(open());
    const us = nameFromNumber(1n);
    fc.assert(
      fc.property(fc.array(entries, { minLength: 1, maxLength: 4 }), fc.boolean(), (told, used) => {
        const ring = new Ring(START, END, us);
        for (const list of told) {
          const { disputes } = mergeInto(
            ring,
            { start: START, end: END, seeds: [], entries: list },
            () => used,
          );
          ring.reassert(disputes);
          ring.reportFree(() => 0);
          ring.transfer(nameFromNumber(2n), us);
        }
        saved.saveRing({ ...ring.state(), peer: us });
        expect(saved.loadRing()?.entries).toEqual([...ring.entries]);
        const sent = encodeState({
          now: 0n,
          nicknames: new Map(),
          consensus: undefined,
          ring: { ...ring.state(), peer: us },
        });
        expect(decodeState(sent).ring?.entries).toEqual([...ring.entries]);
      }),
      { numRuns: 100 },
    );
  });
});

test("a version beyond 32 bits, saved by an earlier release, is read as the last one", () => {
  withStore((open) => {
    const store = open();
    const peer = nameFromNumber(1n);
    const entry = { token: START, peer, version: 2 ** 32 + 5, free: 0 };
    store.rows("ipam", v.any()).set("ring", { peer, start: START, end: END, entries: [entry], seeds: [] });
    expect(allocatorStore(store).loadRing()?.entries[0]?.version).toBe(LAST);
  });
});

test("a ring that no router could load is damage: the file is moved aside, and is not saved in the first place", () => {
  withStore((open) => {
    const store = open();
    const peer = nameFromNumber(1n);
    const at = (token: number) => ({ token, peer, version: 1, free: 0 });
    const ring = { peer, start: START, end: END, entries: [at(START + 8), at(START)], seeds: [] };
    expect(() => allocatorStore(store).saveRing(ring)).toThrow("Ring not sorted");
    store.rows("ipam", v.any()).set("ring", ring);
    expect(() => allocatorStore(store).loadRing()).toThrow(
      /"ring" of "ipam" is invalid: Ring not sorted; moved to/,
    );
    expect(allocatorStore(open()).loadRing()).toBeUndefined();
  });
});

test("a round of consensus that a liar proposes is refused where it cannot be saved, else saved and gone on from", () => {
  const liar = { name: nameFromNumber(9n), uid: 9n };
  const told = (round: number) => {
    const promise: ProposalId = { round, proposer: liar };
    const value: PeerName[] = [];
    const claims = { promise, accepted: NO_PROPOSAL, acceptedValue: { value, origin: NO_PROPOSAL } };
    return new Map([[nodeKey(liar), { id: liar, claims }]]);
  };
  const state = (round: number) =>
    encodeState({ now: 0n, nicknames: new Map(), consensus: told(round), ring: undefined });
  expect(() => decodeState(state(LAST + 1))).toThrow("round");
  withStore((open) => {
    const saved = allocatorStore(open());
    const consensus = new Consensus({ name: nameFromNumber(1n), uid: 1n });
    consensus.quorum = 2;
    consensus.update(decodeState(state(LAST)).consensus ?? new Map());
    consensus.think();
    consensus.propose();
    saved.saveVote(consensus.own);
    expect(saved.loadVote()).toEqual(consensus.own);
  });
});

test("what others go by is written through to the disk: ring and vote, and what people said; nothing else is saved with that", () => {
  withStore((open) => {
    const store = open();
    const written: string[] = [];
    let durable = false;
    const watched = new Proxy(store, {
      get(target, key) {
        if (key === "durably")
          return (change: () => void) => {
            durable = true;
            target.durably(change);
            durable = false;
          };
        if (key !== "rows") return Reflect.get(target, key, target);
        return (...args: Parameters<Store["rows"]>) => {
          const rows = target.rows(...args);
          return {
            ...rows,
            get: rows.get,
            set: (row: string, value: never) => written.push(`${row} ${durable}`) && rows.set(row, value),
            delete: (row: string) => written.push(`no ${row} ${durable}`) && rows.delete(row),
          };
        };
      },
    });
    const saved = allocatorStore(watched);
    const us = nameFromNumber(1n);
    saved.saveRing({ peer: us, start: START, end: END, entries: [], seeds: [us] });
    saved.saveVote(new Consensus({ name: us, uid: 1n }).own);
    expect(written.splice(0)).toEqual(["ring true", "vote true"]);
    const damaged = (what: string) => expect.unreachable(what);
    const exposures = exposuresStore(watched, damaged);
    const cidr = parseCidr("10.32.0.1/12");
    exposures.save({ cidr, masquerade: true, range: undefined });
    exposures.remove(cidr);
    const kept = identity(watched, damaged);
    kept.targets.set(["host2"]);
    kept.shortId.set(7);
    expect(written).toEqual(["10.32.0.1/12 true", "no 10.32.0.1/12 true", "targets true", "shortid false"]);
  });
});
