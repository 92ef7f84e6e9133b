import { describe, expect, test } from "bun:test";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import { SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import { GRACE_MS, HOLD_MS, Linger } from "../../lib/overlay/linger.ts";

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
    const linger = new Linger(nothing);
    linger.merge(whole, 0);
    expect(linger.next).toBeUndefined();
    expect(plain(linger.merge(withoutB, 1000))).toEqual(plain(whole));
    expect(linger.next).toBe(1000 + GRACE_MS);
    expect(plain(linger.merge(withoutB, 1000 + GRACE_MS - 1))).toEqual(plain(whole));
    expect(plain(linger.merge(withoutB, 1000 + GRACE_MS))).toEqual(plain(withoutB));
    expect(linger.next).toBeUndefined();
  });

  test("when it comes back, the time starts anew with the next time it goes", () => {
    const linger = new Linger(whole);
    linger.merge(withoutB, 0);
    linger.merge(whole, 30_000);
    linger.merge(withoutB, 50_000);
    expect(plain(linger.merge(withoutB, 50_000 + GRACE_MS - 1))).toEqual(plain(whole));
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
    const linger = new Linger(whole);
    expect(linger.merge(around, 0).routes).toEqual(whole.routes);
    expect(linger.next).toBe(HOLD_MS);
    expect(plain(linger.merge(around, HOLD_MS))).toEqual(plain(around));
    expect(linger.next).toBeUndefined();
  });

  test("a way by a neighbour that has lost it, too, but says so later, is none", () => {
    const linger = new Linger(whole);
    linger.merge(around, 0);
    expect(plain(linger.merge(withoutB, 10))).toEqual(plain(whole));
    expect(linger.next).toBe(GRACE_MS);
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
    expect(new Linger(whole).merge(better, 0).routes).toEqual(better.routes);
    const bySleeve = table(
      [
        [2, SLEEVE],
        [4, D],
      ],
      { 1: [hop(4, D)] },
    );
    expect(new Linger(whole).merge(bySleeve, 0).routes.get(2)).toBe(SLEEVE);
  });

  test("sleeve ends with its engine: nothing is kept of it", () => {
    const linger = new Linger(table([[2, SLEEVE]], {}));
    expect(plain(linger.merge(nothing, 0))).toEqual(plain(nothing));
  });

  test("a router that starts goes on with what the one before it has left", () => {
    const linger = new Linger(whole);
    expect(plain(linger.merge(nothing, 0))).toEqual(plain(whole));
    expect(plain(linger.merge(whole, 500))).toEqual(plain(whole));
    expect(linger.next).toBeUndefined();
  });
});
