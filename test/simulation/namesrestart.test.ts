// Names of a host whose router restarts, in a network of four: gossip of topology and of names arrives in any order, connections
// end and are made again, and not all peers notice the restart.
import { expect, test } from "bun:test";
import type { Random } from "../../lib/clock/random.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import type { SavedEntry } from "../../lib/dns/saved.ts";
import { randomOf } from "../support/seed.ts";
import { launchNamed, type NamedHost } from "../support/simulatednames.ts";
import { Simulation } from "../support/simulation.ts";

/** Shortest restart; others take up to SPREAD_MS more. */
const AWAY_MS = 300;
const SPREAD_MS = 12_000;
const HOSTS = [1, 2, 3, 4];
const [MESHES, RESTARTS] = [10, 20];
/** Far below the interval of periodic gossip. */
const KNOWN_MS = 10_000;

const nameOf = (i: number) => `n${i}.weave.local.`;
const saved = (i: number): SavedEntry[] => [
  { hostname: nameOf(i), containerId: "c", address: 0x0a200000 + i, version: 0 },
];

const launch = (simulation: Simulation, i: number) => launchNamed(simulation, i, saved(i));

function stop(simulation: Simulation, { peer, names }: NamedHost): void {
  names.stop();
  simulation.kill(peer);
}

const know = (hosts: readonly NamedHost[], i: number) =>
  hosts.every(({ names }) => names.lookup(nameOf(i)).length === 1);

async function restarts(random: Random, slowMs: number): Promise<number> {
  const simulation = new Simulation(random.u64());
  const hosts = HOSTS.map((i) => launch(simulation, i));
  const connect = ({ peer }: NamedHost) =>
    simulation.connect(peer, ...hosts.map((each) => each.peer).filter((each) => each !== peer));
  for (const host of hosts) await connect(host);
  simulation.until(() => simulation.meshed() && HOSTS.every((i) => know(hosts, i)), 60_000);
  simulation.slowMs = slowMs;
  for (let n = 0; n < RESTARTS; n++) {
    const at = below(random, HOSTS.length);
    const i = at + 1;
    stop(simulation, hosts[at] as NamedHost);
    simulation.clock.advance(AWAY_MS + below(random, SPREAD_MS));
    const host = launch(simulation, i);
    hosts[at] = host;
    await connect(host);
    simulation.until(() => know(hosts, i), KNOWN_MS, 100);
    // The next restart comes before or after periodic gossip.
    simulation.clock.advance(below(random, 2) ? 1_000 : 40_000);
  }
  for (const host of hosts) stop(simulation, host);
  return RESTARTS;
}

test("all hosts know the names of a host within 10 s of a restart of its router, without periodic gossip", async () => {
  const random = randomOf("restarts of routers with names");
  for (let n = 0; n < MESHES; n++)
    expect(await restarts(seededRandom(random.u64()), n % 2 ? 300 : 5)).toBe(RESTARTS);
});
