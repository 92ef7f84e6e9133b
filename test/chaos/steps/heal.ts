// Ends a fault that lasts, by the step that began it.
import * as v from "valibot";
import type { Fault, Model } from "../model.ts";
import { defineStep, type Step } from "../step.ts";

/** The step that ends faults of these. */
export function healing(steps: readonly Step[]): Step {
  const stepOf = (fault: Fault | undefined) => steps.find(({ name }) => name === fault?.step);
  const canEnd = (model: Model, fault: Fault) => stepOf(fault)?.canEnd?.(model) ?? true;
  const faultOf = (model: Model, name: string) => model.faults.find(({ step }) => step === name);
  return defineStep(v.object({ fault: v.string() }), {
    name: "heal",
    weight: 20,
    withinMs: 90_000,
    choose(model, chance) {
      const fault = chance.pick(model.faults.filter((each) => canEnd(model, each)));
      return fault === undefined ? undefined : { fault: fault.step };
    },
    possible(model, args) {
      const fault = faultOf(model, args.fault);
      return fault !== undefined && canEnd(model, fault);
    },
    async apply(world, args, model) {
      const fault = faultOf(model, args.fault);
      await stepOf(fault)?.end?.(world, fault?.args, model);
      return undefined;
    },
    after(model, args) {
      const fault = faultOf(model, args.fault);
      const faults = model.faults.filter((each) => each !== fault);
      const holdings = fault?.kind === "space" ? [] : model.holdings;
      return { ...model, faults, holdings };
    },
  });
}
