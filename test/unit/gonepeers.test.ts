// Peers that became unreachable are reported in parts of a crowd, each peer once, unless it is back before.
import { expect, spyOn, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer } from "../../lib/mesh/peer.ts";
import { withAddresses } from "../support/allocators.ts";
import { Simulation } from "../support/simulation.ts";

const CROWD = 4_000;
const names = Array.from({ length: CROWD }, (_, i) => nameFromNumber(BigInt(100 + i)));

function bench() {
  const simulation = new Simulation(1n);
  const peer = simulation.add(1);
  const { router } = peer;
  const reports: (readonly Peer[])[] = [];
  router.listen({ peersGone: (peers) => void reports.push(peers) });
  const come = (some = names) => {
    const peers = some.map(
      (name) => new Peer({ name, nickName: "x", uid: 7n, version: 1, shortId: 9, hasShortId: true }),
    );
    atOnce(router.peers.apply(encodeTopology(peers), { fresh: new Set(), stale: new Set() }));
  };
  const go = () => router.peers.collectGarbage();
  const reported = () => reports.flat().map(({ name }) => name);
  return { simulation, peer, router, reports, come, go, reported };
}

test("a crowd is reported in few calls, from the next turn on, and owners of the ring are looked up once in each", () => {
  const { simulation, peer, reports, come, go, reported } = bench();
  withAddresses(simulation, peer);
  come();
  const looked = spyOn(Ring.prototype, "peerNames");
  try {
    go();
    expect(reports).toEqual([]);
    simulation.clock.advance(0);
    expect(reported()).toEqual(names);
    expect(reports.length).toBe(Math.ceil(CROWD / 256));
    expect(looked.mock.calls.length).toBe(reports.length);
  } finally {
    looked.mockRestore();
  }
});

test("a few are reported at once", () => {
  const { come, go, reported } = bench();
  come(names.slice(0, 50));
  go();
  expect(reported()).toEqual(names.slice(0, 50));
});

test("of a crowd those that are back before are not reported; those that go again are, once", () => {
  const { simulation, come, go, reported } = bench();
  come();
  go();
  come();
  go();
  const back = names.slice(0, 1_000);
  come(back);
  simulation.clock.advance(0);
  expect(reported()).toEqual(names.slice(1_000));
  go();
  simulation.clock.advance(0);
  expect(reported().sort()).toEqual([...names].sort());
});

test("nothing is reported after the router stops", () => {
  const { simulation, router, come, go, reported } = bench();
  come();
  go();
  router.stop();
  simulation.clock.advance(1_000);
  expect(reported()).toEqual([]);
});
