// Safety of consensus: an agreed value stays, whatever participants die and whatever messages are lost (Paxos).
import { describe, expect, test } from "bun:test";
import { Consensus, type NodeId } from "../../lib/ipam/consensus.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { randomOf } from "../support/seed.ts";

const idOf = (i: number): NodeId => ({ name: nameFromNumber(BigInt(i + 1)), uid: BigInt(i + 1) });

/** Participants that know no other yet, with a majority as quorum. */
function participants(count: number): Consensus[] {
  return Array.from({ length: count }, (_, i) => {
    const node = new Consensus(idOf(i));
    node.quorum = Math.floor(count / 2) + 1;
    return node;
  });
}

/** Send the view of one participant to others, which count. */
function tell(from: Consensus | undefined, ...others: (Consensus | undefined)[]): void {
  for (const to of others) if (from && to?.update(new Map(from.state))) to.think();
}

describe("a proposer that dies when some have accepted", () => {
  test("is outvoted by nobody: the next one goes on with its value", () => {
    const [a, b, c, d, e] = participants(5);
    a?.propose();
    tell(a, b, c);
    tell(b, a);
    tell(c, a);
    // It has a quorum of promises, and accepts; one other hears of it before it dies.
    const value = a?.own.claims.acceptedValue.value;
    expect(value?.length).toBe(3);
    tell(a, b);
    expect(b?.own.claims.acceptedValue.value).toEqual(value ?? []);
    expect([a?.agreed(), b?.agreed()]).toEqual([undefined, undefined]);
    tell(b, d);
    tell(e, d);
    d?.propose();
    tell(d, b, c, e);
    for (const node of [b, c, e]) tell(node, d);
    tell(d, b, c, e);
    for (const node of [b, c, e]) tell(node, d);
    expect(d?.agreed()).toEqual(value ?? []);
    tell(d, b, c, e);
    for (const node of [b, c, e]) expect(node?.agreed()).toEqual(value ?? []);
  });

  test("is not followed by one that has promised a later round meanwhile", () => {
    const [a, b, c, d, e] = participants(5);
    a?.propose();
    tell(a, b, c);
    tell(b, a);
    tell(c, a);
    expect(a?.own.claims.accepted.round).toBe(1);
    tell(c, e);
    e?.propose();
    tell(e, d, c);
    expect(c?.own.claims.promise.round).toBe(2);
    tell(a, c);
    expect(c?.own.claims.accepted.round).toBe(0);
  });

  test("is bound by its promise after a restart, and accepts nothing before it knows the quorum", () => {
    const [a, b, c] = participants(3);
    c?.propose();
    const again = new Consensus(idOf(2), c?.own.claims);
    a?.propose();
    tell(a, again);
    expect(again.own.claims).toEqual(c?.own.claims ?? expect.unreachable());
    again.quorum = 2;
    tell(c, b);
    tell(b, again);
    expect(again.own.claims.accepted.round).toBe(1);
  });

  test("before anybody has accepted is forgotten: the next one proposes all that it knows", () => {
    const [a, b, c] = participants(3);
    a?.propose();
    tell(a, b, c);
    tell(c, b);
    b?.propose();
    tell(b, c);
    tell(c, b);
    expect(b?.own.claims.acceptedValue.value.toSorted()).toEqual([0, 1, 2].map((i) => idOf(i).name));
  });
});

test("no two ever agree on different values, in 600 random histories with losses, late news, restarts and deaths", () => {
  const random = randomOf("consensus");
  let agreements = 0;
  for (let run = 0; run < 600; run++) {
    const count = 3 + random.below(3);
    const nodes = participants(count);
    const quorum = nodes[0]?.quorum ?? 0;
    const alive = new Set(nodes.keys());
    let agreed: readonly string[] | undefined;
    // A message may arrive much later.
    const said: Parameters<Consensus["update"]>[0][] = [];
    for (let step = 0; step < 150; step++) {
      const at = random.below(count);
      const node = nodes[at];
      if (!node || !alive.has(at)) continue;
      const what = random.below(22);
      if (what === 0 && alive.size > quorum) alive.delete(at);
      else if (what === 1) {
        node.quorum = quorum;
        node.propose();
      } else if (what === 21) nodes[at] = new Consensus(idOf(at), node.own.claims);
      else if (what < 9) said.push(new Map(node.state));
      else {
        const message = said[said.length - 1 - random.below(Math.min(said.length, 8))];
        if (message && node.update(message)) node.think();
      }
      const value = node.agreed();
      if (!value) continue;
      agreements++;
      agreed ??= value;
      if (value.join() !== agreed.join())
        throw new Error(`run ${run}, step ${step}: ${value.join()} after ${agreed.join()}`);
    }
  }
  expect(agreements).toBeGreaterThan(100);
});
