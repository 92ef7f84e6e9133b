// What the router and the eBPF programs share: each value to the byte, and which maps are taken over.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { BpfMap, type Layout, U32 } from "../../lib/bpf/map.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { SHORT_IDS } from "../../lib/mesh/bounds.ts";
import { Contents } from "../../lib/overlay/datapath/contents.ts";
import {
  adoptMaps,
  closeMaps,
  createMaps,
  type DatapathMaps,
  expectHeartbeats,
  MAX_HOPS,
  macsFromFd,
} from "../../lib/overlay/datapath/maps.ts";
import { PEER_IDS } from "../../lib/overlay/peerid.ts";
import { isRoot } from "../support/newnetns.ts";

const A = parseIPv4("10.0.0.1");

/** Run with maps, which are closed. */
function withMaps(act: (maps: DatapathMaps) => void): void {
  const maps = createMaps();
  try {
    act(maps);
  } finally {
    closeMaps(maps);
  }
}
const idOf = ({ fd }: { readonly fd: number }) =>
  Number(/^map_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]);
const ids = (maps: DatapathMaps) =>
  [maps.macs, maps.routes, maps.hops, maps.neighbours, maps.heartbeats].map(idOf);
const bytes = <T>(layout: Layout<T>, value: T) => {
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.encode(value, view);
  return new Uint8Array(view.buffer).toHex();
};
const read = <T>(layout: Layout<T>, hex: string) =>
  layout.decode(new DataView(Uint8Array.fromHex(hex).buffer));

describe.if(isRoot)("values", () => {
  test("of heartbeats: the size is big-endian, as the programs copy it from the wire", () => {
    withMaps(({ heartbeats }) => {
      const { key, value } = heartbeats.definition;
      expect(read(value, "05600000" + "6e050000" + "0100000a" + "00000000" + "0807060504030201")).toEqual({
        ...{ size: 0x0560, length: 0x056e, sender: A, at: 0x0102030405060708n },
      });
      expect(bytes(key, 0x0102030405060708n)).toBe("0102030405060708");
      expect(read(key, "0102030405060708")).toBe(0x0102030405060708n);
    });
  });

  test("of MAC addresses, neighbours and hops", () => {
    withMaps(({ macs, neighbours, hops }) => {
      const seen = { peer: 7, seen: 0x0102030405060708n };
      expect(bytes(macs.definition.value, seen)).toBe("07000000" + "00000000" + "0807060504030201");
      const traffic = { seen: 1n, received: 2n, sent: 3n };
      expect(bytes(neighbours.definition.value, traffic)).toBe(
        ["01", "02", "03"].map((byte) => byte.padEnd(16, "0")).join(""),
      );
      const tree = { from: A, vxlan: [{ shortId: 5, address: A + 1 }], sleeve: true };
      expect(bytes(hops.definition.value, tree).slice(0, 48)).toBe(
        "01000000" + "01000000" + "0100000a" + "00000000" + "05000000" + "0200000a",
      );
    });
  });

  test("of hops that another program has damaged are read, and replaced", () => {
    withMaps((maps) => {
      const hops = { from: A, vxlan: [{ shortId: 5, address: A + 1 }], sleeve: false };
      const table = { routes: new Map(), hops: new Map([[1, hops]]), neighbours: new Set<number>() };
      const contents = new Contents(maps, false);
      contents.replace(table);
      const raw: Layout<number> = {
        size: maps.hops.definition.value.size,
        encode: (count, view) => view.setUint32(0, count, true),
        decode: (view) => view.getUint32(0, true),
      };
      const { definition, fd } = maps.hops;
      BpfMap.fromFd({ ...definition, value: raw }, fd).set(1, 0xffff_ffff);
      expect(maps.hops.get(1)?.vxlan.length).toBe(MAX_HOPS);
      expect(keeper(contents).reconcile(() => true).length).toBe(1);
      expect(maps.hops.get(1)).toEqual(hops);
    });
  });

  test("come back from the kernel as they went", () => {
    withMaps((maps) => {
      maps.macs.set("02:00:00:00:00:05", { peer: 9, seen: 77n });
      maps.neighbours.set(A, { seen: 4n, received: 5n, sent: 6n });
      const many = Array.from({ length: MAX_HOPS + 9 }, (_, i) => ({ shortId: i, address: A + i }));
      maps.hops.set(1, { vxlan: many, sleeve: false });
      // The programs in the kernel trust the number of hops.
      const encoded = new DataView(new ArrayBuffer(maps.hops.definition.value.size));
      maps.hops.definition.value.encode({ vxlan: many, sleeve: false }, encoded);
      expect(encoded.getUint32(0, true)).toBe(MAX_HOPS);
      maps.hops.set(2, { from: A, vxlan: [], sleeve: true });
      maps.routes.set(3, A);
      expectHeartbeats(maps, 0xffff_ffff_0000_0001n);
      expect(maps.macs.entries()).toEqual([["02:00:00:00:00:05", { peer: 9, seen: 77n }]]);
      expect(maps.neighbours.get(A)).toEqual({ seen: 4n, received: 5n, sent: 6n });
      expect(maps.hops.get(1)).toEqual({ from: undefined, vxlan: many.slice(0, MAX_HOPS), sleeve: false });
      expect(maps.hops.get(2)).toEqual({ from: A, vxlan: [], sleeve: true });
      expect([maps.routes.get(3), maps.routes.get(4)]).toEqual([A, 0]);
      expect(maps.heartbeats.get(0xffff_ffff_0000_0001n)).toEqual({ size: 0, length: 0, sender: 0, at: 0n });
      expect(maps.heartbeats.get(1n)).toBeUndefined();
      const same = macsFromFd(maps.macs.fd);
      expect(same.get("02:00:00:00:00:05")?.peer).toBe(9);
    });
  });
});

