// The MTU of the network among many routers: who takes part is known to all, whatever joins, leaves, parts and lies.
import { expect, test } from "bun:test";
import { MTU_CHANNEL } from "../../lib/mesh/features.ts";
import { RawGossip } from "../../lib/mesh/gossip.ts";
import { MEASURE_MS, NetworkMtu } from "../../lib/overlay/networkmtu/networkmtu.ts";
import { GONE_MS } from "../../lib/overlay/networkmtu/participants.ts";
import { RISE_MS } from "../../lib/overlay/networkmtu/steps.ts";
import { encodeRecords, type MtuRecord } from "../../lib/overlay/networkmtu/wire.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;

interface Router extends SimulatedPeer {
  readonly mtu: NetworkMtu;
  readonly set: number[];
}

class Network extends Simulation {
  readonly routers: Router[] = [];

  /** Add a router with number `i`, which knows an MTU from before unless it is new, and has measured its paths soon. */
  async join(i: number, agreed: number | undefined, ...others: SimulatedPeer[]): Promise<Router> {
    const peer = this.add(i);
    const { router } = peer;
    const set: number[] = [];
    const mtu = new NetworkMtu({
      clock: this.clock,
      self: router.ourself.name,
      fixed: undefined,
      agreed,
      peers: () => {
        const peers = router.reachablePeers();
        expect(peers).not.toContain(router.ourself.name);
        return peers;
      },
      takesPart: (name) => router.connections.get(name)?.announces(MTU_CHANNEL),
      accept: async () => {},
      changed: (bytes) => set.push(bytes),
    });
    router.listen({ routesChanged: () => mtu.evaluate(), shortIdsChanged() {} });
    mtu.start(router.channel(MTU_CHANNEL, mtu));
    const joined = { ...peer, mtu, set };
    this.routers.push(joined);
    await this.connect(peer, ...others);
    return joined;
  }

  measure({ mtu, router }: Router, bytes: number): void {
    const [by] = router.connections.keys();
    if (by) mtu.measured({ mtu: bytes, by });
  }

  leave(leaving: Router): void {
    leaving.mtu.stop();
    this.kill(this.peers[this.peers.findIndex(({ router }) => router === leaving.router)] as SimulatedPeer);
    this.routers.splice(this.routers.indexOf(leaving), 1);
  }

  /** Advance the clock; return the routers that took a peer for one of Weave Net 2.x meanwhile. */
  async watch(ms: number): Promise<string[]> {
    const wrong = new Set<string>();
    for (let i = 0; i < ms; i += 100) {
      this.clock.advance(100);
      await Promise.resolve();
      for (const { mtu, router } of this.routers)
        if (mtu.limit.why === "no part") wrong.add(`${router.ourself.nickName} of ${mtu.limit.peer}`);
    }
    return [...wrong];
  }

  get mtus(): number[] {
    return [...new Set(this.routers.map(({ mtu }) => mtu.mtu))];
  }
}

async function network(count: number, seed: bigint): Promise<Network> {
  const made = new Network(seed);
  const first = await made.join(1, 1376);
  for (let i = 2; i <= count; i++) await made.join(i, 1376, first);
  expect(await made.watch(1_000)).toEqual([]);
  for (const each of made.routers) made.measure(each, 1450);
  expect(await made.watch(RISE_MS + 1_000)).toEqual([]);
  expect(made.mtus).toEqual([1450]);
  return made;
}

test("stays while halves part and meet again, a quarter restarts, and a new router joins", async () => {
  const subject = await network(10, 1n);
  const halves = [subject.routers.slice(0, 5), subject.routers.slice(5)] as const;
  const cut = (on: boolean) => {
    for (const a of halves[0]) for (const b of halves[1]) subject.network.cut(a.ip, b.ip, on);
  };
  cut(true);
  // Each half forgets the other.
  await subject.watch(GONE_MS + MINUTE / 2);
  cut(false);
  expect(await subject.watch(2 * MINUTE)).toEqual([]);
  expect(subject.converged()).toBe(true);
  for (const each of subject.routers.slice(0, 3)) subject.leave(each);
  await subject.watch(3_000);
  const [first] = subject.routers as [Router];
  for (let i = 1; i <= 3; i++) subject.measure(await subject.join(i, 1450, first), 1450);
  expect(await subject.watch(MINUTE)).toEqual([]);
  const late = await subject.join(11, undefined, first);
  await subject.watch(MEASURE_MS / 2);
  subject.measure(late, 1450);
  expect(await subject.watch(MINUTE)).toEqual([]);
  expect(subject.mtus).toEqual([1450]);
  for (const { set, router } of subject.routers)
    expect([router.ourself.nickName, set.filter((mtu) => mtu !== 1450)]).toEqual([
      router.ourself.nickName,
      [],
    ]);
}, 300_000);

