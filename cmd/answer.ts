// Output of a command: text for people, or with --json one of the shapes of lib/api/shapes.ts.
import type { GenericSchema, InferOutput } from "valibot";
import type { Arguments } from "./arguments.ts";
import { printJson, show, warn } from "./output/output.ts";

export const JSON_OPTION = {
  json: { type: "boolean", default: false, description: "Print JSON" },
} as const;

/** Print the answer; `text` is "" if there is nothing to say. */
export function answer<S extends GenericSchema>(
  { options }: Pick<Arguments, "options">,
  _shape: S,
  value: InferOutput<S>,
  text: string,
): void {
  if (options["json"]) printJson(value);
  else if (text !== "") show(`${text}\n`);
}

/** Print a remark on standard error: no failure, but not what was expected. --json has it in the answer. */
export function remark({ options }: Pick<Arguments, "options">, text: string): void {
  if (!options["json"]) warn(text);
}
