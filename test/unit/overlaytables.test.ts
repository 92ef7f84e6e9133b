// Which peers frames go by, by the fast datapath and by sleeve.
import { describe, expect, test } from "bun:test";
import { MAX_HOPS, SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import { makeTables } from "../../lib/overlay/tables.ts";
import { bytesOf } from "../support/sleevepair.ts";

describe("the tables", () => {
  const names = new Map([1, 2, 3, 4, 5000].map((id) => [id, bytesOf(id)]));
  const tables = makeTables({
    self: 1,
    names,
    neighbours: [
      { id: 2, fastdp: { address: 0x0a630002, link: 12 }, sleeve: 2 },
      { id: 3, fastdp: undefined, sleeve: 3 },
      { id: 5000, fastdp: undefined, sleeve: 5 },
    ],
    vxlanSources: new Set([0x0a630002]),
    unicast: new Map([
      [2, 2],
      [3, 3],
      [4, 2],
      [5000, 5000],
      [5001, 2],
      [6, 9],
    ]),
    broadcast: new Map([
      [1, { from: undefined, to: [2, 3] }],
      [2, { from: 2, to: [3] }],
      [3, { from: 3, to: [2] }],
      [5000, { from: 5000, to: [2] }],
      [4, { from: 2, to: [9] }],
    ]),
  });

  test("send frames by the fast datapath where it works, else by sleeve", () => {
    expect([...tables.kernel.routes]).toEqual([
      [2, 0x0a630002],
      [3, SLEEVE],
      [4, 0x0a630002],
      [5000, SLEEVE],
      // Behind the fast datapath, but VXLAN has no name for it.
      [5001, SLEEVE],
    ]);
    expect([...tables.engine.next]).toEqual([
      [2, 12],
      [3, 3],
      [4, 12],
      [5000, 5],
      [5001, 2],
    ]);
    expect([...tables.engine.nextBySleeve]).toEqual([
      [2, 2],
      [3, 3],
      [4, 2],
      [5000, 5],
      [5001, 2],
    ]);
  });

  test("broadcast along the trees, by both", () => {
    const hop = { shortId: 2, address: 0x0a630002 };
    expect(Object.fromEntries(tables.kernel.hops)).toEqual({
      1: { vxlan: [hop], sleeve: true },
      // It comes from the peer itself, by VXLAN.
      2: { from: 0x0a630002, vxlan: [], sleeve: true },
      3: { from: SLEEVE, vxlan: [hop], sleeve: false },
      // VXLAN has no name for the source.
      5000: { from: SLEEVE, vxlan: [], sleeve: true },
    });
    expect(Object.fromEntries(tables.engine.broadcast)).toEqual({ 1: [3], 2: [3], 5000: [2] });
  });

  test("broadcast to each of more children than the kernel has room for, once", () => {
    const children = Array.from({ length: MAX_HOPS + 44 }, (_, i) => i + 2);
    const { kernel, engine } = makeTables({
      self: 1,
      names: new Map(),
      neighbours: children.map((id) => ({ id, fastdp: { address: id, link: 0 }, sleeve: id })),
      vxlanSources: new Set(children),
      unicast: new Map(),
      broadcast: new Map([[1, { from: undefined, to: children }]]),
    });
    const hops = kernel.hops.get(1);
    expect([hops?.vxlan.length, hops?.sleeve]).toEqual([MAX_HOPS, true]);
    const reached = [
      ...(hops?.vxlan ?? []).map(({ shortId }) => shortId),
      ...(engine.broadcast.get(1) ?? []),
    ];
    expect(reached).toEqual(children);
  });
});
