// All steps, and how one is chosen.
import { hostState, type Model, numbers } from "./model.ts";
import type { Chance, Step } from "./step.ts";
import { CONTAINER_STEPS } from "./steps/containers.ts";
import { healing } from "./steps/heal.ts";
import { HOST_STEPS } from "./steps/hosts.ts";
import { IDENTITY_STEPS } from "./steps/identity.ts";
import { KERNEL_STEPS } from "./steps/kernel.ts";
import { NETWORK_STEPS } from "./steps/network.ts";
import { POLICY_STEPS } from "./steps/policies.ts";
import { PROGRAM_STEPS } from "./steps/programs.ts";
import { SURROUNDING_STEPS } from "./steps/surroundings.ts";

const FAULTS = [
  ...PROGRAM_STEPS,
  ...HOST_STEPS,
  ...NETWORK_STEPS,
  ...SURROUNDING_STEPS,
  ...KERNEL_STEPS,
  ...CONTAINER_STEPS,
  ...POLICY_STEPS,
  ...IDENTITY_STEPS,
];

const STEPS: readonly Step[] = [...FAULTS, healing(FAULTS)];

/** Faults, and programs that do not run, that there may be at once. */
const MAX_TROUBLES = 3;

/** A step of a history. */
export interface Taken {
  readonly step: string;
  readonly args: unknown;
}

/** Return the step of a name. Throws where there is none, as in a file of another version. */
export function stepNamed(name: string): Step {
  const step = STEPS.find((each) => each.name === name);
  if (!step) throw new Error(`no step is called ${name}`);
  return step;
}

const troubles = (model: Model) =>
  model.faults.length +
  model.hosts.filter(({ router, npc }) => router !== "running" || npc !== "running").length;

/** Choose the next step by chance and weight; more must not go wrong at once than can be told apart. */
export function chooseStep(model: Model, chance: Chance): Taken {
  for (;;) {
    const sum = STEPS.reduce((total, { weight }) => total + weight, 0);
    let number = chance.below(sum);
    const step = STEPS.find(({ weight }) => {
      number -= weight;
      return number < 0;
    });
    const args = step?.choose(model, chance);
    if (!step || args === undefined) continue;
    if (troubles(step.after(model, args, {})) > Math.max(MAX_TROUBLES, troubles(model))) continue;
    return { step: step.name, args };
  }
}

/** Return steps that end all that is wrong, in an order in which they can be taken. */
export function repair(model: Model): Taken | undefined {
  const fault = model.faults.find(({ step }) => stepNamed(step).canEnd?.(model) ?? true);
  for (const host of numbers(model)) {
    for (const program of ["router", "npc"] as const) {
      const step = { running: undefined, frozen: "thaw", down: "start" }[hostState(model, host)[program]];
      const args = { host, program };
      if (step && stepNamed(step).possible(model, args)) return { step, args };
    }
  }
  if (fault) return { step: "heal", args: { fault: fault.step } };
  const [host] = model.old;
  return host === undefined ? undefined : { step: "exchange", args: { host } };
}
