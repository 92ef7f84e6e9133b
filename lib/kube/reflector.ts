// Reflect a collection of the API server: list it, then watch from there on, each watch where the last one ended; list
// again if the server has compacted that version. While the server is away, the last known state stays.
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import { GONE, type KubeClient, KubeError } from "./client.ts";

/** Length of a watch, up to twice as long at random so that not all end at once. */
const WATCH_S = 300;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

export interface ReflectorListener {
  /** All objects of the collection. */
  listed(items: readonly unknown[]): void;
  changed(type: "set" | "delete", object: unknown): void;
  /** Whether the server lets us follow; told again and again. */
  following?(follows: boolean): void;
}

export interface Reflector {
  stop(): void;
}

/** Follow a collection ("/api/v1/pods"). */
export function reflect(
  client: KubeClient,
  path: string,
  { clock, random, log }: { readonly clock: Clock; readonly random: Random; readonly log: Log },
  listener: ReflectorListener,
): Reflector {
  const abort = new AbortController();
  let version: string | undefined;
  let pause = FIRST_PAUSE_MS;
  let wake = () => {};

  async function follow(): Promise<void> {
    if (version === undefined) {
      const list = await client.list(path, abort.signal);
      if (abort.signal.aborted) return;
      listener.listed(list.items);
      version = list.resourceVersion;
      listener.following?.(true);
    }
    const seconds = Math.round(WATCH_S * (1 + random.float()));
    for await (const { type, object, resourceVersion } of client.watch(
      path,
      version,
      seconds,
      abort.signal,
    )) {
      if (abort.signal.aborted) return;
      pause = FIRST_PAUSE_MS;
      listener.following?.(true);
      if (type !== "BOOKMARK") listener.changed(type === "DELETED" ? "delete" : "set", object);
      version = resourceVersion;
    }
  }

  async function run(): Promise<void> {
    while (!abort.signal.aborted) {
      const began = clock.now();
      try {
        await follow();
        listener.following?.(true);
        // Back off from a server that ends watches at once.
        if (clock.now() - began >= LONGEST_PAUSE_MS) continue;
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof KubeError && error.status === GONE) {
          log.info(`listing objects again: ${reasonOf(error)}`, { path });
          version = undefined;
        } else {
          listener.following?.(false);
          log.warning(`cannot watch objects: ${reasonOf(error)}; the last known state stays in force`, {
            path,
          });
        }
      }
      await sleep(pause * (0.5 + random.float()));
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  }

  function sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = clock.after(ms, resolve);
      wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  detached(`following ${path}`, run());
  return {
    stop() {
      abort.abort();
      wake();
    },
  };
}
