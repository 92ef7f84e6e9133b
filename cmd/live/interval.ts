// Options of commands that refresh.
import type { OptionTable } from "../../lib/help/spec.ts";
import { type Arguments, UsageError } from "../arguments.ts";

const DEFAULT_S = "2";
const MIN_S = 0.5;
const MAX_S = 3_600;

export const WATCH_OPTION = {
  watch: {
    type: "string",
    alias: "w",
    valueHint: "SECONDS",
    optional: DEFAULT_S,
    description: "Refresh every SECONDS (2 unless given) until Ctrl-C; mark what changes",
  },
} as const satisfies OptionTable;

/** Return the interval that an option asks for, in ms; undefined without it. Throw UsageError. */
export function intervalOf({ options }: Pick<Arguments, "options">, option: string): number | undefined {
  const given = options[option];
  if (given === undefined) return undefined;
  const seconds =
    typeof given === "string" && /^\d{1,4}(\.\d{1,3})?$/.test(given) ? Number(given) : Number.NaN;
  if (!(seconds >= MIN_S && seconds <= MAX_S))
    throw new UsageError(
      `--${option} "${String(given)}" is not an interval from ${MIN_S} to ${MAX_S} seconds`,
    );
  return seconds * 1_000;
}
