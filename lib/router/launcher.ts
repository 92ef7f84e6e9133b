// The line between a router and the 'weave launch' that looks on while it starts: warnings go over it as JSON, one a line.
// The log has them, too, but in a format and from a level on that options decide.
import { closeSync, writeSync } from "node:fs";
import type { Readable } from "node:stream";
import * as v from "valibot";
import type { Fields } from "../log/fields.ts";
import { type Log, logTo } from "../log/log.ts";

/** The variable with the file descriptor of the line. */
const VARIABLE = "WEAVE_LAUNCHER_FD";
/** Number of the line in a router. */
export const LAUNCHER_FD = 3;
export const LAUNCHER_ENV = { [VARIABLE]: String(LAUNCHER_FD) };

/** A launcher has gone by then. */
const LOOKS_ON_MS = 10_000;
/** Characters of one warning, and of all; the log has the rest. */
const MAX_WARNING = 2_048;
const MAX_TEXT = 32_768;

const Warning = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ warning: v.string(), target: v.optional(v.string()), address: v.optional(v.string()) }),
);

/** What a router has warned of, and of which peer: a named one without an address, or one at an address. */
export type Warning = v.InferOutput<typeof Warning>;

/**
 * Return a log that also tells warnings and errors to the launcher, where there is one, for the first 10 s: the sentence,
 * and of the fields only which peer it is about.
 */
export function toldToLauncher(log: Log): Log {
  const told = process.env[VARIABLE] === String(LAUNCHER_FD);
  // A router that starts again in place has none.
  delete process.env[VARIABLE];
  if (!told) return log;
  let open = true;
  const close = () => {
    if (open) closeSync(LAUNCHER_FD);
    open = false;
  };
  setTimeout(close, LOOKS_ON_MS).unref();
  const tell = (text: string, { target, address }: Fields = {}) => {
    if (!open) return;
    try {
      writeSync(LAUNCHER_FD, `${JSON.stringify({ warning: text.slice(0, MAX_WARNING), target, address })}\n`);
    } catch {
      // It has gone, or reads nothing.
      close();
    }
  };
  return logTo((level, text, fields) => {
    log[level](text, fields);
    if (level === "warning" || level === "error") tell(text, fields);
  });
}

/** Collect what a router tells over its line. The function returned has it so far, in order and each once. */
export function heardFromRouter(line: Readable): () => Warning[] {
  let text = "";
  line.setEncoding("utf8");
  line.on("data", (chunk: string) => {
    if (text.length < MAX_TEXT) text += chunk;
  });
  // The router has ended, or launch no longer looks on.
  line.on("error", () => {});
  return () => {
    const read = [...new Set(text.split("\n"))].map((each) => v.safeParse(Warning, each));
    return read.flatMap(({ success, output }) => (success ? [output] : []));
  };
}
