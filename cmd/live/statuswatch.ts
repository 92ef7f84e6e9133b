// weave status --watch: the output of the command, refreshed.
import { ApiError } from "../../lib/api/client.ts";
import { PLAIN } from "../../lib/help/layout.ts";
import type { Arguments } from "../arguments.ts";
import { watch, watchJson } from "./watch.ts";

/** Status of a router that is not ready; the body is its status text. */
const NOT_READY = 503;

export interface StatusSource {
  /** Empty for all of it. */
  readonly part: string;
  readonly everyMs: number;
  /** What the command prints; rejects as the API client does. */
  text(): Promise<string>;
  /** What it prints as JSON. */
  json(): Promise<unknown>;
}

/** Show the status until a signal ends the process. */
export function watchStatus({ options, style = PLAIN }: Arguments, source: StatusSource): Promise<void> {
  const { part, everyMs, text, json } = source;
  const command = ["weave status", part].filter(Boolean).join(" ");
  if (options["json"]) return watchJson(command, everyMs, json);
  return watch({ command, everyMs, style, look: async () => linesOf(await text().catch(whileStarting)) });
}

function whileStarting(error: unknown): string {
  if (error instanceof ApiError && error.status === NOT_READY) return error.message;
  throw error;
}

/** Without the empty lines around them. */
function linesOf(text: string): string[] {
  return text.replace(/^\n+|\n+$/g, "").split("\n");
}
