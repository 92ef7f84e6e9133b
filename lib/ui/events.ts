// What has happened on this host's network: the lines of the router's log that tell of peers, overlays, addresses and
// repairs, and all warnings, kept for 24 h in the state file.
import * as v from "valibot";
import type { Clock, Timer } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { EventCode, Fields } from "../log/fields.ts";
import { type Log, type LogLevel, logTo } from "../log/log.ts";
import type { Journal } from "../store/journal.ts";
import type { Event, EventKind } from "./facts.ts";

/** Bounds of what is kept. */
export const EVENT_BOUNDS = { entries: 2_000, ageMs: 24 * 3_600_000 };
/** Events are written, and told, together: at most so many at once, so often. */
const BATCH = 200;
const BATCH_MS = 1_000;
/** Characters of one event. */
const MAX_TEXT = 1_000;

const KINDS: Readonly<Record<string, EventKind>> = {
  mesh: "peers",
  overlay: "overlay",
  ipam: "addresses",
  containers: "containers",
  ports: "containers",
  kube: "cluster",
};

/** Steps on the way to a connection, and attempts that are repeated for ever: the map shows where they stand. */
const STEPS: readonly (EventCode | undefined)[] = [
  "dialling",
  "dial-failed",
  "connection-added",
  "connection-ready",
  "connection-deleted",
];

const REPAIRS: readonly (EventCode | undefined)[] = ["repaired", "repair-failed"];

/** Hand-overs are details in the log, and events for people. Peers can cause them: so many at once, then one a minute. */
const HAND_OVERS = 50;

export const EventSchema = v.object({
  at: v.number(),
  level: v.picklist(["info", "warning", "error"]),
  kind: v.string(),
  text: v.string(),
  fields: v.exactOptional(v.record(v.string(), v.string())),
});

/** Return the event that a log line tells of; undefined for lines that are none. `at` is in ms since the epoch. */
function eventOf(
  level: LogLevel,
  text: string,
  { component, code, ...fields }: Fields,
  at: number,
): Event | undefined {
  if (level === "debug") return undefined;
  const kind = REPAIRS.includes(code) ? "repairs" : (KINDS[String(component)] ?? "router");
  if (level === "info" && STEPS.includes(code)) return undefined;
  const told = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value).slice(0, MAX_TEXT)] as const],
  );
  return {
    at,
    level,
    kind,
    text: text.slice(0, MAX_TEXT),
    ...(told.length > 0 && { fields: Object.fromEntries(told) }),
  };
}

export class EventLog {
  #all: readonly Event[] = [];
  #new: Event[] = [];
  #leftOut = 0;
  #timer: Timer | undefined;
  #journal: Journal<Event> | undefined;
  readonly #followers = new Set<(events: readonly Event[]) => void>();

  readonly #handOvers: TokenBucket;

  constructor(private readonly clock: Clock) {
    this.#handOvers = new TokenBucket(HAND_OVERS, 1 / 60, clock.now());
  }

  /** Return a log that also keeps what it tells as events. */
  heard(log: Log): Log {
    return logTo((level, text, fields) => {
      log[level](text, fields);
      const told =
        level === "debug" && fields.code === "range-donated" && this.#handOvers.take(this.clock.now());
      const event = eventOf(told ? "info" : level, text, fields, this.clock.wall());
      if (event) this.#add(event);
    });
  }

  /** Keep events on disk from now on, behind those that are there. */
  keep(journal: Journal<Event>): void {
    this.#all = bounded([...journal.all(), ...this.#all], this.clock.wall());
    this.#journal = journal;
    this.flush();
  }

  /** The events of the last 24 h, oldest first: the same array until there are more. */
  all(): readonly Event[] {
    return this.#all;
  }

  /** Calls back with new events, until cancelled. */
  follow(added: (events: readonly Event[]) => void): Timer {
    this.#followers.add(added);
    return { cancel: () => this.#followers.delete(added) };
  }

  /** Write what is not written yet; no more is kept on disk after the last time. */
  close(): void {
    this.flush();
    this.#timer?.cancel();
    this.#journal = undefined;
  }

  #add(event: Event): void {
    if (this.#new.length >= BATCH) this.#leftOut++;
    else this.#new.push(event);
    this.#timer ??= this.clock.after(BATCH_MS, () => this.flush());
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#leftOut > 0) {
      const text = `${this.#leftOut} more events within a second: see the log`;
      this.#new.push({ at: this.clock.wall(), level: "warning", kind: "router", text });
      this.#leftOut = 0;
    }
    const events = this.#new;
    if (events.length === 0) return;
    this.#new = [];
    this.#all = bounded([...this.#all, ...events], this.clock.wall());
    for (const follower of this.#followers) follower(events);
    try {
      this.#journal?.add(events);
    } catch {
      // A full disk is told by the store's own rows; events are worth no more words.
    }
  }
}

const bounded = (events: readonly Event[], now: number) =>
  events.slice(-EVENT_BOUNDS.entries).filter(({ at }) => now - at < EVENT_BOUNDS.ageMs);
