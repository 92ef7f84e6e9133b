// Holders and addresses: both indexes agree after any changes, and after failed writes.
import { expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { Holders } from "../../lib/ipam/holders.ts";
import { StoreError } from "../../lib/store/error.ts";
import { MemoryDisk } from "../support/allocators.ts";
import { randomOf } from "../support/seed.ts";

const FIRST = parseIPv4("10.32.0.0");

test("by holder, by address and on disk they are the same, also where a write fails", () => {
  const random = randomOf("owned");
  for (let run = 0; run < 100; run++) {
    const disk = new MemoryDisk().mount();
    let full = false;
    const owned = new Holders({
      ...disk,
      saveHolder(id, held) {
        if (full) throw new StoreError("disk", "the disk is full");
        disk.saveHolder(id, held);
      },
    });
    const model = new Map<number, string>();
    for (let step = 0; step < 40; step++) {
      full = random.below(5) === 0;
      const [id, address] = [`c${random.below(4)}`, FIRST + random.below(6)];
      const change = () => {
        if (random.below(2) === 0) {
          if (model.has(address)) return;
          owned.add(id, { address, prefix: 24 }, true);
          model.set(address, id);
        } else {
          const gone = [...model].filter(([, holder]) => holder === id).map(([held]) => held);
          const some = gone.filter(() => random.below(2) === 0);
          owned.remove(id, some);
          for (const held of some) model.delete(held);
        }
      };
      try {
        change();
      } catch (error) {
        expect([full, error instanceof StoreError]).toEqual([true, true]);
      }
      for (let held = FIRST; held < FIRST + 6; held++) expect(owned.holderOf(held)).toBe(model.get(held));
      for (const holders of [new Map(owned.entries()), disk.loadHolders()]) {
        const listed = [...holders].flatMap(([holder, { cidrs }]) =>
          cidrs.map((cidr) => [cidr.address, holder]),
        );
        expect(new Map(listed as [number, string][])).toEqual(model);
      }
    }
  }
});

test("a transfer leaves an address with one holder, also after a write that fails and a start", () => {
  const disk = new MemoryDisk().mount();
  let writes = Number.POSITIVE_INFINITY;
  const store = {
    ...disk,
    saveHolder(id: string, held: Parameters<typeof disk.saveHolder>[1]) {
      if (writes-- <= 0) throw new StoreError("disk", "the disk is full");
      disk.saveHolder(id, held);
    },
  };
  const holders = new Holders(store);
  const all = (of: Holders) =>
    [...of.entries()].flatMap(([id, { cidrs }]) =>
      cidrs.map(({ address, attachment }) => `${id} ${address - FIRST} ${attachment ?? ""}`),
    );
  expect(holders.transfer(FIRST, "container", undefined)).toBe(false);
  for (const each of [0, 1]) holders.add("endpoint", { address: FIRST + each, prefix: 24 }, true);
  expect(holders.transfer(FIRST, "container", "docker:net/ethwe0")).toBe(true);
  expect(all(holders)).toEqual(["endpoint 1 ", "container 0 docker:net/ethwe0"]);
  expect(holders.transfer(FIRST, "container", "docker:other/ethwe1")).toBe(true);
  expect(holders.holderOf(FIRST)).toBe("container");
  writes = 0;
  expect(() => holders.transfer(FIRST + 1, "container", "docker:net/ethwe1")).toThrow(StoreError);
  expect(holders.holderOf(FIRST + 1)).toBe("endpoint");
  writes = 1;
  expect(holders.transfer(FIRST + 1, "container", "docker:net/ethwe1")).toBe(true);
  expect(all(holders)).toEqual(["container 0 docker:other/ethwe1", "container 1 docker:net/ethwe1"]);
  writes = Number.POSITIVE_INFINITY;
  const again = new Holders(disk);
  again.load();
  expect(all(again).length).toBe(2);
  again.remove(again.holderOf(FIRST + 1) ?? "", [FIRST + 1]);
  expect(again.holderOf(FIRST + 1)).toBeUndefined();
  const third = new Holders(disk);
  third.load();
  expect(all(third).length).toBe(1);
});
