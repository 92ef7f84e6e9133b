import { describe, expect, test } from "bun:test";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import { SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import {
  GRACE_MS,
  GracefulRestart,
  HOLD_MS,
  MAX_LOST_NEIGHBOURS,
} from "../../lib/overlay/gracefulrestart.ts";

// We are 1; 2 is our neighbour, 3 is behind it, 4 is another neighbour.
const [B, D] = [0x0a630002, 0x0a630004];
const hop = (shortId: number, address: number) => ({ shortId, address });
const table = (
  routes: [number, number][],
  hops: Record<number, { shortId: number; address: number }[]>,
): ForwardingTable => ({
  routes: new Map(routes),
  hops: new Map(Object.entries(hops).map(([id, vxlan]) => [Number(id), { vxlan, sleeve: false }])),
  neighbours: new Set(routes.map(([, address]) => address).filter((address) => address !== SLEEVE)),
});

/** In an order that does not matter. */
const plain = ({ routes, hops, neighbours }: ForwardingTable) => ({
  routes: Object.fromEntries(routes),
  neighbours: [...neighbours].sort(),
  hops: Object.fromEntries(
    Array.from(hops, ([id, { vxlan }]) => [id, vxlan.map(({ shortId }) => shortId).sort()] as const),
  ),
});

const whole = table(
  [
    [2, B],
    [3, B],
    [4, D],
  ],
  { 1: [hop(2, B), hop(4, D)], 2: [hop(4, D)], 3: [hop(4, D)], 4: [hop(2, B)] },
);
const withoutB = table([[4, D]], { 1: [hop(4, D)] });
const nothing = table([], {});

describe("when a neighbour is suddenly gone", () => {
  test("all goes on as before for a while, and then no longer", () => {
    const restart = new GracefulRestart(nothing);
    restart.merge(whole, 0);
    expect(restart.next).toBeUndefined();
    expect(plain(restart.merge(withoutB, 1000))).toEqual(plain(whole));
    expect(restart.next).toBe(1000 + GRACE_MS);
    expect(plain(restart.merge(withoutB, 1000 + GRACE_MS - 1))).toEqual(plain(whole));
    expect(plain(restart.merge(withoutB, 1000 + GRACE_MS))).toEqual(plain(withoutB));
    expect(restart.next).toBeUndefined();
  });

  test("when it comes back, the time starts anew with the next time it goes", () => {
    const restart = new GracefulRestart(whole);
    restart.merge(withoutB, 0);
    restart.merge(whole, 30_000);
    restart.merge(withoutB, 50_000);
    expect(plain(restart.merge(withoutB, 50_000 + GRACE_MS - 1))).toEqual(plain(whole));
  });

  const around = table(
    [
      [2, D],
      [3, D],
      [4, D],
    ],
    { 1: [hop(4, D)] },
  );

  test("another way is taken, once it has proved to be one", () => {
    const restart = new GracefulRestart(whole);
    expect(restart.merge(around, 0).routes).toEqual(whole.routes);
    expect(restart.next).toBe(HOLD_MS);
    const merged = restart.merge(around, HOLD_MS);
    expect({ ...plain(merged), neighbours: [] }).toEqual({ ...plain(around), neighbours: [] });
  });

  test("its frames are accepted for the grace period, whichever route ours take", () => {
    const restart = new GracefulRestart(whole);
    for (const now of [0, HOLD_MS, GRACE_MS - 1])
      expect([...restart.merge(around, now).neighbours].sort()).toEqual([B, D]);
    expect(restart.next).toBe(GRACE_MS);
    expect(plain(restart.merge(around, GRACE_MS))).toEqual(plain(around));
    expect(restart.next).toBeUndefined();
  });

  test("an alternative that appears later is held back as long", () => {
    const restart = new GracefulRestart(whole);
    restart.merge(withoutB, 0);
    expect(restart.merge(around, 10_000).routes).toEqual(whole.routes);
    expect(restart.next).toBe(10_000 + HOLD_MS);
    expect(restart.merge(around, 10_000 + HOLD_MS - 1).routes).toEqual(whole.routes);
    expect(restart.merge(around, 10_000 + HOLD_MS).routes).toEqual(around.routes);
  });

  test("an alternative that comes and goes does not extend the grace period", () => {
    const restart = new GracefulRestart(whole);
    for (let now = 0; now < GRACE_MS; now += HOLD_MS / 2)
      expect(restart.merge(now % HOLD_MS === 0 ? withoutB : around, now).routes).toEqual(whole.routes);
    expect(plain(restart.merge(around, GRACE_MS))).toEqual(plain(around));
  });

  test("a neighbour that keeps changing its address leaves a bounded number of entries", () => {
    const restart = new GracefulRestart(nothing);
    for (let i = 0; i < MAX_LOST_NEIGHBOURS + 20; i++) restart.merge(table([[2, B + 16 + i]], {}), i);
    expect(restart.merge(table([[2, B]], {}), 5_000).neighbours.size).toBe(MAX_LOST_NEIGHBOURS + 1);
  });

  test("a way by a neighbour that has lost it, too, but says so later, is none", () => {
    const restart = new GracefulRestart(whole);
    restart.merge(around, 0);
    expect(plain(restart.merge(withoutB, 10))).toEqual(plain(whole));
    expect(restart.next).toBe(GRACE_MS);
  });

  test("a better way, and sleeve where the fast datapath does not get through, are taken at once", () => {
    const better = table(
      [
        [2, B],
        [3, D],
        [4, D],
      ],
      { 1: [hop(2, B), hop(4, D)] },
    );
    expect(new GracefulRestart(whole).merge(better, 0).routes).toEqual(better.routes);
    const bySleeve = table(
      [
        [2, SLEEVE],
        [4, D],
      ],
      { 1: [hop(4, D)] },
    );
    expect(new GracefulRestart(whole).merge(bySleeve, 0).routes.get(2)).toBe(SLEEVE);
  });

  test("sleeve ends with its engine: nothing is kept of it", () => {
    const restart = new GracefulRestart(table([[2, SLEEVE]], {}));
    expect(plain(restart.merge(nothing, 0))).toEqual(plain(nothing));
  });

  test("a router that starts goes on with what the one before it has left", () => {
    const restart = new GracefulRestart(whole);
    expect(plain(restart.merge(nothing, 0))).toEqual(plain(whole));
    expect(plain(restart.merge(whole, 500))).toEqual(plain(whole));
    expect(restart.next).toBeUndefined();
  });
});
