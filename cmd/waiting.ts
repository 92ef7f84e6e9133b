// Progress of long waits: on a terminal in a line that is replaced, elsewhere a line for each new text, none with --json.
import { type ApiClient, apiClient } from "../lib/api/client.ts";
import { printable } from "../lib/log/printable.ts";
import type { Arguments } from "./arguments.ts";
import { columnsOf } from "./output/fitting.ts";

/** Waits longer than this show progress; also the interval of updates. */
const NOTICE_AFTER_MS = 1_000;

/** Where progress is shown. */
export interface Progress {
  say(text: string): void;
  end(): void;
}

const QUIET: Progress = { say() {}, end() {} };

/** Whether a line can be replaced: the spinner writes a line a second where TERM or CI say that it cannot. */
function replacesLines(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && process.env["TERM"] !== "dumb" && !("CI" in process.env);
}

/** Progress on standard error. */
export async function progress(
  { options }: Pick<Arguments, "options">,
  stream = process.stderr,
): Promise<Progress> {
  if (options["json"]) return QUIET;
  if (!replacesLines(stream)) {
    let last = "";
    const say = (text: string) => {
      if (text !== last) stream.write(`${printable(text)}\n`);
      last = text;
    };
    return { say, end() {} };
  }
  // Most waits end before there is anything to show.
  const { default: yoctoSpinner } = await import("yocto-spinner");
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

/** Await some work; after 1 s, show what it waits for: a text, or a function that may not know. */
export async function withProgress<T>(
  args: Pick<Arguments, "options">,
  work: Promise<T>,
  what: string | (() => Promise<string | undefined>),
): Promise<T> {
  let shown: Progress | undefined;
  const tell = async () => {
    const text = typeof what === "string" ? what : await what().catch(() => undefined);
    shown ??= await progress(args);
    if (text !== undefined && !ended) shown.say(text);
    if (!ended) timer = setTimeout(tell, NOTICE_AFTER_MS);
  };
  let ended = false;
  let timer = setTimeout(tell, NOTICE_AFTER_MS);
  try {
    return await work;
  } finally {
    ended = true;
    clearTimeout(timer);
    shown?.end();
  }
}

/** Return what the router waits for on behalf of one holder of addresses, or of all. */
export async function waitReason(api: ApiClient, id?: string): Promise<string> {
  const path = id === undefined ? "" : `/${encodeURIComponent(id)}`;
  const reasons = await api("GET", `/ipinfo/waits${path}`, { timeoutMs: NOTICE_AFTER_MS }).catch(() => "");
  const [reason] = reasons.split("\n");
  return reason ? `waiting: ${reason}` : "waiting for the router to answer";
}

/** Return a client whose calls show progress. */
export function progressClient(args: Pick<Arguments, "options">, api: ApiClient = apiClient()): ApiClient {
  return (method, path, options) => withProgress(args, api(method, path, options), () => waitReason(api));
}
