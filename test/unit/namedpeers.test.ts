// Peers that were named hold up the division of the range until each has told what it knows of the ring.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { ConnectionMaker } from "../../lib/mesh/dial/maker.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import type { Peer } from "../../lib/mesh/peer.ts";
import { NamedPeers } from "../../lib/router/named.ts";

const OURSELF = { name: nameFromNumber(1n) } as Peer;
const OTHER = { name: nameFromNumber(2n) } as Peer;

/** A router that was told to connect to these peers; `answering` is who answers to a name now. */
function routerTo(...names: string[]) {
  const clock = new SimulatedClock();
  const answering = new Map<string, Peer>();
  const addresses = new Map<string, string | undefined>();
  const told: { saved: string[][]; forgotten: string[]; resolutions: number; unresolved: string[] } = {
    saved: [],
    forgotten: [],
    resolutions: 0,
    unresolved: [],
  };
  const maker = {
    named: () => answering,
    unresolved: () => told.unresolved,
    connect: async () => [],
    namedTargets: () => [...addresses].map(([name, address]) => ({ name, address })),
    forget: (peers: readonly string[]) => void told.forgotten.push(...peers),
    async resolveAgain() {
      told.resolutions++;
      return [];
    },
  };
  const reachable = new Set<PeerName>();
  const named = new NamedPeers(names, {
    maker: maker as unknown as ConnectionMaker,
    ourself: OURSELF,
    clock,
    log: silentLog,
    kept: { get: () => undefined, set: (list) => told.saved.push([...list]) },
    isReachable: (peer) => reachable.has(peer),
  });
  const spoken = new Set<PeerName>();
  const unheard = () => named.unheard((peer) => spoken.has(peer));
  return { clock, answering, addresses, told, reachable, named, spoken, unheard };
}

test("a peer is unheard until it has told of its ring, or has been connected for 1.5 s", () => {
  const { clock, answering, reachable, spoken, unheard } = routerTo("a");
  expect(unheard()).toEqual(["a"]);
  answering.set("a", OTHER);
  expect(unheard()).toEqual(["a"]);
  clock.advance(1_499);
  expect(unheard()).toEqual(["a"]);
  clock.advance(1);
  reachable.add(OTHER.name);
  expect(unheard()).toEqual([]);
  // Through others it is still heard.
  answering.delete("a");
  expect(unheard()).toEqual([]);
  spoken.add(OTHER.name);
});

test("a peer that has gone, and comes again, is unheard until its ring has come again", () => {
  const { clock, answering, reachable, spoken, unheard } = routerTo("a");
  answering.set("a", OTHER);
  expect(unheard()).toEqual(["a"]);
  clock.advance(2_000);
  expect(unheard()).toEqual([]);
  answering.delete("a");
  reachable.clear();
  expect(unheard()).toEqual(["a"]);
  answering.set("a", OTHER);
  expect(unheard()).toEqual(["a"]);
  spoken.add(OTHER.name);
  expect(unheard()).toEqual([]);
});

test("we ourself count once, and are never waited for", () => {
  const { answering, named, unheard } = routerTo("a", "b", "ourself", "no address:");
  expect(named.count).toBe(4);
  answering.set("ourself", OURSELF);
  answering.set("a", OTHER);
  expect(named.count).toBe(3);
  expect(unheard()).toEqual(["a", "b"]);
});

test("a start saves its names; none is not saved where nothing was", async () => {
  const [some, none] = [routerTo("a"), routerTo()];
  for (const { named } of [some, none]) await named.start();
  expect([some.told.saved, none.told.saved]).toEqual([[["a"]], []]);
});

test("connect and forget are saved before they are done; what makes no sense changes nothing", async () => {
  const { told, named } = routerTo("a");
  await named.connect(["b"], false);
  await named.connect(["c"], true);
  expect(named.connect(["d", ":"], false)).rejects.toThrow();
  named.forget(["c"]);
  expect(told.saved).toEqual([["a", "b"], ["c"], []]);
});

test("a peer is forgotten by the address that a remedy names, too", () => {
  const { told, named, addresses } = routerTo("host2", "10.0.0.3", "host4");
  addresses.set("host2", "10.0.0.2:6783").set("10.0.0.3", "10.0.0.3:6783").set("host4", undefined);
  const unknown = named.forget(["10.0.0.2:6783", "10.0.0.3:6783", "10.0.0.4:6783", "host9"]);
  expect(unknown).toEqual(["10.0.0.4:6783", "host9"]);
  expect(told.forgotten).toEqual(["host2", "10.0.0.3"]);
  expect(told.saved.at(-1)).toEqual(["host4"]);
  expect(named.forget(["host4"])).toEqual([]);
});

test("names that do not resolve are looked up after 1 s, then half as often each time; others every 30 s", () => {
  const { clock, told, named } = routerTo("a");
  told.unresolved = ["a"];
  const after = (ms: number) => {
    clock.advance(ms);
    return told.resolutions;
  };
  expect([after(999), after(1), after(1_999), after(1), after(4_000)]).toEqual([0, 1, 1, 2, 3]);
  told.unresolved = [];
  expect([after(8_000), after(29_999), after(1)]).toEqual([4, 4, 5]);
  named.stop();
  expect(after(60_000)).toBe(5);
});
