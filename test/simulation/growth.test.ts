// What it costs that many routers start at once: counted in bytes and simulated time, so that nothing else on the machine has a
// part in it.
import { expect, test } from "bun:test";
import { below } from "../../lib/clock/random.ts";
import { Simulation } from "../support/simulation.ts";

const [FEW, MANY] = [8, 16];
const SETTLED_MS = 10_000;
/**
 * Each learns of MANY peers with MANY connections each, so that bytes grow with the square at most; by the handshakes and by
 * what is told together, less: 1.4 when this was written.
 */
const EXPONENT = 1.6;
/** Bytes that a router of MANY sends; 27,000 when this was written. */
const MOST = 34_000;

async function bytesPerRouter(count: number, seed: bigint): Promise<number> {
  const simulation = new Simulation(seed);
  for (let i = 1; i <= count; i++) simulation.add(i);
  const [first, ...others] = simulation.peers;
  for (const peer of others) if (first) await simulation.connect(peer, first);
  expect(simulation.until(() => simulation.meshed(), 10_000, 50)).toBeLessThan(1_000);
  simulation.clock.advance(SETTLED_MS);
  return simulation.network.bytes / count;
}

test("routers that start at once mesh within a second, by bytes that grow slower than what there is to know", async () => {
  const [few, many] = [await bytesPerRouter(FEW, 5n), await bytesPerRouter(MANY, 5n)];
  expect(many).toBeLessThan(MOST);
  expect(Math.log(many / few) / Math.log(MANY / FEW)).toBeLessThan(EXPONENT);
}, 300_000);

/** Routers that may have few connections each, started within a second. */
const CROWD = 24;
const LIMIT = 5;
/** Time until all know all, and bytes that each sends until then; 1,650 to 2,550 ms and 49,000 when this was written. */
const CROWD_MS = 3_000;
const CROWD_BYTES = 54_000;

test("routers with few connections come to know all others within seconds, by few bytes", async () => {
  const simulation = new Simulation(5n);
  const { clock, network, random, peers } = simulation;
  const started = clock.now();
  for (let i = 1; i <= CROWD; i++) {
    const others = [peers[0], peers[below(random, Math.max(1, i - 1))]].flatMap((other) => other ?? []);
    await simulation.connect(simulation.add(i, { connectionLimit: LIMIT }), ...others);
    clock.advance(1_000 / CROWD);
  }
  simulation.until(() => simulation.converged(), 60_000, 50);
  expect(clock.now() - started).toBeLessThan(CROWD_MS);
  expect(network.bytes / CROWD).toBeLessThan(CROWD_BYTES);
}, 300_000);
