// Random changes to what may reach whom, while containers talk to each other by the flow cache: nothing passes that the slow path
// drops, later than 100 ms after a change, and what may pass does. STEPS is how many.
import { afterAll, test } from "bun:test";
import { fastTraffic } from "../support/flowpods.ts";
import { FlowSteps } from "../support/flowsteps.ts";
import { FlowWorld } from "../support/flowworld.ts";
import { eventually } from "../support/hosts.ts";
import { randomOf } from "../support/seed.ts";

const STEPS = Number(process.env["STEPS"] ?? 24);

let world: FlowWorld | undefined;
afterAll(() => world?.disposeSync());

test(
  `${STEPS} random changes: rules, policies, services, addresses, routers`,
  async () => {
    const random = randomOf("flow model");
    world = await FlowWorld.create("flows");
    for (const policies of [false, true]) {
      if (policies) await world.enforce();
      const steps = new FlowSteps(world, random, policies);
      await steps.setService(random.pick(world.pods));
      await steps.setHostPort(random.pick(world.pods.filter(({ host }) => host === world?.a)));
      await world.renew();
      await world.allTalk();
      const history: string[] = [];
      try {
        for (let i = 0; i < STEPS / 2; i++) history.push(await steps.step());
        await steps.clear();
        await steps.restoreMacs();
        await world.allTalk();
      } catch (error) {
        const last = history.slice(-8).join("; ");
        throw new Error(`after ${history.length} changes, the last: ${last}: ${String(error)}`, {
          cause: error,
        });
      }
      // Routers that began anew have counted from 0.
      const { a } = world;
      const before = fastTraffic(a).sentPackets;
      if (process.env["WEAVE_NO_FLOW_CACHE"] === undefined)
        await eventually(
          "the flow cache carries packets",
          () => fastTraffic(a).sentPackets - before,
          (sent) => sent > 100n,
        );
    }
  },
  300_000 + STEPS * 10_000,
);
