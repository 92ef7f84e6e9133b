// Waits are told of: on a terminal in a line that is replaced, elsewhere in a line for each new text, with --json not at all.
import yoctoSpinner from "yocto-spinner";
import { type ApiClient, ApiError, apiClient } from "../lib/api/client.ts";
import { printable } from "../lib/log/printable.ts";
import type { Arguments } from "./arguments.ts";
import { columnsOf } from "./output/fitting.ts";

/** A wait that is longer is told of; what is waited for is asked again as often. */
const TELL_AFTER_MS = 1_000;

/** Where progress is shown. */
export interface Progress {
  say(text: string): void;
  end(): void;
}

const QUIET: Progress = { say() {}, end() {} };

/** Progress on standard error. */
export function progress({ options }: Pick<Arguments, "options">, stream = process.stderr): Progress {
  if (options["json"]) return QUIET;
  if (!stream.isTTY) {
    let last = "";
    const say = (text: string) => {
      if (text !== last) stream.write(`${printable(text)}\n`);
      last = text;
    };
    return { say, end() {} };
  }
  const spinner = yoctoSpinner({ stream });
  return {
    say(text) {
      // A line that is too long for the terminal would be more than one.
      const fitting = printable(text).slice(0, Math.max(20, columnsOf(stream) - 3));
      if (spinner.isSpinning) spinner.text = fitting;
      else spinner.start(fitting);
    },
    end: () => spinner.stop(),
  };
}

/** Do some work; from a second on, say what it waits for: a text, or a function that may not know. */
export async function whileWaiting<T>(
  args: Pick<Arguments, "options">,
  work: Promise<T>,
  what: string | (() => Promise<string | undefined>),
): Promise<T> {
  const shown = progress(args);
  const tell = async () => {
    const text = typeof what === "string" ? what : await what().catch(() => undefined);
    if (text !== undefined && !ended) shown.say(text);
    if (!ended) timer = setTimeout(tell, TELL_AFTER_MS);
  };
  let ended = false;
  let timer = setTimeout(tell, TELL_AFTER_MS);
  try {
    return await work;
  } finally {
    ended = true;
    clearTimeout(timer);
    shown.end();
  }
}

/** What the router waits for on behalf of a holder of addresses, or of all. */
export async function awaited(api: ApiClient, id?: string): Promise<string> {
  const path = id === undefined ? "" : `/${encodeURIComponent(id)}`;
  const reasons = await api("GET", `/ipinfo/waits${path}`, { timeoutMs: TELL_AFTER_MS }).catch(() => "");
  const [reason] = reasons.split("\n");
  return reason ? `waiting: ${reason}` : "waiting for the router to answer";
}

/** Return a client whose calls say what they wait for. */
export function tellingClient(args: Pick<Arguments, "options">, api: ApiClient = apiClient()): ApiClient {
  return (method, path, options) => whileWaiting(args, api(method, path, options), () => awaited(api));
}

/** Why no address of the default subnet can be had now; undefined where one can. */
export async function awaitedAddress(api: ApiClient): Promise<string | undefined> {
  try {
    await api("GET", "/ipinfo/available");
    return undefined;
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
}
