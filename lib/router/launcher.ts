// Pipe from a starting router to 'weave launch': warnings as JSON, one a line. The log has them, too, but its format and
// level depend on options.
import { closeSync, writeSync } from "node:fs";
import * as v from "valibot";
import type { Fields } from "../log/fields.ts";
import { type Log, logTo } from "../log/log.ts";

/** Variable with the file descriptor of the pipe. */
const VARIABLE = "WEAVE_LAUNCHER_FD";
/** File descriptor of the pipe in a router. */
export const LAUNCHER_FD = 3;
export const LAUNCHER_ENV = { [VARIABLE]: String(LAUNCHER_FD) };

/** Time after which no launcher listens any more. */
const LAUNCHER_MS = 10_000;
/** Bounds in characters: of one warning, and of all. */
const MAX_WARNING = 2_048;
const MAX_TEXT = 32_768;

const Warning = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ warning: v.string(), target: v.optional(v.string()), address: v.optional(v.string()) }),
);

/** A warning; `peer` is the target that it is about, or `address` the address of one. */
export type Warning = v.InferOutput<typeof Warning>;

/**
 * Return a log that also writes warnings and errors to the launcher's pipe, if there is one, for the first 10 s: the text,
 * and of the fields only those that name a peer.
 */
export function reportToLauncher(log: Log): Log {
  const told = process.env[VARIABLE] === String(LAUNCHER_FD);
  // A router that restarts in place must not write to another file of this number.
  delete process.env[VARIABLE];
  if (!told) return log;
  let open = true;
  const close = () => {
    if (open) closeSync(LAUNCHER_FD);
    open = false;
  };
  setTimeout(close, LAUNCHER_MS).unref();
  const tell = (text: string, { target, address }: Fields = {}) => {
    if (!open) return;
    try {
      writeSync(LAUNCHER_FD, `${JSON.stringify({ warning: text.slice(0, MAX_WARNING), target, address })}\n`);
    } catch {
      // The launcher has ended, or does not read.
      close();
    }
  };
  return logTo((level, text, fields) => {
    log[level](text, fields);
    if (level === "warning" || level === "error") tell(text, fields);
  });
}

/** Warnings of a router, out of what it writes to the pipe. */
export class LauncherWarnings {
  #text = "";
  readonly #utf8 = new TextDecoder();

  readonly take = (chunk: Uint8Array): void => {
    if (this.#text.length < MAX_TEXT) this.#text += this.#utf8.decode(chunk, { stream: true });
  };

  /** Return those so far, each once. */
  get list(): Warning[] {
    const read = [...new Set(this.#text.split("\n"))].map((each) => v.safeParse(Warning, each));
    return read.flatMap(({ success, output }) => (success ? [output] : []));
  }
}
