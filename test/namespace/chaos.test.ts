// The short form of `npm run test:chaos`: a few dozen steps that one seed chooses, and after each of them all that must hold.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { run } from "../chaos/run.ts";
import { chanceOf } from "../chaos/step.ts";
import { chooseStep } from "../chaos/table.ts";

const SEED = 565n;
const STEPS = 24;

test("hosts that are killed, cut off, rebooted and meddled with keep what they have promised", async () => {
  const chance = chanceOf(seededRandom(SEED));
  let left = STEPS;
  const { done, violation } = await run("chs", {
    hosts: 4,
    encrypted: false,
    next: (model) => (left-- > 0 ? chooseStep(model, chance) : undefined),
  });
  const history = done.map((step) => JSON.stringify(step)).join("\n");
  expect(violation, history).toBeUndefined();
  expect(done.length).toBeGreaterThanOrEqual(STEPS);
}, 300_000);
