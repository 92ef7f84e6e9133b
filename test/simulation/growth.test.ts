// What it costs that many routers start at once, each told of the first: counted in bytes, so that nothing else on the machine
// has a part in it.
import { expect, test } from "bun:test";
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
