// What a command answers: text for people, or with --json one of the shapes of lib/api/shapes.ts.
import type { GenericSchema, InferOutput } from "valibot";
import type { Arguments } from "./arguments.ts";
import { print } from "./stdout.ts";

export const JSON_OPTION = {
  json: { type: "boolean", default: false, description: "Print JSON" },
} as const;

/** Prints the answer; `text` is empty where people are told nothing. */
export function answer<S extends GenericSchema>(
  { options }: Pick<Arguments, "options">,
  _shape: S,
  value: InferOutput<S>,
  text: string,
): void {
  if (options["json"]) print(JSON.stringify(value, null, 2));
  else if (text !== "") print(text);
}
