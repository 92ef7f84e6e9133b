// Numbers of peers: the same for a name until there have been more names than any network has, and in the order of names on demand.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import { nameFromInteger, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { MAX_NUMBERS, nameOfNumber, numberEra, numberOf, numbersByName } from "../../lib/mesh/numbers.ts";
import { encodeTopology, Peer } from "../../lib/mesh/peer.ts";
import { Peers } from "../../lib/mesh/peers.ts";
import { Routes } from "../../lib/mesh/routes.ts";
import { linksOf } from "../support/links.ts";

/** Far from the names of other tests. */
const name = (i: number) => nameFromInteger(0x7000_0000_0000 + i);

/** What the first of a line of peers knows. */
function line(length: number): Peers {
  const peers = Array.from(
    { length },
    (_, i) => new Peer({ ...Peer.placeholder(name(i)), uid: 1n, version: 1 }),
  );
  peers.forEach((peer, i) => {
    for (const remote of [peers[i - 1], peers[i + 1]])
      if (remote) linksOf(peer).set(remote.name, { remote, address: "", outbound: true, established: true });
  });
  const [ourself, ...others] = peers;
  const known = new Peers(ourself ?? expect.unreachable(), new SimulatedClock(), seededRandom(1n), {
    peersGone() {},
    shortIdsInvalidated() {},
    ourselfChanged() {},
    exhausted() {},
    refused() {},
  });
  atOnce(known.apply(encodeTopology(others), { fresh: new Set(), stale: new Set() }));
  return known;
}

test("numbers stay, sort by names, and begin anew after 65,536 names, routes with them", () => {
  const [b, a] = [numberOf(name(2)), numberOf(name(1))];
  expect([numberOf(name(2)), nameOfNumber(b), nameOfNumber(a)]).toEqual([b, name(2), name(1)]);
  const all = [...numbersByName()].map(nameOfNumber);
  expect(all).toEqual([...all].sort());

  const peers = line(40);
  const routes = new Routes(peers.ourself, peers);
  const look = () => [
    [name(39), name(40)].map((to) => routes.reaches(to)),
    routes.broadcastAll(name(0)),
    [...routes.unicastAll].sort(),
    routes.reachable(),
  ];
  const before = look();
  expect(before).toEqual([
    [true, false],
    [name(1)],
    Array.from({ length: 40 }, (_, i) => [name(i), i === 0 ? UNKNOWN_PEER : name(1)]),
    40,
  ]);
  const era = numberEra();
  for (let i = 0; numberEra() === era; i++) numberOf(name(1_000 + i));
  expect(() => nameOfNumber(MAX_NUMBERS - 1)).toThrow(RangeError);
  routes.invalidate();
  expect(look()).toEqual(before);
});
