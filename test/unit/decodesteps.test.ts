// What peers send is decoded in steps, so that nobody waits for a long message: work is counted as decoding charges it.
import { afterEach, expect, spyOn, test } from "bun:test";
import type { Work } from "../../lib/clock/slices.ts";
import { encodeNames, readNames } from "../../lib/dns/wire.ts";
import { Budget } from "../../lib/gob/budget.ts";
import { encodeState, readState } from "../../lib/ipam/wire.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer, readTopology } from "../../lib/mesh/peer.ts";

const MANY = 4_000;
/** A step takes less than a ms: 64 structs of 6 fields cost 13,000. */
const MOST = 16_000;

const name = (i: number) => nameFromNumber(BigInt(i));
const spend = spyOn(Budget.prototype, "spend");
afterEach(() => spend.mockClear());

function topology(): Uint8Array {
  const own = new Peer({ ...Peer.placeholder(name(1)), uid: 7n });
  for (let i = 0; i < MANY; i++) {
    const remote = Peer.placeholder(name(100 + i));
    own.connections.set(remote.name, {
      ...{ remote, address: "10.0.0.1:6783", outbound: true, established: true },
    });
  }
  return encodeTopology([own]);
}

function ring(): Uint8Array {
  const entries = Array.from({ length: MANY }, (_, i) => ({
    ...{ token: 0x0a200000 + i * 16, peer: name(i % 3), version: i, free: 16 },
  }));
  const [start, end] = [0x0a200000, 0x0a300000];
  const made = { start, end, peer: name(1), entries, seeds: [name(1)] };
  return encodeState({ now: 1n, nicknames: new Map(), consensus: undefined, ring: made });
}

function names(): Uint8Array {
  const entries = Array.from({ length: MANY }, (_, i) => ({
    ...{ hostname: `n${i}.weave.local.`, origin: name(1), containerId: `c${i}` },
    ...{ address: i, version: 1, tombstone: 0 },
  }));
  return encodeNames({ timestamp: 1, entries });
}

test.each<[string, () => Work<unknown>]>([
  ["a topology", () => readTopology(topology(), () => true)],
  ["a ring", () => readState(ring())],
  ["names", () => readNames(names())],
])("%s", (_, read) => {
  const work = read();
  const steps: number[] = [];
  const charged = () => spend.mock.calls.splice(0).reduce((sum, [units]) => sum + units, 0);
  for (let done: boolean | undefined = false; !done; ) {
    done = work.next().done;
    steps.push(charged());
  }
  expect(Math.max(...steps)).toBeLessThan(MOST);
  expect(steps.reduce((sum, units) => sum + units, 0)).toBeGreaterThan(20 * MOST);
});
