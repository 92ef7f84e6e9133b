// What a step of a chaos run is: data that can be chosen by chance, written down, read back and left out.
import * as v from "valibot";
import { below, type Random } from "../../lib/clock/random.ts";
import type { Model } from "./model.ts";
import type { World } from "./world.ts";

/** Chance, as steps use it. */
export interface Chance {
  below(bound: number): number;
  /** One of a list; undefined where it is empty. */
  pick<T>(list: readonly T[]): T | undefined;
}

export const chanceOf = (random: Random): Chance => ({
  below: (bound) => below(random, bound),
  pick: (list) => list[below(random, list.length)],
});

/** What was found out while a step was taken: the rest follows from the model. */
export type Facts = Readonly<Record<string, string>>;

interface Described<A> {
  readonly name: string;
  /** How often it is chosen, beside others. */
  readonly weight: number;
  /** Time in ms, on a quiet machine, until all must hold again. */
  readonly withinMs: number;
  /** Arguments; undefined where it cannot be taken now. */
  choose(model: Model, chance: Chance): A | undefined;
  /** Whether it can be taken with these. */
  possible(model: Model, args: A): boolean;
  /** Takes it; returns what the model cannot know. */
  apply(world: World, args: A, model: Model): Promise<Facts | undefined>;
  /** The model then; before the step is taken without facts, for what is to be expected meanwhile. */
  after(model: Model, args: A, facts: Facts): Model;
  /** Ends the fault that it began, by the arguments that it began with. */
  end?(world: World, args: A, model: Model): Promise<void>;
  /** Whether that can be done now; always unless given. */
  readonly canEnd?: (model: Model) => boolean;
  /** Traffic that flowed goes on while nothing else happens. */
  readonly keeps?: (model: Model, args: A) => boolean;
  /** Others take rules away: until they are back, no policy is in force. */
  readonly opens?: boolean;
}

/** A step whose arguments are any that its schema takes. */
export type Step = Described<unknown>;

/** Make a step, with the schema of its arguments: those of a history are read from a file. */
export function defineStep<S extends v.GenericSchema>(schema: S, step: Described<v.InferOutput<S>>): Step {
  const read = (args: unknown) => v.parse(schema, args);
  const { end, keeps } = step;
  return {
    ...step,
    possible: (model, args) => step.possible(model, read(args)),
    apply: (world, args, model) => step.apply(world, read(args), model),
    after: (model, args, facts) => step.after(model, read(args), facts),
    ...(end ? { end: (world: World, args: unknown, model: Model) => end(world, read(args), model) } : {}),
    ...(keeps ? { keeps: (model: Model, args: unknown) => keeps(model, read(args)) } : {}),
  };
}

/** Arguments that name a host. */
export const OnHost = v.object({ host: v.number() });
