// A history: what a chaos run was, as JSON lines; the first says of what world.
import * as v from "valibot";
import type { Taken } from "./table.ts";

const Head = v.object({
  seed: v.number(),
  hosts: v.number(),
  encrypted: v.boolean(),
  old: v.optional(v.string()),
});
const Line = v.looseObject({ step: v.string(), args: v.record(v.string(), v.unknown()) });

export type Head = v.InferOutput<typeof Head>;

export interface History {
  readonly head: Head;
  readonly steps: readonly Taken[];
}

export function formatHistory({ head, steps }: History): string {
  return [head, ...steps].map((line) => `${JSON.stringify(line)}\n`).join("");
}

/** Read a history; lines may say more than that. Throws where it is none. */
export function parseHistory(text: string): History {
  const [first = "", ...rest] = text.split("\n").filter((line) => line.trim() !== "");
  return {
    head: v.parse(Head, JSON.parse(first)),
    steps: rest.map((line) => {
      const { step, args } = v.parse(Line, JSON.parse(line));
      return { step, args };
    }),
  };
}
