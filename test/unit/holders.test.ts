// Holders and addresses: both indexes agree after any changes, and after failed writes.
import { expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { Holders } from "../../lib/ipam/holders.ts";
import { StoreError } from "../../lib/store/store.ts";
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
