// The overlay's decisions against a second, plain reading: tables from a topology, entries from tables, the overlay that a
// connection uses.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Work } from "../../lib/clock/slices.ts";
import { silentLog } from "../../lib/log/log.ts";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import type { OverlayVitals } from "../../lib/mesh/overlay.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { MeshRouter } from "../../lib/mesh/router.ts";
import type { CandidateParams, NamedOverlay } from "../../lib/overlay/candidate.ts";
import {
  Contents,
  type ForwardingTable,
  tableDifference,
  writeEntries,
} from "../../lib/overlay/datapath/contents.ts";
import { type DatapathMaps, type Hop, type Hops, MAX_HOPS, SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import { PeerIds } from "../../lib/overlay/peerid.ts";
import { switchedConnection } from "../../lib/overlay/switch.ts";
import { makeTables, type Neighbour } from "../../lib/overlay/tables.ts";
import { TableUpdates } from "../../lib/overlay/tableupdates.ts";
import { overlayTrouble } from "../../lib/overlay/trouble.ts";
import { mergeVitals } from "../../lib/overlay/vitals.ts";
import { randomOf, type TestRandom } from "../support/seed.ts";

const SHORT_IDS = 4096;
const address = (id: number) => 0x0a630000 + id;

test("tables of random topologies, entry by entry", () => {
  const random = randomOf("tables");
  const chance = (n: number) => random.below(n) === 0;
  for (let world = 0; world < 300; world++) {
    const ids = [2, 3, 4, SHORT_IDS - 1, SHORT_IDS, SHORT_IDS + 7];
    const neighbours: Neighbour[] = ids
      .filter(() => !chance(3))
      .map((id) => ({
        id,
        fastdp: chance(2) ? { address: address(id), link: 100 + id } : undefined,
        sleeve: chance(2) ? 200 + id : undefined,
      }));
    const names = new Map(ids.map((id) => [id, Uint8Array.of(id)]));
    const vxlanSources = new Set(ids.filter(() => chance(2)).map(address));
    const unicast = new Map(ids.filter(() => !chance(4)).map((id) => [id, random.pick(ids)]));
    const broadcast = new Map(
      [1, ...ids]
        .filter(() => !chance(4))
        .map((id) => [
          id,
          { from: chance(3) ? undefined : random.pick(ids), to: ids.filter(() => chance(2)) },
        ]),
    );
    const { kernel, engine } = makeTables({ self: 1, names, neighbours, vxlanSources, unicast, broadcast });
    const short = (id: number) => id < SHORT_IDS;
    const of = (id: number | undefined) => neighbours.find((each) => each.id === id);
    for (const id of ids) {
      const hop = of(unicast.get(id));
      const byVxlan = hop?.fastdp && short(id) ? hop.fastdp : undefined;
      expect(kernel.routes.get(id)).toBe(
        byVxlan?.address ?? (hop?.sleeve === undefined ? undefined : SLEEVE),
      );
      expect(engine.next.get(id)).toBe(byVxlan?.link ?? hop?.sleeve);
      expect(engine.nextBySleeve.get(id)).toBe(hop?.sleeve);
    }
    for (const id of [1, ...ids]) {
      const branch = broadcast.get(id);
      const vxlan: Hop[] = [];
      const sleeve: number[] = [];
      for (const to of branch?.to ?? []) {
        const neighbour = of(to);
        if (neighbour?.fastdp && short(id) && short(to))
          vxlan.push({ shortId: to, address: neighbour.fastdp.address });
        else if (neighbour?.sleeve !== undefined) sleeve.push(neighbour.sleeve);
      }
      const from = branch?.from;
      const hops: Hops = {
        from: from === undefined ? undefined : (of(from)?.fastdp?.address ?? SLEEVE),
        vxlan,
        sleeve: sleeve.length > 0,
      };
      expect(kernel.hops.get(id)).toEqual(vxlan.length + sleeve.length > 0 ? hops : undefined);
      expect(engine.broadcast.get(id)).toEqual(sleeve.length > 0 ? sleeve : undefined);
      expect(engine.origins.get(id)).toBe(from);
    }
    expect([engine.self, engine.names, kernel.neighbours]).toEqual([1, names, vxlanSources]);
    // Nothing but what was asked for.
    expect([...kernel.routes.keys(), ...engine.next.keys()].every((id) => unicast.has(id))).toBe(true);
  }
});

// Maps of the kernel.

function fakeMaps() {
  const written: string[] = [];
  const state = { failAt: Number.POSITIVE_INFINITY };
  const step = (what: string) => {
    if (written.length === state.failAt) throw new Error("ENOMEM");
    written.push(what);
  };
  const map = <V>(name: string) => {
    const content = new Map<number, V>();
    return {
      definition: { name: `weave_${name}` },
      content,
      set(key: number, value: V) {
        step(`${name} set ${key}`);
        content.set(key, value);
      },
      delete(key: number) {
        step(`${name} delete ${key}`);
        content.delete(key);
      },
      entries: () => [...content],
      filled: () => [...content].filter(([, value]) => value !== 0),
    };
  };
  const routes = map<number>("routes");
  const hops = map<Hops>("hops");
  const neighbours = map<object>("neighbours");
  const maps = { routes, hops, neighbours } as unknown as DatapathMaps;
  /** As the programs read them. */
  const read = (): ForwardingTable => ({
    routes: new Map([...routes.content].filter(([, value]) => value !== 0)),
    hops: new Map(hops.content),
    neighbours: new Set(neighbours.content.keys()),
  });
  return { maps, written, state, read, routes, hops, neighbours };
}

const sorted = ({ routes, hops, neighbours }: ForwardingTable) => ({
  routes: [...routes].sort(([a], [b]) => a - b),
  hops: [...hops].sort(([a], [b]) => a - b),
  neighbours: [...neighbours].sort(),
});

function randomTable(random: TestRandom): ForwardingTable {
  const ids = [1, 2, 3, 4].filter(() => random.below(3) > 0);
  const hop = () => ({ shortId: random.pick([1, 2]), address: address(random.pick([1, 2])) });
  const hops = () => ({
    from: random.pick([undefined, address(1), SLEEVE]),
    vxlan: Array.from({ length: random.below(3) }, hop),
    sleeve: random.below(2) === 0,
  });
  return {
    routes: new Map(ids.map((id) => [id, random.pick([address(1), address(2), SLEEVE])])),
    hops: new Map(ids.filter(() => random.below(2) === 0).map((id) => [id, hops()])),
    neighbours: new Set([1, 2, 3].filter(() => random.below(2) === 0).map(address)),
  };
}

describe("the kernel's tables", () => {
  test("become the desired ones by the fewest writes, sources before what sends to them", () => {
    const random = randomOf("table differences");
    const { maps, written, read } = fakeMaps();
    for (let step = 0; step < 300; step++) {
      const [before, after] = [read(), randomTable(random)];
      const entries = tableDifference(after, before);
      writeEntries(maps, entries);
      expect(sorted(read())).toEqual(sorted(after));
      expect(tableDifference(after, read())).toEqual([]);
      const changed = (a: ReadonlyMap<number, unknown>, b: ReadonlyMap<number, unknown>) =>
        [1, 2, 3, 4].filter((id) => !Bun.deepEquals(a.get(id), b.get(id), true)).length;
      const sources = [1, 2, 3]
        .map(address)
        .filter((each) => before.neighbours.has(each) !== after.neighbours.has(each));
      expect(written.length).toBe(
        changed(before.routes, after.routes) + changed(before.hops, after.hops) + sources.length,
      );
      const kinds = written.splice(0).map((each) => each.split(" ").slice(0, 2).join(" "));
      const first = kinds.findIndex((kind) => kind !== "neighbours set");
      if (first >= 0) expect(kinds.lastIndexOf("neighbours set")).toBeLessThan(first);
      const firstDeleted = kinds.indexOf("neighbours delete");
      if (firstDeleted >= 0)
        expect(new Set(kinds.slice(firstDeleted))).toEqual(new Set(["neighbours delete"]));
    }
  });

  test("more hops than the kernel has room for make no difference", () => {
    const hop = (i: number) => ({ shortId: i, address: address(i) });
    const table = (count: number, last = count - 1): ForwardingTable => ({
      routes: new Map(),
      neighbours: new Set(),
      hops: new Map([
        [1, { vxlan: [...Array.from({ length: count - 1 }, (_, i) => hop(i)), hop(last)], sleeve: false }],
      ]),
    });
    expect(tableDifference(table(MAX_HOPS + 1), table(MAX_HOPS))).toEqual([]);
    expect(tableDifference(table(MAX_HOPS + 1), table(MAX_HOPS + 1, 7))).toEqual([]);
    expect(tableDifference(table(MAX_HOPS), table(MAX_HOPS, 7)).length).toBe(1);
    expect(tableDifference(table(MAX_HOPS), table(MAX_HOPS - 1)).length).toBe(1);
    expect(MAX_HOPS).toBe(256);
  });

  test("a write that the kernel refuses, whichever: the next call writes the rest", () => {
    const random = randomOf("refused writes");
    for (let failAt = 0; failAt < 12; failAt++) {
      const { maps, written, state, read } = fakeMaps();
      const contents = new Contents(maps, false);
      const [before, after] = [randomTable(random), randomTable(random)];
      contents.replace(before);
      state.failAt = written.length + failAt;
      const total = tableDifference(after, before).length;
      if (failAt < total) {
        expect(() => contents.replace(after)).toThrow("ENOMEM");
        expect(contents.table).toBe(before);
      }
      state.failAt = Number.POSITIVE_INFINITY;
      contents.replace(after);
      expect(sorted(read())).toEqual(sorted(after));
      expect(contents.table).toBe(after);
    }
  });

  test("what others change in them is found, named by map, and put back", () => {
    const { maps, routes, hops, neighbours, read } = fakeMaps();
    const contents = new Contents(maps, false);
    expect(contents.table).toEqual({ routes: new Map(), hops: new Map(), neighbours: new Set() });
    const wanted: ForwardingTable = {
      routes: new Map([
        [1, address(1)],
        [2, SLEEVE],
      ]),
      hops: new Map([[1, { vxlan: [], sleeve: true }]]),
      neighbours: new Set([address(1)]),
    };
    contents.replace(wanted);
    const look = () => contents.difference(contents.desired(), contents.observe());
    expect(look()).toEqual([]);
    routes.content.set(3, address(3));
    routes.content.set(2, address(9));
    expect(look().map(({ object, wrong }) => [object, wrong])).toEqual([
      ["map weave_routes", "wrong in 2 entries"],
    ]);
    hops.content.clear();
    neighbours.content.clear();
    const changes = look();
    expect(changes.map(({ object, wrong }) => [object, wrong])).toEqual([
      ["map weave_routes", "wrong in 2 entries"],
      ["map weave_hops", "wrong in 1 entries"],
      ["map weave_neighbours", "wrong in 1 entries"],
    ]);
    contents.apply(changes);
    expect(sorted(read())).toEqual(sorted(wanted));
    expect(look()).toEqual([]);
    // A router that starts goes on with what is there; an empty place of the array is no route.
    routes.content.set(4, 0);
    expect(sorted(new Contents(maps, true).table)).toEqual(sorted(wanted));
  });
});

describe("updates of the tables", () => {
  /** `run` holds the work: the test decides when it goes on. */
  function updates() {
    const clock = new SimulatedClock(1_000);
    const peer = (n: number) =>
      Object.assign(Peer.placeholder(nameFromNumber(BigInt(n))), { shortId: n, hasShortId: true });
    const peers = [peer(1), peer(2)];
    const find = (matches: (each: Peer) => boolean) => peers.find(matches);
    const jobs: { work: Work; done: (error?: Error) => void; cancelled: boolean }[] = [];
    const unicast = new Map<unknown, unknown>();
    const mesh = {
      ourself: peers[0],
      peers: {
        all: () => peers,
        get: (name: unknown) => find((each) => each.name === name),
        byShortId: (id: number) => find((each) => each.shortId === id),
      },
      routes: {
        unicast,
        broadcast: (name: unknown) => (name === peers[1]?.name ? [peers[2]?.name, "nobody"] : []),
        broadcastFrom: (name: unknown) => (name === peers[1]?.name ? peers[1]?.name : undefined),
      },
      slices: {
        run(work: Work, done: (error?: Error) => void) {
          const job = { work, done, cancelled: false };
          jobs.push(job);
          return () => {
            job.cancelled = true;
          };
        },
      },
    } as unknown as MeshRouter;
    const seen = {
      applied: [] as number[][],
      hops: [] as [number, Hops][],
      engine: 0,
      order: [] as string[],
      warnings: [] as string[],
      refuse: false,
    };
    const warning = (text: string) => seen.warnings.push(text);
    const subject = new TableUpdates({
      clock,
      log: { ...silentLog, warning, error: warning },
      datapath: {
        table: { routes: new Map(), hops: new Map(), neighbours: new Set() },
        apply(table) {
          if (seen.refuse) throw new Error("ENOMEM");
          seen.order.push("kernel");
          seen.applied.push([...table.routes.keys()]);
          seen.hops = [...table.hops];
        },
        renumberMacs() {},
      },
      neighbours: (numbers) =>
        [...numbers.values()].map((id) => ({
          id,
          fastdp: { address: address(id), link: id },
          sleeve: undefined,
        })),
      vxlanSources: () => new Set(),
      configure() {
        seen.engine++;
        seen.order.push("engine");
      },
    });
    const finish = () => {
      const job = jobs.at(-1);
      if (!job) return;
      try {
        for (const _ of job.work);
      } catch (error) {
        return job.done(error as Error);
      }
      job.done();
    };
    subject.start(mesh, new PeerIds(mesh.peers));
    return { clock, peer, peers, unicast, jobs, seen, subject, finish };
  }

  test("changes that come together make one update, 1 ms after the first", () => {
    const { clock, jobs, subject } = updates();
    subject.schedule();
    subject.schedule();
    clock.advance(0);
    expect(jobs.length).toBe(0);
    clock.advance(1);
    expect(jobs.length).toBe(1);
    clock.advance(60_000);
    expect(jobs.length).toBe(1);
  });

  test("the sleeve engine knows the ways of frames before the kernel hands it any", () => {
    const { clock, seen, finish } = updates();
    clock.advance(1);
    finish();
    expect(seen.order).toEqual(["engine", "kernel"]);
  });

  test("a change during an update makes another after it, later by three times what that took", () => {
    const { clock, jobs, seen, subject, finish, peers, peer, unicast } = updates();
    clock.advance(1);
    jobs[0]?.work.next();
    const third = peer(3);
    peers.push(third);
    unicast.set(third.name, third.name);
    subject.schedule();
    clock.advance(50);
    expect(jobs.length).toBe(1);
    finish();
    expect(seen.applied).toEqual([[]]);
    clock.advance(149);
    expect(jobs.length).toBe(1);
    clock.advance(1);
    expect(jobs.length).toBe(2);
    finish();
    expect(seen.applied).toEqual([[], [3]]);
    clock.advance(60_000);
    expect(jobs.length).toBe(2);
    // That change is done with: the next is soon again.
    subject.schedule();
    clock.advance(1);
    expect(jobs.length).toBe(3);
  });

  test("after an error: behind, and again in 1 s, whatever was asked for meanwhile", () => {
    const { clock, jobs, seen, subject, finish } = updates();
    clock.advance(1);
    seen.refuse = true;
    subject.schedule();
    finish();
    expect(subject.behind).toBe("ENOMEM");
    expect(seen.engine).toBe(1);
    expect(seen.warnings).toEqual([
      expect.stringContaining("forwarding tables are out of date: ENOMEM; retrying"),
    ]);
    clock.advance(999);
    expect(jobs.length).toBe(1);
    clock.advance(1);
    expect(jobs.length).toBe(2);
    seen.refuse = false;
    finish();
    expect([subject.behind, seen.applied.length, seen.engine]).toEqual([undefined, 1, 2]);
  });

  test("broadcasts go along the trees, to peers that have a number, from where they come", () => {
    const { clock, peers, peer, seen, finish } = updates();
    peers.push(peer(3));
    clock.advance(1);
    finish();
    expect(seen.hops).toEqual([
      [2, { from: address(2), vxlan: [{ shortId: 3, address: address(3) }], sleeve: false }],
    ]);
  });

  test("the end gives up what is under way, and what is asked for later", () => {
    const { clock, jobs, subject } = updates();
    subject.schedule();
    subject.stop();
    clock.advance(60_000);
    expect(jobs.length).toBe(0);
    const other = updates();
    other.clock.advance(1);
    other.subject.stop();
    expect(other.jobs[0]?.cancelled).toBe(true);
    other.subject.schedule();
    other.clock.advance(60_000);
    expect(other.jobs.length).toBe(1);
  });
});

// The switch of one connection.

describe("the overlay that a connection uses", () => {
  const NAMES = ["a", "b", "c"];
  const trouble = (reason: string) => overlayTrouble("other", reason, 1);

  function connection(overlays: readonly string[], refuse: readonly string[] = [], missing?: string) {
    const params = new Map<string, CandidateParams>();
    const events: string[] = [];
    const make = (name: string, i: number): NamedOverlay => ({
      name,
      port: 100 + i,
      prepare(given) {
        if (refuse.includes(name)) throw new Error(`${name} refused`);
        params.set(name, given);
        return {
          confirm: () => events.push(`${name} confirm`),
          control: () => events.push(`${name} control`),
          stop: () => events.push(`${name} stop`),
          suspect: () => events.push(`${name} suspect`),
          attributes: () => ({ name, mtu: i }),
          vitals: () => ({ heardMs: 10 + i, beatMs: undefined, framesMs: undefined }),
          route: { kind: "sleeve", link: i },
        };
      },
    });
    const subject = switchedConnection(
      {
        remotePeer: Peer.placeholder(nameFromNumber(2n)),
        localIp: "",
        remoteIp: "",
        remotePort: 1,
        outbound: true,
        connectionUid: 1n,
        sessionKey: undefined,
        features: new Map([["Overlays", NAMES.join(" ")]]),
        sendControl: (tag, message) => events.push(`sent ${tag} ${message.toHex()}`),
        established: () => events.push("established"),
        failed: (error) => events.push(`failed: ${error.message}`),
        restart() {},
      },
      {
        overlays: overlays.map(make),
        ...(missing && { missing: new Map([[missing, trouble("not here")]]) }),
        compatible: make("z", 9),
        log: silentLog,
        confirmed: () => events.push("confirmed"),
        stopped: () => events.push("stopped"),
        changed: () => events.push("changed"),
      },
    );
    return { subject, params, events };
  }

  test("through random events, as a plain reading says", () => {
    const random = randomOf("switch");
    for (let history = 0; history < 200; history++) {
      const { subject, params, events } = connection(NAMES);
      const state = NAMES.map((name, i) => ({
        name,
        i,
        alive: true,
        up: false,
        bad: undefined as string | undefined,
      }));
      let [fallbacks, established, over] = [0, false, false];
      const pick = () => {
        const good = state.filter(({ alive, bad }) => alive && bad === undefined);
        return good.find(({ up }) => up) ?? good[0];
      };
      let best = pick();
      expect(events.splice(0)).toEqual(["changed"]);
      for (let step = 0; step < 12 && !over; step++) {
        const one = random.pick(state.filter(({ alive }) => alive));
        const given = params.get(one.name);
        const others = state.filter(({ alive, i }) => alive && i !== one.i);
        const expected: string[] = [];
        const suspects = others.map(({ name }) => `${name} suspect`);
        const act = random.below(4);
        if (act === 0) {
          one.up = true;
          one.bad = undefined;
          given?.established();
        } else if (act === 1) {
          one.bad = `bad ${step}`;
          expected.push(...suspects);
          given?.health(trouble(one.bad));
        } else if (act === 2) {
          one.bad = undefined;
          given?.health(undefined);
        } else {
          one.alive = false;
          one.bad = `dead ${step}`;
          expected.push(...suspects);
          given?.failed(new Error(one.bad));
        }
        const now = pick();
        if (!now) {
          const why = state
            .filter(({ bad }) => bad)
            .map(({ name, bad }) => `${name}: ${bad}`)
            .join("; ");
          expected.push(`failed: no working forwarders to ${nameFromNumber(2n)}(): ${why}`);
          over = true;
        } else if (now !== best) {
          // Before the choice, as one that has been established since.
          if (best && now.i > best.i && best.up) fallbacks++;
          expected.push("changed");
          best = now;
        }
        if (act === 0 && !established) {
          established = true;
          expected.push("established");
        }
        expect(events.splice(0)).toEqual(expected);
        if (!now || !best) break;
        const better = state.slice(0, best.i);
        const reason = better.map(({ name, bad }) => `${name}: ${bad ?? "not established yet"}`).join("; ");
        expect(subject.attributes()).toEqual({
          name: best.name,
          mtu: best.i,
          ...(fallbacks > 0 && { fallbacks }),
          ...(reason && { reason }),
        });
        expect(subject.route).toEqual({ kind: "sleeve", link: best.i });
        for (const { name, i, alive } of state) {
          expect(subject.lost(name)).toBe(!alive);
          expect(params.get(name)?.preferred()).toBe(i === best.i);
        }
        expect(subject.vitals().heardMs).toBe(10 + Math.min(...state.filter((s) => s.alive).map((s) => s.i)));
      }
    }
  });

  test("after the end: nothing is chosen, failed or renewed any more", () => {
    const { subject, params, events } = connection(["a", "b"]);
    subject.confirm();
    expect(events.splice(0)).toEqual(["changed", "confirmed", "a confirm", "b confirm"]);
    subject.renew("lost keys");
    expect(events.splice(0)).toEqual(["failed: lost keys"]);
    subject.stop();
    expect(events.splice(0)).toEqual(["a stop", "b stop", "stopped"]);
    params.get("a")?.failed(new Error("late"));
    params.get("b")?.failed(new Error("late"));
    params.get("b")?.health(trouble("late"));
    subject.renew("late");
    expect(events).toEqual([]);
  });

  test("what cannot be prepared is done without, and is no error while another can", () => {
    const { subject } = connection(["a", "b"], ["a"]);
    expect(subject.attributes()).toEqual({ name: "b", mtu: 1, reason: "a: a refused" });
    expect(subject.lost("a")).toBe(true);
    expect(() => connection(["a", "b"], ["a", "b"])).toThrow(
      `no usable overlay to ${nameFromNumber(2n)}(): a: a refused; b: b refused`,
    );
  });

  test("why it is not the best: what this host lacks, what the peer does not offer, with the first remedy", () => {
    expect(connection(["a", "b"]).subject.slowness()).toBeUndefined();
    const lacking = connection(["b"], [], "a").subject;
    expect(lacking.slowness()).toEqual(trouble("a: not here"));
    // The peer's list is a b c.
    const { subject } = connection(["d", "b"]);
    expect(subject.slowness()).toEqual(overlayTrouble("not offered", "d: the peer does not offer it", 100));
    const both = connection(["d", "a", "b"], [], "x");
    both.params.get("b")?.established();
    expect(both.subject.slowness()?.reason).toBe(
      "x: not here; d: the peer does not offer it; a: not established yet",
    );
    expect(both.subject.slowness()?.cause).toBe("other");
  });

  test("a peer's list is shown up to 100 characters", () => {
    const theirs = "x".repeat(150);
    let message = "";
    try {
      switchedConnection(
        { features: new Map([["Overlays", theirs]]) } as never,
        { overlays: [{ name: "a" }] } as never,
      );
    } catch (error) {
      message = String(error);
    }
    expect(message).toContain(`theirs: ${"x".repeat(100)})`);
  });

  test("control messages carry the overlay's number both ways", () => {
    const { subject, params, events } = connection(["a", "b"]);
    events.length = 0;
    params.get("b")?.sendControl(7, Uint8Array.of(9));
    expect(events.splice(0)).toEqual([`sent ${TAG.overlayControl} 010709`]);
    subject.control(TAG.overlayControl, Uint8Array.of(0, 7));
    expect(events).toEqual(["a control"]);
  });
});

test("vitals of several overlays: the latest signs, the sum of traffic, each by its name", () => {
  const traffic = (bytes: number) => ({ bytes, perSecond: 2 * bytes });
  const silent = { heardMs: undefined, beatMs: undefined, framesMs: undefined };
  expect(mergeVitals(new Map())).toEqual({ ...silent, received: undefined, sent: undefined, byOverlay: [] });
  expect(
    mergeVitals(
      new Map<string, OverlayVitals>([
        ["a", { heardMs: 5, beatMs: 90, framesMs: 30, received: traffic(1), sent: traffic(10) }],
        ["b", { heardMs: 7, beatMs: 80, framesMs: 40, received: traffic(2), sent: traffic(20) }],
        ["c", { ...silent, received: traffic(4) }],
        ["d", silent],
      ]),
    ),
  ).toEqual({
    heardMs: 5,
    beatMs: 80,
    framesMs: 30,
    received: traffic(7),
    sent: traffic(30),
    byOverlay: [
      { overlay: "a", received: 1, sent: 10 },
      { overlay: "b", received: 2, sent: 20 },
    ],
  });
});
