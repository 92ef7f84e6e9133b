// Whatever others do to the kernel objects that the router owns: traffic flows again, and all is as it was. $UNDOINGS is how
// often something is undone.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { HealingBed } from "../support/healing.ts";
import { randomOf } from "../support/seed.ts";
import type { Undoing } from "../support/undoings.ts";

const COUNT = Number(process.env["UNDOINGS"] ?? 25);
/** The router takes more within a minute, of one object, for a fight. */
const PEACE = 4;
const MINUTE_MS = 60_000;

let bed: HealingBed;
beforeAll(async () => {
  bed = await HealingBed.create("undo");
  await bed.settle();
}, 300_000);
afterAll(() => bed?.disposeSync());

/** Undoings by the object that they are about. */
function byObject(undoings: readonly Undoing[]): Undoing[][] {
  return [...Map.groupBy(undoings, ({ host, object }) => `${host.name} ${object}`).values()];
}

test(
  `${COUNT} kernel objects that others remove or change are put back`,
  async () => {
    const { pick } = randomOf("undo");
    const objects = byObject(bed.undoings).map((undoings) => ({ undoings, times: [] as number[] }));
    for (let i = 1; i <= COUNT; i++) {
      const rested = () =>
        objects.filter(
          ({ times }) => (times.at(-PEACE) ?? Number.NEGATIVE_INFINITY) < Date.now() - MINUTE_MS,
        );
      while (rested().length === 0) await Bun.sleep(1_000);
      const object = pick(rested());
      const undoing = pick(object.undoings);
      const fault = HealingBed.fault(await bed.undo(undoing));
      object.times.push(Date.now());
      const what = `${i}: ${undoing.host.name}: ${undoing.script}`;
      expect(fault && `${what}: ${fault}`).toBeUndefined();
    }
  },
  300_000 + COUNT * 15_000,
);
