// Policies that are put in force and taken back.
import * as v from "valibot";
import { hasFault, type Model } from "../model.ts";
import { POLICIES, policyObject } from "../policies.ts";
import { defineStep, type Step } from "../step.ts";

const Args = v.object({ policy: v.picklist(POLICIES), on: v.boolean() });

const possible = (model: Model, { policy, on }: v.InferOutput<typeof Args>) =>
  !hasFault(model, "api") && model.policies.includes(policy) !== on;

const policy = defineStep(Args, {
  name: "policy",
  weight: 8,
  withinMs: 15_000,
  choose(model, chance) {
    const policy = chance.pick(POLICIES) ?? "close";
    const args = { policy, on: !model.policies.includes(policy) };
    return possible(model, args) ? args : undefined;
  },
  possible,
  async apply(world, { policy, on }) {
    if (on) world.api.apply(policyObject(policy));
    else world.api.delete(policyObject(policy));
    return undefined;
  },
  after: (model, { policy, on }) => ({
    ...model,
    policies: on ? [...model.policies, policy].sort() : model.policies.filter((each) => each !== policy),
  }),
});

export const POLICY_STEPS: readonly Step[] = [policy];
