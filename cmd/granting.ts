// Waiting for peers to grant an address or a quorum: the time limit, and when to give up.
import * as v from "valibot";
import { type ApiClient, ApiError, type CallOptions, NO_ANSWER } from "../lib/api/client.ts";
import type { OptionTable } from "../lib/help/spec.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { waitReason, withProgress } from "./waiting.ts";

/** Interval of checks for refused peers. */
const CHECK_MS = 1_000;
/** Consecutive checks that find all peers refused: one may be restarting with the right password. */
const REFUSED_CHECKS = 5;

export const WAIT_OPTION = {
  wait: {
    type: "string",
    description: "Fail if the peers do not answer within this time",
    defaultText: "no limit",
    valueHint: "SECONDS",
  },
} as const satisfies OptionTable;

/** Return --wait in seconds, undefined if it is not given. Throws UsageError. */
export function waitSeconds({ options }: Pick<Arguments, "options">): number | undefined {
  const text = options["wait"];
  if (typeof text !== "string") return undefined;
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new UsageError(`--wait "${text}": should be seconds, 1 … 99999`);
  return Number(text);
}

const Obstacle = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ cause: v.string(), reason: v.string(), remedy: v.string() }),
);
type Obstacle = v.InferOutput<typeof Obstacle>;

/** Return why no address of the default subnet can be allocated now; undefined if one can, or the router does not say. */
async function obstacleNow(api: ApiClient): Promise<Obstacle | undefined> {
  const text = await api("GET", "/ipinfo/available", { accept: "application/json" }).catch(reasonOf);
  const found = v.safeParse(Obstacle, text);
  return found.success ? found.output : undefined;
}

/** Resolve once all peers that could grant it are refused; never after `over` has fired. */
function untilRefused(api: ApiClient, over: AbortSignal): Promise<Obstacle> {
  return new Promise((resolve) => {
    let seen = 0;
    const check = async () => {
      const obstacle = await obstacleNow(api);
      seen = obstacle?.cause === "refused" ? seen + 1 : 0;
      if (obstacle && seen >= REFUSED_CHECKS) resolve(obstacle);
      else if (!over.aborted) timer = setTimeout(check, CHECK_MS);
    };
    let timer = setTimeout(check, CHECK_MS);
    over.addEventListener("abort", () => clearTimeout(timer));
  });
}

interface Grant {
  /** Send the request, which waits for peers. */
  request(options: CallOptions): Promise<string>;
  /** The holder of the requested address. */
  readonly id?: string;
  /** Start of the error message: "no quorum". */
  readonly lack: string;
  /** Seconds, default no limit. */
  readonly seconds: number | undefined;
  /** End of the error message after a timeout: what continues. */
  readonly after?: string;
}

/** Await the grant and show progress. Reject with the reason after a timeout, or once all peers that could grant it are refused. */
export async function awaitGrant(
  args: Pick<Arguments, "options">,
  api: ApiClient,
  { request, id, lack, seconds, after = "" }: Grant,
): Promise<string> {
  const over = new AbortController();
  let last: string | undefined;
  const reason = async () => {
    last = await waitReason(api, id);
    return last;
  };
  const refused = untilRefused(api, over.signal).then(({ reason, remedy }) => {
    throw new Error(`${lack}: ${reason}; ${remedy}`);
  });
  try {
    const granted = request(seconds === undefined ? {} : { timeoutMs: seconds * 1000 });
    return await withProgress(args, Promise.race([granted, refused]), reason);
  } catch (error) {
    if (seconds === undefined || !(error instanceof ApiError && error.status === NO_ANSWER)) throw error;
    const why = (await obstacleNow(api))?.reason ?? last?.replace(/^waiting: /, "");
    throw new Error(`${lack} within ${seconds} s${why === undefined ? "" : `: ${why}`}${after}`, {
      cause: error,
    });
  } finally {
    over.abort();
  }
}
