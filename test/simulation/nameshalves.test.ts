// Names in a young network that parts and meets again within seconds: each side forgets the other's names, not all hosts at one
// time, and new names are broadcast meanwhile.
import { expect, test } from "bun:test";
import { below, type Random, seededRandom } from "../../lib/clock/random.ts";
import { launchNamed } from "../support/simulatednames.ts";
import { Simulation } from "../support/simulation.ts";

/** Networks of 600 random ones that took until periodic gossip, for 12 to 20 s, when it was not repeated sooner. */
const SEEDS = [
  6329293210626079913n,
  7010873661744790976n,
  10102623502488218853n,
  5396417472799171790n,
  3313423653099871444n,
  4768839745118781492n,
];
const [LEAST, MOST] = [4, 8];
const PARTINGS = 3;
/** The longest time apart, and together. */
const SPELL_MS = 5_000;
/** Far below the interval of periodic gossip. */
const KNOWN_MS = 10_000;
const STEP_MS = 100;

/** Return the ms until all hosts know all names, once all are connected again. */
async function partings(random: Random): Promise<number> {
  const simulation = new Simulation(random.u64());
  const size = LEAST + below(random, MOST - LEAST + 1);
  const hosts = Array.from({ length: size }, (_, i) => launchNamed(simulation, i + 1));
  const left = new Set(hosts.slice(0, 1 + below(random, size - 1)));
  const across = hosts.flatMap((a) =>
    hosts.flatMap((b) => (left.has(a) && !left.has(b) ? [[a, b] as const] : [])),
  );
  const connect = async () => {
    for (const { peer } of hosts)
      await simulation.connect(peer, ...hosts.map((each) => each.peer).filter((each) => each !== peer));
  };
  const wait = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      simulation.clock.advance(STEP_MS);
      await Promise.resolve();
    }
  };
  await connect();
  for (const [i, { names }] of hosts.entries()) names.add(`n${i}.weave.local.`, `c${i}`, 0x0a200001 + i);
  await wait(below(random, SPELL_MS));
  for (let n = 0; n < PARTINGS; n++) {
    for (const [a, b] of across) {
      simulation.network.cut(a.peer.ip, b.peer.ip, true);
      a.peer.router.connections.get(b.peer.router.ourself.name)?.shutdown(new Error("cut"));
      b.peer.router.connections.get(a.peer.router.ourself.name)?.shutdown(new Error("cut"));
    }
    hosts[below(random, size)]?.names.add(`k${n}.weave.local.`, `k${n}`, 0x0a200100 + n);
    await wait(below(random, SPELL_MS));
    for (const [a, b] of across) simulation.network.cut(a.peer.ip, b.peer.ip, false);
    await wait(below(random, SPELL_MS));
  }
  await connect();
  const wanted = size + PARTINGS;
  const known = () =>
    hosts.every(
      ({ names }) => [...names.entries.all()].filter(({ tombstone }) => tombstone === 0).length === wanted,
    );
  while (!simulation.meshed()) await wait(STEP_MS);
  const start = simulation.clock.now();
  while (!known()) await wait(STEP_MS);
  const took = simulation.clock.now() - start;
  for (const { peer, names } of hosts) {
    names.stop();
    simulation.kill(peer);
  }
  return took;
}

test.each(SEEDS.map((seed) => [String(seed), seed] as const))(
  "halves that meet again know each other's names within 10 s: network %s",
  async (_, seed) => {
    expect(await partings(seededRandom(seed))).toBeLessThanOrEqual(KNOWN_MS);
  },
);
