// Hand-over of a leaving peer's space, and the vote on the first ring: who is asked, how often, and for how long.
import { describe, expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Consensus, nodeKey } from "../../lib/ipam/consensus.ts";
import { Handover } from "../../lib/ipam/handover.ts";
import type { RingState } from "../../lib/ipam/ring/entry.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { decodeState } from "../../lib/ipam/wire.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { MemoryDisk } from "../support/allocators.ts";
import { ONE, onePeer, SUBNET, THREE, TWO, watched } from "../support/onepeer.ts";

const FOUR = nameFromNumber(4n);

describe("a hand-over", () => {
  function leaving(peers: readonly PeerName[] = [ONE, TWO]) {
    const clock = new SimulatedClock(7_000);
    const ring = new Ring(0, 64, ONE);
    ring.claimForPeers(peers);
    const asked: [number, PeerName][] = [];
    const candidates: PeerName[] = [];
    const transfers: PeerName[] = [];
    const handover = new Handover({
      ...{ ring, clock },
      candidates: () => candidates,
      exchange: (peer) => asked.push([clock.now() - 7_000, peer]),
      transfer(heir) {
        transfers.push(heir);
        ring.transfer(ONE, heir);
      },
    });
    const pass = async (ms: number) => {
      for (let passed = 0; passed < ms; passed += 10) {
        clock.advance(Math.min(10, ms - passed));
        for (let turn = 0; turn < 4; turn++) await Promise.resolve();
      }
    };
    const state = (): RingState => ring.state();
    return { clock, ring, asked, candidates, transfers, handover, pass, state };
  }

  test("asks each candidate every 500 ms for 3 s, 16 at most, and says that none has answered", async () => {
    const { asked, candidates, handover, pass, transfers } = leaving();
    candidates.push(...Array.from({ length: 20 }, (_, i) => nameFromNumber(BigInt(10 + i))));
    const outcome = watched(handover.run());
    await pass(2_990);
    expect(outcome()).toBe("waiting");
    await pass(20);
    expect(outcome()).toStartWith(
      "cannot hand the addresses of this host to another peer: no peer has answered within 3 s; use --force",
    );
    expect(outcome()).toEndWith(`run 'weave rmpeer ${ONE}' on another host`);
    expect([...new Set(asked.map(([at]) => at))]).toEqual([0, 500, 1_000, 1_500, 2_000, 2_500]);
    expect(new Set(asked.map(([, peer]) => peer))).toEqual(new Set(candidates.slice(0, 16)));
    expect(transfers).toEqual([]);
    await pass(5_000);
    expect(asked).toHaveLength(6 * 16);
  });

  test("that is asked for twice is one, and both hear of its end; a failed one is repeated", async () => {
    const { asked, candidates, handover, pass, transfers, state } = leaving();
    candidates.push(TWO);
    const failed = [watched(handover.run()), watched(handover.run())];
    await pass(3_100);
    for (const outcome of failed) expect(outcome()).toContain("no peer has answered");
    expect(asked).toHaveLength(6);
    const first = watched(handover.run());
    await pass(100);
    const second = watched(handover.run());
    await pass(100);
    handover.heard(TWO, state());
    await pass(100);
    expect(transfers).toEqual([TWO]);
    handover.heard(TWO, state());
    await pass(100);
    expect([first(), second()]).toEqual([TWO, TWO]);
  });

  test("goes to the first that answers, of those asked, once; it is done when the heir's ring has nothing of ours", async () => {
    const { asked, candidates, handover, pass, transfers, state } = leaving();
    candidates.push(TWO, THREE);
    const before = state();
    const outcome = watched(handover.run());
    handover.heard(FOUR, before);
    await pass(100);
    expect(transfers).toEqual([]);
    handover.heard(THREE, before);
    handover.heard(TWO, before);
    await pass(10);
    expect(transfers).toEqual([THREE]);
    asked.length = 0;
    handover.heard(THREE, before);
    handover.heard(TWO, state());
    await pass(500);
    expect([outcome(), asked.map(([, peer]) => peer)]).toEqual(["waiting", [THREE]]);
    handover.heard(THREE, state());
    await pass(10);
    expect(outcome()).toBe(THREE);
    asked.length = 0;
    await pass(5_000);
    expect(asked).toEqual([]);
  });

  test("that is not acknowledged says so after 3 s, and is repeated with the same heir", async () => {
    const { candidates, handover, pass, transfers, state } = leaving();
    candidates.push(TWO);
    const outcome = watched(handover.run());
    handover.heard(TWO, state());
    await pass(2_990);
    expect(outcome()).toBe("waiting");
    await pass(20);
    expect(outcome()).toStartWith(
      `peer ${TWO} has not acknowledged the addresses of this host within 3 s; try again`,
    );
    candidates.splice(0, 1, THREE);
    const again = watched(handover.run());
    await pass(20);
    expect(transfers).toEqual([TWO, TWO]);
    handover.heard(TWO, state());
    await pass(10);
    expect(again()).toBe(TWO);
  });

  test("waits a second for a connection that is being made, looking every 100 ms", async () => {
    const { asked, candidates, handover, pass } = leaving();
    const outcome = watched(handover.run());
    await pass(850);
    candidates.push(TWO);
    await pass(60);
    expect(asked).toEqual([[900, TWO]]);
    expect(outcome()).toBe("waiting");
  });

  test("is refused where no peer can be reached that is in the ring, and needless where there is none", async () => {
    const { handover, pass, asked } = leaving();
    const outcome = watched(handover.run());
    await pass(990);
    expect(outcome()).toBe("waiting");
    await pass(20);
    expect(outcome()).toContain("no peer can be reached");
    expect(asked).toEqual([]);
    for (const peers of [[ONE], [ONE, UNKNOWN_PEER].sort()]) {
      const alone = leaving(peers);
      const left = watched(alone.handover.run());
      await alone.pass(1_010);
      expect(left()).toBeUndefined();
    }
    for (const peers of [[], [TWO]]) {
      const nothing = leaving(peers);
      const left = watched(nothing.handover.run());
      await nothing.pass(10);
      expect(left()).toBeUndefined();
    }
  });
});