/** What the kernel says of a map (bpf_map_show_fdinfo). */
function madeAs({ fd }: { readonly fd: number }): number[] {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  return ["map_type", "key_size", "value_size", "max_entries"].map((name) =>
    Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(text)?.[1]),
  );
}

test.if(isRoot)("the kernel makes each map of its kind and size", () => {
  // enum bpf_map_type (linux/bpf.h).
  const [HASH, ARRAY, LRU_HASH] = [1, 2, 9];
  withMaps((maps) => {
    expect(Object.fromEntries(Object.entries(maps).map(([name, map]) => [name, madeAs(map)]))).toEqual({
      macs: [LRU_HASH, 8, 16, 16_384],
      routes: [ARRAY, 4, 4, PEER_IDS],
      hops: [HASH, 4, 16 + 8 * MAX_HOPS, PEER_IDS],
      neighbours: [HASH, 4, 24, SHORT_IDS],
      heartbeats: [HASH, 8, 24, 2 * SHORT_IDS],
    });
  });
});

test.if(isRoot)("a MAC address is learned, too, where there are as many as there is room for", () => {
  withMaps(({ macs }) => {
    const room = macs.definition.maxEntries;
    const byte = (value: number) => (value & 255).toString(16).padStart(2, "0");
    const mac = (i: number) => `02:00:00:00:${byte(i >> 8)}:${byte(i)}`;
    for (let i = 0; i < room + 9; i++) {
      const entry = { peer: 1 + (i % 7), seen: BigInt(i) };
      macs.set(mac(i), entry);
      if (i >= room) expect(macs.get(mac(i))).toEqual(entry);
    }
    expect(macs.entries().length).toBeLessThanOrEqual(room);
  });
});

describe.if(isRoot)("the maps of a router before", () => {
  test("are taken over, whatever other maps there are", () => {
    withMaps((maps) => {
      maps.routes.set(3, A);
      expectHeartbeats(maps, 5n);
      const other = BpfMap.create({ name: "other", type: "array", key: U32, value: U32, maxEntries: 1 });
      const adopted = adoptMaps([idOf(other), ...ids(maps)]);
      if (!adopted) return expect.unreachable();
      expect([adopted.routes.get(3), adopted.heartbeats.get(5n) !== undefined]).toEqual([A, true]);
      expect(ids(adopted)).toEqual(ids(maps));
      closeMaps(adopted);
      other.close();
    });
  });

  test("are not where one is missing; heartbeats are made anew", () => {
    withMaps((maps) => {
      const all = ids(maps);
      for (let i = 0; i < 4; i++) expect(adoptMaps(all.toSpliced(i, 1))).toBeUndefined();
      expectHeartbeats(maps, 5n);
      const adopted = adoptMaps(all.slice(0, 4));
      if (!adopted) return expect.unreachable();
      expect([idOf(adopted.heartbeats) === all[4], adopted.heartbeats.get(5n)]).toEqual([false, undefined]);
      closeMaps(adopted);
    });
  });
});
