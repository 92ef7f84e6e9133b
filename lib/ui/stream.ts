// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): the state once, then differences.
// All viewers share one snapshot and one difference a tick; without viewers nothing is looked at.
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { guarded } from "../log/unexpected.ts";
import type { Limit } from "../sys/limit.ts";
import type { Event, Facts } from "./facts.ts";
import { difference } from "./mergepatch.ts";

/** Interval of snapshots. */
const TICK_MS = 1_000;
/** Interval of a beat, by which a viewer knows that the router lives; and by which a dead viewer's connection ends. */
const BEAT_MS = 5_000;
/** Viewers at one time; each keeps a connection open. */
const MAX_VIEWERS = 256;
/** Bytes that a viewer may leave unread; beyond, it has to connect again. */
const MAX_UNREAD = 4 * 1024 * 1024;

/** What the stream tells of. */
export interface StreamSources {
  facts(): Facts;
  events: {
    /** The kept events, oldest first. */
    all(): readonly Event[];
    /** Calls back with new events, until cancelled. */
    follow(added: (events: readonly Event[]) => void): Timer;
  };
}

type Viewer = ReadableStreamDefaultController<Uint8Array>;

const encoder = new TextEncoder();
const message = (event: string, data: unknown) =>
  encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);

export class Stream {
  readonly #viewers = new Set<Viewer>();
  #facts: { readonly value: Facts; readonly at: number } | undefined;
  /** Messages to new viewers, by what they tell. */
  #first: { readonly of: unknown; readonly bytes: Uint8Array }[] = [];
  #timers: readonly Timer[] = [];
  #refused = 0;

  constructor(
    private readonly sources: StreamSources,
    private readonly clock: Clock,
  ) {}

  /** Return the answer to a viewer: a stream without end, or 503 where there are too many. */
  open(): Response {
    if (this.#viewers.size >= MAX_VIEWERS) {
      this.#refused++;
      return new Response(`busy: ${MAX_VIEWERS} viewers already\n`, {
        status: 503,
        headers: { "retry-after": "10" },
      });
    }
    let viewer: Viewer;
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          viewer = controller;
          this.#add(controller);
        },
        cancel: () => this.#remove(viewer),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: MAX_UNREAD }),
    );
    return new Response(body, {
      headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
    });
  }

  limits(): Limit[] {
    return [{ name: "viewers", value: this.#viewers.size, max: MAX_VIEWERS, refused: this.#refused }];
  }

  /** Ends all streams. */
  stop(): void {
    for (const viewer of [...this.#viewers]) this.#end(viewer);
  }

  #add(viewer: Viewer): void {
    // Viewers that come and go cost no more than one that stays.
    if (!this.#facts || this.clock.now() - this.#facts.at >= TICK_MS) this.#look();
    this.#viewers.add(viewer);
    if (this.#viewers.size === 1) this.#begin();
    viewer.enqueue(message("beat", this.clock.wall()));
    const first = [
      { event: "state", of: this.#facts?.value },
      { event: "events", of: this.sources.events.all() },
    ];
    // Made once for all who come meanwhile.
    this.#first = first.map(
      ({ event, of }) => this.#first.find((made) => made.of === of) ?? { of, bytes: message(event, of) },
    );
    for (const { bytes } of this.#first) viewer.enqueue(bytes);
  }

  #begin(): void {
    this.#timers = [
      every(this.clock, TICK_MS, () => guarded("the status page", () => this.#look())),
      every(this.clock, BEAT_MS, () => this.#send("beat", this.clock.wall())),
      this.sources.events.follow((events) => this.#send("events", events)),
    ];
  }

  /** Takes a snapshot, and tells the viewers what has changed. */
  #look(): void {
    const before = this.#facts?.value;
    const value = this.sources.facts();
    this.#facts = { value, at: this.clock.now() };
    this.#first = [];
    const patch = before && difference(before, value);
    if (patch) this.#send("change", patch);
  }

  #send(event: string, data: unknown): void {
    if (this.#viewers.size === 0) return;
    const bytes = message(event, data);
    for (const viewer of [...this.#viewers]) {
      if ((viewer.desiredSize ?? 0) <= 0) this.#end(viewer);
      else viewer.enqueue(bytes);
    }
  }

  #end(viewer: Viewer): void {
    this.#remove(viewer);
    try {
      viewer.close();
    } catch {
      // Its reader was faster.
    }
  }

  #remove(viewer: Viewer): void {
    if (!this.#viewers.delete(viewer) || this.#viewers.size > 0) return;
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
  }
}
