// Small parts of the overlay, each decision of theirs: rates, refusals of the kernel, links of relays, numbers of peers,
// graceful restart against a plain reading.
import { describe, expect, test } from "bun:test";
import { silentLog } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import { type Hops, SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import { GRACE_MS, GracefulRestart, HOLD_MS } from "../../lib/overlay/gracefulrestart.ts";
import { Meter } from "../../lib/overlay/meter.ts";
import { BROADCAST, isShortId, PEER_IDS, PeerIds } from "../../lib/overlay/peerid.ts";
import { isTransient, refusal } from "../../lib/overlay/refusal.ts";
import { RelayLinks } from "../../lib/overlay/relaylinks.ts";
import {
  OVERLAY_CAUSES,
  OverlayError,
  overlayTrouble,
  withoutFastdpText,
} from "../../lib/overlay/trouble.ts";
import { networkIdentifier, putVxlanHeader } from "../../lib/overlay/vxlan.ts";
import { randomOf } from "../support/seed.ts";

describe("a meter", () => {
  test("counts from its first value, and per second over the last 5 to 10 s", () => {
    const meter = new Meter(0, 1_000);
    expect(meter.traffic(0, 1_000)).toEqual({ bytes: 0, perSecond: 0 });
    expect(meter.traffic(4_999, 6_000)).toEqual({ bytes: 5_000, perSecond: (5_000 * 1_000) / 4_999 });
    meter.sample(5_000, 11_000);
    // From its first value, then from the one of 5 s ago.
    expect(meter.traffic(9_999, 11_000)).toEqual({ bytes: 10_000, perSecond: (10_000 * 1_000) / 9_999 });
    expect(meter.traffic(10_000, 21_000)).toEqual({ bytes: 20_000, perSecond: 2_000 });
    expect(meter.traffic(12_500, 21_000)).toEqual({ bytes: 20_000, perSecond: (10_000 * 1_000) / 7_500 });
  });

  test("goes on counting when the counter starts anew", () => {
    const meter = new Meter(0, 1_000);
    meter.sample(5_000, 5_000);
    expect(meter.traffic(7_000, 500)).toEqual({ bytes: 4_500, perSecond: 0 });
    expect(meter.traffic(8_000, 2_500)).toEqual({ bytes: 6_500, perSecond: 2_500 });
    // One that stands still has not started anew.
    expect(meter.traffic(20_000, 2_500)).toEqual({ bytes: 6_500, perSecond: 2_500 / 13 });
    expect(meter.traffic(25_000, 2_500)).toEqual({ bytes: 6_500, perSecond: 0 });
  });
});

test("refusals of the kernel: which are none, and what each says of its cause", () => {
  const [EPERM, EAGAIN, EACCES, EMSGSIZE, ENETUNREACH, ENOBUFS] = [1, 11, 13, 90, 101, 105];
  expect([EPERM, EAGAIN, EACCES, EMSGSIZE, ENETUNREACH, ENOBUFS].map(isTransient)).toEqual([
    false,
    true,
    false,
    false,
    false,
    true,
  ]);
  expect([EPERM, EACCES, EMSGSIZE, ENETUNREACH].map((errno) => refusal("x", errno, 7).cause)).toEqual([
    "blocked",
    "prohibited",
    "too large",
    "cannot send",
  ]);
  expect(refusal("no heartbeats", EPERM, 7)).toEqual({
    cause: "blocked",
    reason: "no heartbeats: EPERM; a firewall rule on this host blocks UDP 7, or its conntrack table is full",
    remedy:
      "remove the firewall rule of this host that drops UDP 7; 'weave status' says if conntrack is full",
  });
  expect(refusal("x", EACCES, 7).reason).toBe("x: EACCES; a prohibit route on this host leads to the peer");
  expect(refusal("x", ENETUNREACH, 7).reason).toMatch(/^x: ENETUNREACH; ./);
  expect(refusal("x", 98_765, 7).reason).toMatch(/^x: Unknown error/);
});

test("each cause has a remedy, with the port where one helps", () => {
  for (const cause of OVERLAY_CAUSES) {
    const { remedy, reason } = overlayTrouble(cause, "why", 6784);
    expect(reason).toBe("why");
    expect(remedy.length).toBeGreaterThan(10);
    expect(remedy.includes("UDP 6784")).toBe(["blocked", "pending", "silent"].includes(cause));
  }
  const off = overlayTrouble("switched off", "off", 1);
  expect(withoutFastdpText(off)).toBe("off");
  expect(withoutFastdpText(overlayTrouble("no VXLAN", "none", 1))).toContain("modprobe vxlan");
  expect(new OverlayError(off)).toMatchObject({ message: "off", trouble: off });
});

test("VXLAN: the source below, the destination 12 bits above it; big-endian, with the flag of its number", () => {
  expect(networkIdentifier(0xabc, 0x123)).toBe(0x123abc);
  const bytes = new Uint8Array(12).fill(0xee);
  putVxlanHeader(new DataView(bytes.buffer), 2, 0x123abc);
  expect(bytes.toHex()).toBe("eeee0800000" + "0123abc00eeee");
});

test("relays: one link for each neighbour, another for another number or address, none for those that are gone", () => {
  const calls: string[] = [];
  let next = 10;
  const sleeve = {
    addLink(kind: string, id: number, name: string) {
      calls.push(`add ${kind} ${id} ${name.slice(-2)}`);
      return next++;
    },
    setLink: (link: number, settings: object) => calls.push(`set ${link} ${JSON.stringify(settings)}`),
    removeLink: (link: number) => calls.push(`remove ${link}`),
  };
  const links = new RelayLinks(sleeve as never, { port: 6784, mtu: () => 1376 }, silentLog);
  const [b, c] = [2n, 3n].map((n) => Peer.placeholder(nameFromNumber(n))) as [Peer, Peer];
  const set = (link: number, address: number) =>
    `set ${link} {"remote":{"address":${address},"port":6784},"local":0,"mtu":1376,"fragments":false}`;
  const take = () => calls.splice(0);
  expect(links.to(b, 2, 7)).toBe(10);
  expect(take()).toEqual(["add vxlan 2 02", set(10, 7)]);
  expect(links.to(b, 2, 7)).toBe(10);
  expect(take()).toEqual([]);
  expect(links.to(c, 3, 7)).toBe(11);
  expect(take()).toEqual(["add vxlan 3 03", set(11, 7)]);
  expect(links.to(b, 2, 8)).toBe(12);
  expect(take()).toEqual(["remove 10", "add vxlan 2 02", set(12, 8)]);
  expect(links.to(b, 5, 8)).toBe(13);
  expect(take()).toEqual(["remove 12", "add vxlan 5 02", set(13, 8)]);
  links.retain(new Set([b]));
  expect(take()).toEqual(["remove 11"]);
  links.retain(new Set([b]));
  expect(take()).toEqual([]);
  expect(links.to(b, 5, 8)).toBe(13);
  // With the engine its links are gone: nothing is to be removed there.
  links.forget();
  links.retain(new Set());
  expect(links.to(b, 5, 8)).toBe(14);
  expect(take()).toEqual(["add vxlan 5 02", set(14, 8)]);
  links.retain(new Set());
  expect(take()).toEqual(["remove 14"]);
});

test("numbers of peers: a short id that is one's own, else one beside them", () => {
  expect([isShortId(4095), isShortId(4096), PEER_IDS, BROADCAST]).toEqual([true, false, 8192, 65_535]);
  const peer = (n: number, shortId: number | undefined) =>
    Object.assign(Peer.placeholder(nameFromNumber(BigInt(n))), {
      shortId: shortId ?? 0,
      hasShortId: shortId !== undefined,
    });
  const [a, b, c] = [peer(1, 5), peer(2, 5), peer(3, undefined)];
  let owner: Peer = a;
  const ids = new PeerIds({
    get: (name) => [a, b, c].find((each) => each.name === name),
    byShortId: (id) => (id === 5 ? owner : id === 0 ? c : undefined),
  });
  expect([ids.of(a), ids.of(b), ids.of(c)]).toEqual([5, 4096, 4097]);
  owner = b;
  expect([ids.of(a), ids.of(b), ids.of(c)]).toEqual([4098, 5, 4097]);
  owner = a;
  expect([ids.of(a), ids.of(b), ids.of(c)]).toEqual([5, 4096, 4097]);
});

describe("graceful restart", () => {
  test("against a plain reading: what is kept, for how long, and who still gets broadcasts", () => {
    expect([GRACE_MS, HOLD_MS]).toEqual([60_000, 1_000]);
    const random = randomOf("graceful restart");
    const ways = [0x0a000001, 0x0a000002, SLEEVE];
    const ids = [1, 2, 3, 4];
    const randomTable = (): ForwardingTable => {
      const routes = new Map(ids.filter(() => random.below(3) > 0).map((id) => [id, random.pick(ways)]));
      const hop = (shortId: number) => ({ shortId, address: random.pick(ways) });
      const hops = (): Hops => ({
        from: random.pick([undefined, 7]),
        vxlan: ids.filter(() => random.below(2) === 0).map(hop),
        sleeve: random.below(2) === 0,
      });
      return {
        routes,
        hops: new Map(ids.filter(() => random.below(2) === 0).map((id) => [id, hops()])),
        neighbours: new Set(routes.values()),
      };
    };
    for (let history = 0; history < 60; history++) {
      let last = randomTable();
      const restart = new GracefulRestart(last);
      const gone = new Map<number, { since: number; otherSince: number | undefined; until: number }>();
      const lostNeighbours = new Map<number, number>();
      let now = 0;
      for (let step = 0; step < 20; step++) {
        now += random.pick([0, 1, 400, 999, 1_000, 20_000, 59_999, 60_000]);
        const fresh =
          random.below(2) === 0 ? randomTable() : { ...last, routes: new Map([...last.routes].slice(1)) };
        const used = [...fresh.routes.values()];
        const routes = new Map(fresh.routes);
        const kept = new Set<number>();
        for (const id of ids) {
          const before = last.routes.get(id);
          if (before === undefined) continue;
          const way = fresh.routes.get(id);
          // Lost: by the fast datapath before, and now nowhere, or by another while the old one carries nothing.
          const lost = before !== SLEEVE && way !== SLEEVE && (way === undefined || !used.includes(before));
          const { since, otherSince } = gone.get(id) ?? { since: now, otherSince: undefined };
          // Another way has to be there for a second.
          const first = way === undefined ? undefined : (otherSince ?? now);
          const until = Math.min(
            since + 60_000,
            first === undefined ? Number.POSITIVE_INFINITY : first + 1_000,
          );
          if (!lost || now >= until) {
            gone.delete(id);
            continue;
          }
          gone.set(id, { since, otherSince: first, until });
          routes.set(id, before);
          kept.add(id);
        }
        const hops = new Map(fresh.hops);
        for (const [source, { vxlan }] of last.hops) {
          const there = fresh.hops.get(source);
          const missed = vxlan.filter(
            ({ shortId }) =>
              (kept.has(shortId) || (kept.has(source) && routes.has(shortId))) &&
              !there?.vxlan.some((each) => each.shortId === shortId),
          );
          if (missed.length === 0) continue;
          hops.set(source, {
            ...there,
            vxlan: [...(there?.vxlan ?? []), ...missed],
            sleeve: there?.sleeve ?? false,
          });
        }
        for (const address of ways) {
          if (fresh.neighbours.has(address)) lostNeighbours.delete(address);
          else if (now >= (lostNeighbours.get(address) ?? now + 1)) lostNeighbours.delete(address);
          else if (last.neighbours.has(address) && !lostNeighbours.has(address))
            lostNeighbours.set(address, now + 60_000);
        }
        const keptWays = [...kept].map((id) => last.routes.get(id) ?? 0);
        const neighbours = new Set([...fresh.neighbours, ...lostNeighbours.keys(), ...keptWays]);
        const merged = restart.merge(fresh, now);
        expect(new Map([...merged.routes].sort())).toEqual(new Map([...routes].sort()));
        expect(merged.hops).toEqual(hops);
        expect([...merged.neighbours].sort()).toEqual([...neighbours].sort());
        const routeEnds = [...gone].filter(([id]) => kept.has(id)).map(([, { until }]) => until);
        const ends = [...routeEnds, ...lostNeighbours.values()];
        expect(restart.next).toBe(ends.length === 0 ? undefined : Math.min(...ends));
        last = merged;
      }
    }
  });
});