test("an heir is an owner of space, else one that runs an allocator, and never a name of two hosts", async () => {
  const five = nameFromNumber(5n);
  const reachable = [five, FOUR, THREE, TWO];
  const { allocator, sent, tell, pass, said } = onePeer({
    reachable,
    config: { seed: [ONE, TWO], isAmbiguous: (name) => name === five },
  });
  tell(FOUR, { nicknames: new Map([[FOUR, "four"]]) });
  said();
  const left = watched(allocator.shutdown());
  const asked = sent.filter(({ what }) => what === "question").map(({ to }) => to);
  expect(asked).toEqual([TWO, FOUR, THREE]);
  await pass(3_100, 100);
  expect(left()).toContain("no peer has answered");
  allocator.stop();
});

describe("the vote on the first ring", () => {
  const voting = (options: Parameters<typeof onePeer>[0] = {}) =>
    onePeer({ ...options, config: { seed: [], quorum: () => 2, ...options?.config } });
  /** What it gossips. */
  const gossiped = ({ allocator }: Pick<ReturnType<typeof onePeer>, "allocator">) => {
    const [message] = [...(allocator.gossiper.gossip()?.encode() ?? [])];
    if (!message) throw new Error("no gossip");
    return decodeState(message);
  };
  const peerTwo = (quorum = 2) => {
    const two = new Consensus({ name: TWO, uid: 2n });
    two.quorum = quorum;
    return two;
  };

  test("of a quorum of one is over at once; its ring is ours alone", () => {
    const { allocator, said, lines } = onePeer({ config: { seed: [] } });
    void allocator.prime();
    expect(allocator.ring.seeds).toEqual([ONE]);
    expect(said()).toContain("ring all");
    expect(lines).toContain("info: assuming a quorum");
    expect(allocator.gate.features()).toEqual({ IPAM: "10.32.0.0/26" });
    allocator.stop();
  });

  test("begins within 2 ms for each peer of the quorum, and again after 2.5 to 5 s without an outcome", async () => {
    const { allocator, said, pass } = voting({ config: { quorum: () => 50 } });
    void allocator.prime().catch(() => {});
    expect(said()).toEqual([]);
    await pass(100, 1);
    expect(said()).toEqual(["votes all"]);
    await pass(2_400);
    expect(said()).toEqual([]);
    await pass(2_600);
    expect(said()).toEqual(["votes all"]);
    expect(allocator.report(SUBNET).Paxos).toEqual({ Elector: true, KnownNodes: 1, Quorum: 50 });
    allocator.stop();
    await pass(30_000, 500);
    expect(said()).toEqual([]);
  });

  test("is answered to the proposer alone, or to all where no route leads there; saved before it is sent", async () => {
    for (const reachable of [[TWO], []]) {
      const { allocator, said, pass, tell, store } = voting({ reachable });
      const two = peerTwo();
      two.propose();
      expect(store.loadVote()).toBeUndefined();
      tell(TWO, { consensus: two.state });
      await pass(5, 1);
      expect(said()).toEqual([reachable.length > 0 ? `votes ${TWO}` : "votes all"]);
      expect(store.loadVote()?.claims.promise.proposer.name).toBe(TWO);
      expect(allocator.ring.empty).toBe(true);
      allocator.stop();
    }
  });

  test("with a quorum of promises ends in a ring of all that are known", async () => {
    const { allocator, pass, tell, said } = voting({ reachable: [TWO] });
    const outcome = watched(allocator.prime());
    await pass(10, 1);
    const two = peerTwo();
    two.update(gossiped({ allocator }).consensus ?? new Map());
    two.think();
    tell(TWO, { consensus: two.state });
    await pass(5, 1);
    two.update(gossiped({ allocator }).consensus ?? new Map());
    two.think();
    said();
    tell(TWO, { consensus: two.state });
    await pass(5, 1);
    expect([allocator.ring.seeds, outcome()]).toEqual([[ONE, TWO], undefined]);
    expect(said()).toEqual(["ring all"]);
    // Who waits is sent the ring, and there is no vote any more.
    tell(TWO, { consensus: two.state });
    expect(said()).toEqual([`ring ${TWO}`]);
    await pass(60_000, 1_000);
    expect(said()).toEqual([]);
    allocator.stop();
  });

  test("is left to a proposer that is known; who waits reminds it every 5 s, and proposes after 10 to 20 s", async () => {
    const { allocator, said, pass, tell } = voting({ reachable: [TWO] });
    const two = peerTwo();
    two.propose();
    tell(TWO, { consensus: two.state });
    await pass(5, 1);
    said();
    void allocator.prime().catch(() => {});
    await pass(4_990);
    expect(said()).toEqual([]);
    await pass(10);
    expect(said()).toEqual([`votes ${TWO}`]);
    await pass(5_000);
    expect(said()).toEqual([`votes ${TWO}`]);
    await pass(10_000);
    expect(said()).toContain("votes all");
    allocator.stop();
  });

  test("is held up by named peers that have not been heard, and goes on within 250 ms after", async () => {
    const unheard = ["h9"];
    const { allocator, said, lines, pass, tell } = voting({
      reachable: [TWO],
      config: { unheard: () => unheard },
    });
    void allocator.prime().catch(() => {});
    const two = peerTwo();
    two.propose();
    tell(TWO, { consensus: two.state });
    await pass(10_000);
    expect(said().filter((line) => line.startsWith("votes"))).toEqual([]);
    expect(lines).toContain("info: waiting for peers before dividing the range");
    unheard.length = 0;
    await pass(254);
    expect(said()).toEqual(["votes all"]);
    allocator.stop();
  });

  test("is not taken part in by an observer: it asks, is answered by a ring, and reminds every 5 s", async () => {
    const { allocator, said, pass } = voting({ reachable: [TWO], config: { observer: true } });
    void allocator.prime().catch(() => {});
    expect(said()).toEqual(["question all"]);
    await pass(10_000, 500);
    expect(said()).toEqual(["question all", "question all"]);
    expect(allocator.report(SUBNET).Paxos).toEqual({ Elector: false, KnownNodes: 0, Quorum: 0 });
    allocator.stop();
  });

  test("is begun by an observer's question, but not by one of nobody, nor by gossip", async () => {
    const { allocator, tell, pass, said } = voting({ reachable: [TWO] });
    await pass(100);
    expect(said()).toEqual([]);
    tell(TWO, {});
    await pass(5, 1);
    expect(said()).toEqual(["votes all"]);
    allocator.stop();
  });

  test("binds a participant after a restart, under its old uid; a vote of another name does not", () => {
    const disk = new MemoryDisk();
    const two = peerTwo();
    two.propose();
    const claims = two.own.claims;
    disk.mount().saveVote({ id: { name: ONE, uid: 77n }, claims });
    const subject = voting({ store: disk.mount(), reachable: [TWO] });
    void subject.allocator.prime().catch(() => {});
    subject.clock.advance(30_000);
    expect([...(gossiped(subject).consensus ?? new Map()).keys()]).toEqual([
      nodeKey({ name: ONE, uid: 77n }),
    ]);
    subject.allocator.stop();
    const foreign = new MemoryDisk();
    foreign.mount().saveVote({ id: { name: THREE, uid: 3n }, claims });
    const other = voting({ store: foreign.mount(), config: { quorum: () => 1 } });
    void other.allocator.prime();
    expect(other.allocator.ring.seeds).toEqual([ONE]);
    other.allocator.stop();
  });

  test.each([
    ["its own range", SUBNET, [ONE, TWO]],
    ["another range", parseCidr("10.40.0.0/24"), [ONE]],
  ])("that was accepted binds on %s", (_what, universe, seeds) => {
    const disk = new MemoryDisk();
    const first = voting({ store: disk.mount(), reachable: [TWO] });
    const two = peerTwo();
    two.propose();
    first.tell(TWO, { consensus: two.state });
    first.clock.advance(10);
    two.update(gossiped(first).consensus ?? new Map());
    two.think();
    first.tell(TWO, { consensus: two.state });
    first.clock.advance(10);
    first.allocator.stop();
    expect(disk.mount().loadVote()?.claims.acceptedValue.value).toEqual([TWO, ONE]);
    const { allocator } = voting({ store: disk.mount(), config: { quorum: () => 1, universe } });
    void allocator.prime().catch(() => {});
    allocator.stop();
    expect(allocator.ring.seeds).toEqual(seeds);
  });
});