test("a liar limits others by its own record only, and for as long as it is there", async () => {
  const subject = await network(6, 2n);
  const liar = subject.routers.at(-1) as Router;
  const honest = subject.routers.slice(0, -1);
  const names = honest.map(({ router }) => router.ourself.name);
  const self = liar.router.ourself.name;
  const send = (records: (readonly [typeof self, MtuRecord])[]) => {
    for (const connection of liar.router.connections.values()) {
      connection.sendGossip(MTU_CHANNEL, undefined, new RawGossip([encodeRecords(records)]));
    }
  };
  // Of all others, of peers that do not exist, and by versions that none exceeds.
  const versions = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xd555_5555, 0xffff_fffe, 0xffff_ffff];
  for (let i = 0; i < 400; i++) {
    const version = versions[i % versions.length] ?? 0;
    const invented = Array.from(
      { length: 20 },
      (_, n) => `02:00:00:00:${(i % 256).toString(16).padStart(2, "0")}:${(n + 16).toString(16)}`,
    );
    send(
      [...names, ...(invented as typeof names)].map((name, n) => [
        name,
        { version, mtu: [0, 1, 68, 576, 1196, 65_535][(i + n) % 6] ?? 0, fixed: n % 2 === 0, by: self },
      ]),
    );
    subject.clock.advance(10);
  }
  expect(await subject.watch(1_000)).toEqual([]);
  for (const { mtu, set } of honest) expect([mtu.mtu, set]).toEqual([1450, [1450]]);
  // Its own: as one with a bad path.
  for (let i = 0; i < 300; i++) {
    send([[self, { version: 1_000 + i, mtu: 1450 - i, fixed: false, by: self }]]);
    subject.clock.advance(10);
  }
  for (const { mtu } of honest) expect(mtu.limit).toMatchObject({ peer: self, mtu: 1196 });
  for (const { set } of honest) expect(set.length).toBeLessThan(10);
  subject.leave(liar);
  expect(await subject.watch(GONE_MS + 4 * RISE_MS)).toEqual([]);
  expect(subject.mtus).toEqual([1450]);
}, 300_000);

test("lies about peers that are no neighbours end with the liar, too", async () => {
  const subject = new Network(3n);
  // A chain: the liar is a neighbour of one that hears of the victim by another.
  const chain: Router[] = [];
  for (let i = 1; i <= 5; i++) chain.push(await subject.join(i, 1450));
  for (const [i, a] of chain.entries()) for (const b of chain.slice(i + 2)) subject.network.cut(a.ip, b.ip);
  for (const [i, a] of chain.entries()) if (i > 0) await subject.connect(a, chain[i - 1] as Router);
  await subject.watch(10_000);
  for (const each of chain) subject.measure(each, 1450);
  await subject.watch(5_000);
  const [victim, , , misled, liar] = chain as [Router, Router, Router, Router, Router];
  const { name } = victim.router.ourself;
  expect([...misled.router.connections.keys()]).not.toContain(name);
  for (let i = 0; i < 300; i++) {
    const record = { version: (i * 0x5555_5555) >>> 0, mtu: 1200 + i, fixed: false, by: name };
    const lie = new RawGossip([encodeRecords([[name, record]])]);
    for (const each of liar.router.connections.values()) each.sendGossip(MTU_CHANNEL, undefined, lie);
    subject.clock.advance(20);
  }
  expect(misled.set.length).toBeGreaterThan(0);
  expect(misled.set.length).toBeLessThan(20);
  subject.leave(liar);
  await subject.watch(GONE_MS + 10 * MINUTE);
  expect(subject.mtus).toEqual([1450]);
}, 300_000);
