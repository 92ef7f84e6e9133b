// Pipe from a starting router to 'weave launch': JSON, one message a line. Warnings first (the log has them, too, but its format
// and level depend on options), then how it has started.
import { closeSync, writeSync } from "node:fs";
import * as v from "valibot";
import type { Fields } from "../log/fields.ts";
import { type Log, logTo } from "../log/log.ts";
import { codeOf } from "../sys/cause.ts";
import { PEERS_MS, Started } from "./started.ts";

/** Variable with the file descriptor of the pipe. */
const VARIABLE = "WEAVE_LAUNCHER_FD";
/** File descriptor of the pipe in a router. */
export const LAUNCHER_FD = 3;
export const LAUNCHER_ENV = { [VARIABLE]: String(LAUNCHER_FD) };

/** Time that launch gives a router to be ready. */
export const START_MS = 30_000;
/** Time after which no launcher listens any more. */
export const LAUNCHER_MS = START_MS + PEERS_MS;
/** Pause before what a full pipe did not take is written, in ms. */
const FULL_PAUSE_MS = 10;
/** Bounds in characters: of one warning, of all, and of a line. */
const MAX_WARNING = 2_048;
const MAX_TEXT = 32_768;
const MAX_LINE = 4 << 20;

const Warning = v.object({
  warning: v.string(),
  target: v.optional(v.string()),
  address: v.optional(v.string()),
});
const Message = v.pipe(v.string(), v.parseJson(), v.union([Warning, v.object({ started: Started })]));

/** A warning; `peer` is the target that it is about, or `address` the address of one. */
export type Warning = v.InferOutput<typeof Warning>;

/** A router's end of the pipe. */
export interface Launcher {
  /** Writes to the router's log, and warnings and errors to the pipe: the text, and of the fields only those that name a peer. */
  readonly log: Log;
  /** Tell how the router has started, and close the pipe. */
  started(started: Started): void;
}

/** Return the launcher of this router; undefined where it was started by something else. */
export function openLauncher(log: Log): Launcher | undefined {
  const told = process.env[VARIABLE] === String(LAUNCHER_FD);
  // A router that restarts in place must not write to another file of this number.
  delete process.env[VARIABLE];
  if (!told) return undefined;
  let open = true;
  let ended = false;
  let rest = Buffer.alloc(0);
  const close = () => {
    if (open) closeSync(LAUNCHER_FD);
    open = false;
  };
  const flush = () => {
    try {
      while (open && rest.length > 0) rest = rest.subarray(writeSync(LAUNCHER_FD, rest));
      if (ended) close();
    } catch (error) {
      if (codeOf(error) === "EAGAIN") setTimeout(flush, FULL_PAUSE_MS).unref();
      // The launcher has ended.
      else close();
    }
  };
  const tell = (message: { warning: string; target: unknown; address: unknown } | { started: Started }) => {
    if (!open || ended) return;
    const isFull = rest.length > 0;
    if (isFull && "warning" in message && rest.length > MAX_TEXT) return;
    rest = Buffer.concat([rest, Buffer.from(`${JSON.stringify(message)}\n`)]);
    ended = "started" in message;
    if (!isFull) flush();
  };
  setTimeout(close, LAUNCHER_MS).unref();
  return {
    log: logTo((level, text, fields: Fields = {}) => {
      log[level](text, fields);
      const { target, address } = fields;
      if (level === "warning" || level === "error")
        tell({ warning: text.slice(0, MAX_WARNING), target, address });
    }),
    started: (started) => tell({ started }),
  };
}

/** Messages of a router, out of what it writes to the pipe. */
export class LauncherMessages {
  /** Resolves once the router has told how it has started. */
  readonly started: Promise<Started>;
  readonly #started = Promise.withResolvers<Started>();
  readonly #warnings = new Map<string, Warning>();
  readonly #utf8 = new TextDecoder();
  #length = 0;
  #rest = "";

  constructor() {
    this.started = this.#started.promise;
  }

  readonly take = (chunk: Uint8Array): void => {
    const lines = `${this.#rest}${this.#utf8.decode(chunk, { stream: true })}`.split("\n");
    this.#rest = (lines.pop() ?? "").slice(0, MAX_LINE);
    for (const line of lines) this.#read(line);
  };

  /** Return the warnings so far, each once. */
  get warnings(): Warning[] {
    return [...this.#warnings.values()];
  }

  #read(line: string): void {
    const { success, output } = v.safeParse(Message, line);
    if (!success) return;
    if ("started" in output) return this.#started.resolve(output.started);
    if (this.#length < MAX_TEXT) this.#warnings.set(line, output);
    this.#length += line.length;
  }
}