describe("consensus", () => {
  test("takes its rivals from proposers with greater names alone", () => {
    const two = new Consensus({ name: TWO, uid: 2n });
    for (const [name, uid] of [
      [ONE, 1n],
      [THREE, 3n],
    ] as const) {
      const other = new Consensus({ name, uid });
      other.propose();
      two.update(other.state);
    }
    const silent = new Consensus({ name: FOUR, uid: 4n });
    silent.update(two.state);
    silent.think();
    two.update(new Map([...silent.state].filter(([key]) => key.startsWith(FOUR))));
    expect(two.rivals).toEqual([THREE]);
    expect(two.proposer).toBeUndefined();
    two.think();
    expect(two.proposer).toBe(THREE);
  });

  test("knows no outcome before a quorum is set, and goes on after the last round", () => {
    const one = new Consensus({ name: ONE, uid: 1n });
    one.propose();
    expect(one.agreed()).toBeUndefined();
    one.quorum = 1;
    one.propose();
    expect(one.agreed()).toEqual([ONE]);
    expect(one.own.claims.promise.round).toBe(2);
    const last = { round: 2 ** 32 - 1, proposer: { name: TWO, uid: 2n } };
    one.update(
      new Map([
        [
          nodeKey({ name: TWO, uid: 2n }),
          { id: { name: TWO, uid: 2n }, claims: { ...one.own.claims, promise: last } },
        ],
      ]),
    );
    one.propose();
    expect(one.own.claims.promise.round).toBe(2 ** 32 - 1);
  });

  test("tells what was new once, and keeps the later of two promises and acceptances", () => {
    const [one, two] = [new Consensus({ name: ONE, uid: 1n }), new Consensus({ name: TWO, uid: 2n })];
    two.propose();
    expect([one.update(two.state), one.update(two.state)]).toEqual([true, false]);
    const old = new Map(two.state);
    two.propose();
    expect([one.update(two.state), one.update(old)]).toEqual([true, false]);
    expect(one.think()).toBe(true);
    expect(one.think()).toBe(false);
    expect(one.own.claims.promise.round).toBe(2);
  });

  test("ranks proposals of one round by name, then by uid", () => {
    const node = (uid: bigint, name = TWO) => {
      const made = new Consensus({ name, uid });
      made.propose();
      return made;
    };
    const one = new Consensus({ name: ONE, uid: 1n });
    for (const [next, wins] of [
      [node(5n), true],
      [node(4n), false],
      [node(6n), true],
      [node(1n, THREE), true],
      [node(9n), false],
    ] as const) {
      one.update(next.state);
      expect([next.own.id, one.think()]).toEqual([next.own.id, wins]);
    }
  });
});
