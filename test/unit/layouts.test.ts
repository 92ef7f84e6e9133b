// What the maps of the programs hold: each byte of a key or a value belongs to one field, which is read where it is written.
import { describe, expect, spyOn, test } from "bun:test";
import { BpfMap, type Layout, type MapDefinition } from "../../lib/bpf/map.ts";
import { BINDING, CLASS, createPortMaps } from "../../lib/host/ports/maps.ts";
import { createMaps, HOPS_VALUE } from "../../lib/overlay/datapath/maps.ts";
import { createFlowMaps } from "../../lib/overlay/flowcache/maps.ts";

/** The layouts of all maps that a router makes. */
const LAYOUTS = (() => {
  const found: [string, Layout<unknown>][] = [];
  const map = { set() {}, close() {} };
  using _ = spyOn(BpfMap, "create").mockImplementation(((definition: MapDefinition<unknown, unknown>) => {
    found.push([`the key of ${definition.name}`, definition.key], [`${definition.name}`, definition.value]);
    return map;
  }) as never);
  createMaps();
  createPortMaps();
  createFlowMaps();
  return found;
})();

/** Where numbers have to make sense: other bytes than i + 1 at i. */
const GIVEN: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  weave_hops: {
    [HOPS_VALUE.count]: 2,
    [HOPS_VALUE.count + 1]: 0,
    [HOPS_VALUE.count + 2]: 0,
    [HOPS_VALUE.count + 3]: 0,
  },
  "the key of weave_bindings": {
    ...{
      [BINDING.class]: CLASS.ipv4,
      [BINDING.class + 1]: 0,
      [BINDING.class + 2]: 0,
      [BINDING.class + 3]: 0,
    },
  },
};
/** Fields of which others depend. */
const COUNTS: Readonly<Record<string, number>> = { weave_hops: HOPS_VALUE.count };
/** The programs alone write these. */
const READ_ONLY: readonly string[] = ["weave_heartb"];
/** Longer values repeat themselves. */
const LOOKED_AT = 64;

function example(name: string, size: number): Uint8Array {
  const bytes = Uint8Array.from({ length: size }, (_, i) => (i < LOOKED_AT ? i + 1 : 0));
  for (const [at, byte] of Object.entries(GIVEN[name] ?? {})) bytes[Number(at)] = byte;
  return bytes;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.slice().buffer);

/** Numbers, texts and flags of a value by their paths. */
function fieldsOf(value: unknown, path = ""): [string, string][] {
  if (value instanceof Uint8Array) return [[path, value.toHex()]];
  if (typeof value !== "object" || value === null) return [[path, String(value)]];
  return Object.entries(value).flatMap(([name, part]) => fieldsOf(part, `${path}.${name}`));
}

describe.each(LAYOUTS)("%s", (name, layout) => {
  const bytes = example(name, layout.size);
  const before = new Map(fieldsOf(layout.decode(viewOf(bytes))));
  const count = COUNTS[name] ?? layout.size;

  test("has no byte in two fields, and no field without one", () => {
    const places = new Map([...before.keys()].map((field) => [field, [] as number[]]));
    for (let at = 0; at < Math.min(layout.size, LOOKED_AT); at++) {
      if (at >= count && at < count + 4) continue;
      const changed = bytes.slice();
      changed[at] = 0xff - at;
      const after = fieldsOf(layout.decode(viewOf(changed)));
      const differ = after.filter(([field, value]) => value !== before.get(field)).map(([field]) => field);
      expect([at, differ.slice(1)]).toEqual([at, []]);
      for (const field of differ) places.get(field)?.push(at);
    }
    // A flag needs a byte that is 0.
    const flags = [...before].filter(([, value]) => value === "true" || value === "false");
    for (const [field] of flags) places.delete(field);
    expect([...places].filter(([, at]) => at.length === 0)).toEqual([]);
  });

  if (READ_ONLY.includes(name)) return;
  test("is read as it was written", () => {
    const value = layout.decode(viewOf(bytes));
    const written = new DataView(new ArrayBuffer(layout.size));
    layout.encode(value, written);
    expect(layout.decode(written)).toEqual(value);
  });
});
