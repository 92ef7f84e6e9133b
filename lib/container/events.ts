// Events of containers, from Docker and podman.
import { existsSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import * as v from "valibot";
import { linesOf } from "../bytes/lines.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 20_000;
/** Bytes of an event; far more than any needs. */
const MAX_LINE = 1024 * 1024;

export interface ContainerListener {
  /** A runtime is connected; earlier events have to be asked for. */
  connected(): void;
  /** A container runs, for the first time or again. */
  started(id: string): void;
  /** A container has ended, and may start again. */
  died(id: string): void;
  /** A container was removed. */
  destroyed(id: string): void;
  /** A running container was connected to a network of its runtime. */
  connectedTo?(id: string): void;
}

const Event = v.object({
  Type: v.optional(v.string(), "container"),
  Action: v.optional(v.string()),
  status: v.optional(v.string()),
  id: v.optional(v.string()),
  Actor: v.optional(v.object({ ID: v.string(), Attributes: v.nullish(v.record(v.string(), v.unknown())) })),
});

/** Actions by Docker's and podman's names. */
const ACTIONS: ReadonlyMap<string, "started" | "died" | "destroyed"> = new Map([
  ["start", "started"],
  ["die", "died"],
  ["died", "died"],
  ["destroy", "destroyed"],
  ["remove", "destroyed"],
]);

/** Listen to the runtimes at these sockets, also to those that appear later. */
export function watchContainers(
  sockets: readonly string[],
  listener: ContainerListener,
  log: Log,
): { stop(): void } {
  const end = new AbortController();
  for (const socket of sockets) detached(`events of ${socket}`, follow(socket, listener, log, end.signal));
  return { stop: () => end.abort() };
}

async function follow(
  socket: string,
  listener: ContainerListener,
  log: Log,
  end: AbortSignal,
): Promise<void> {
  let retryMs = FIRST_RETRY_MS;
  while (!end.aborted) {
    if (existsSync(socket)) {
      try {
        await listen(socket, listener, end, () => {
          log.info("listening to container events", { socket });
          retryMs = FIRST_RETRY_MS;
          listener.connected();
        });
      } catch (error) {
        if (!end.aborted)
          log.warning(`cannot read container events: ${reasonOf(error)}; trying again`, { socket });
      }
    }
    // A stopped watch does not wait.
    await setTimeout(retryMs, undefined, { signal: end }).catch(() => {});
    retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.5);
  }
}

async function listen(
  socket: string,
  listener: ContainerListener,
  signal: AbortSignal,
  connected: () => void,
): Promise<void> {
  const filters = encodeURIComponent(JSON.stringify({ type: ["container", "network"] }));
  const response = await fetch(`http://localhost/events?stream=true&filters=${filters}`, {
    unix: socket,
    signal,
    // No timeout: an idle host has no events for days.
    timeout: false,
  } as RequestInit);
  if (!response.ok || !response.body) throw new Error(`HTTP ${response.status}`);
  connected();
  const tooLong = () => new Error("an event without end");
  for await (const line of linesOf(response.body, MAX_LINE, tooLong)) tell(line, listener);
}

/** Report an event, a line of JSON of Docker or podman. What is none, or no concern of ours, is ignored. */
export function tell(line: string, listener: Omit<ContainerListener, "connected">): void {
  const event = v.safeParse(v.pipe(v.string(), v.parseJson(), Event), line);
  if (!event.success) return;
  const { Type, Action, status, id, Actor } = event.output;
  if (Type === "network" && Action === "connect") {
    const container = Actor?.Attributes?.["container"];
    if (typeof container === "string") listener.connectedTo?.(container);
  }
  if (Type !== "container") return;
  const action = ACTIONS.get((Action ?? status ?? "").toLowerCase());
  const container = Actor?.ID ?? id;
  if (action && container) listener[action](container);
}
