// A day of one network on a simulated clock: connections stay, entries expire, nothing grows.
import { expect, test } from "bun:test";
import type { Clock } from "../../lib/clock/clock.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import { silentLog } from "../../lib/log/log.ts";
import { UNIVERSE, withAddresses } from "../support/allocators.ts";
import type { SimulatedPeer } from "../support/simulation.ts";
import { Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DNS_CHANNEL = "nameserver";

/** A clock that counts the timers that are set. */
function counting(clock: Clock, timers: { set: number }): Clock {
  return {
    now: () => clock.now(),
    wall: () => clock.wall(),
    after(ms, fn) {
      let isSet = true;
      const unset = () => {
        if (isSet) timers.set--;
        isSet = false;
      };
      timers.set++;
      const timer = clock.after(ms, () => {
        unset();
        fn();
      });
      return {
        cancel() {
          unset();
          timer.cancel();
        },
      };
    },
  };
}

/** What of a peer must not change while nothing happens. */
function standing({ router }: SimulatedPeer) {
  return {
    connections: [...router.connections.values()],
    peers: Array.from(
      router.peers.all(),
      ({ name, uid, version, shortId }) => `${name} ${uid} ${version} ${shortId}`,
    ).sort(),
    routes: [...router.routes.unicast].sort(),
  };
}

test("24 hours of three peers: the same connections and topology, as much traffic and as many timers each hour", async () => {
  const timers = { set: 0 };
  const simulation = new Simulation(21n, (clock) => counting(clock, timers));
  const peers = [1, 2, 3].map((i) => simulation.add(i));
  const [a, b, c] = peers;
  if (!a || !b || !c) throw new Error("no peers");
  const allocators = peers.map((peer) => withAddresses(simulation, peer));
  const nameservers = peers.map(({ router }) => {
    const server = new Nameserver(
      {
        ourName: router.ourself.name,
        domain: "weave.local.",
        isKnownPeer: (name) => router.peers.get(name) !== undefined,
      },
      { clock: simulation.clock, log: silentLog, store: { load: () => [], save() {}, remove() {} } },
    );
    server.start((gossiper) => router.channel(DNS_CHANNEL, gossiper));
    return server;
  });
  await simulation.connect(b, a);
  await simulation.connect(c, a);
  simulation.until(() => simulation.meshed(), MINUTE);
  const address = allocators[0]?.allocate("web", UNIVERSE);
  simulation.clock.advance(MINUTE);
  await address;
  nameservers[0]?.add("web.weave.local", "web", 7);
  nameservers[0]?.add("gone.weave.local", "gone", 8);
  simulation.clock.advance(MINUTE);
  nameservers[0]?.delete({ containerId: "gone" });
  simulation.clock.advance(HOUR);
  const before = peers.map(standing);
  expect(before.map(({ connections }) => connections.length)).toEqual([2, 2, 2]);
  const rings = allocators.map(({ ring }) => ring.entries);
  let usual: { bytes: number; timers: number } | undefined;
  for (let hour = 2; hour <= 24; hour++) {
    const sent = simulation.network.bytes;
    simulation.clock.advance(HOUR);
    const now = { bytes: simulation.network.bytes - sent, timers: timers.set };
    usual ??= now;
    for (const [i, peer] of peers.entries()) {
      const { connections, ...rest } = standing(peer);
      const { connections: known, ...known0 } = before[i] ?? expect.unreachable();
      expect(connections.map((connection, at) => connection === known[at] && connection.established)).toEqual(
        [true, true],
      );
      expect({ hour, ...rest }).toEqual({ hour, ...known0 });
    }
    expect(Math.abs(now.bytes / usual.bytes - 1)).toBeLessThan(0.05);
    expect(Math.abs(now.timers - usual.timers)).toBeLessThanOrEqual(2);
  }
  // Names that live are known, and one that was deleted is not even remembered.
  for (const { entries } of nameservers)
    expect([...entries.all()].map(({ hostname }) => hostname)).toEqual(["web.weave.local."]);
  expect(allocators.map(({ ring }) => ring.entries)).toEqual(rings);
  expect(allocators[0]?.report(UNIVERSE).ActiveIPs).toBe(1);
});

test("a peer that falls silent is given up after a minute, and neither earlier nor much later", async () => {
  const simulation = new Simulation(22n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  await simulation.connect(b, a);
  simulation.until(() => simulation.meshed(), MINUTE);
  simulation.clock.advance(10 * MINUTE);
  const [connection] = a.router.connections.values();
  const heard = connection?.keeper.lastHeard ?? 0;
  simulation.network.mute(b.ip);
  while (a.router.connections.size > 0) {
    expect(simulation.clock.now() - heard).toBeLessThanOrEqual(95_000);
    simulation.clock.advance(1_000);
  }
  expect(simulation.clock.now() - (connection?.keeper.lastHeard ?? 0)).toBeGreaterThan(MINUTE);
});
