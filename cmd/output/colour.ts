// Colour: on a terminal, unless NO_COLOR or TERM=dumb says otherwise (https://no-color.org); --color overrides both.
import { COLOURED, PLAIN, type Style } from "../../lib/help/layout.ts";
import { UsageError } from "../arguments.ts";

const MODES = ["auto", "always", "never"];

/** The style that the arguments, the environment and the stream ask for, and the arguments without --color. */
export function colours(
  argv: readonly string[],
  stream: { readonly isTTY?: boolean },
  env: Readonly<Record<string, string | undefined>> = process.env,
): { readonly style: Style; readonly rest: readonly string[] } {
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
  const isColour = (arg: string, at: number) => at < end && /^--(no-)?color(=|$)/.test(arg);
  const given = argv.filter(isColour).map((arg) => {
    if (arg === "--color") return "always";
    return arg === "--no-color" ? "never" : arg.replace(/^--color=/, "");
  });
  const mode = given.at(-1) ?? "auto";
  if (!MODES.includes(mode)) throw new UsageError(`option --color is ${MODES.join(", ")}, not "${mode}"`);
  const plain = Boolean(env["NO_COLOR"]) || env["TERM"] === "dumb" || !stream.isTTY;
  const coloured = mode === "always" || (mode === "auto" && !plain);
  return { style: coloured ? COLOURED : PLAIN, rest: argv.filter((arg, at) => !isColour(arg, at)) };
}
