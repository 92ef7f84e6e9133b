// Inspects the network namespaces of containers, a few at a time, for changes inside.
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import { Soon } from "../../clock/soon.ts";
import type { LimitedWarning } from "../../log/limited.ts";
import { detached } from "../../log/unexpected.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { ContainerWork } from "../containerwork.ts";
import { type AddressBook, type KnownLink, type KnownLinks, mergeInspection } from "./known.ts";

/** Interval of inspecting a few containers. */
const INTERVAL_MS = 1_000;
/** Interval of inspecting those that are new or may have changed, if these are more than a few. */
const NEXT_MS = 250;
/** Containers at a time: each takes 1 ms, during which no container is attached. */
const BATCH = 4;
/** Least time between two inspections of a container without a hint. */
const REPEAT_MS = 5_000;

/** What the rest of the router knows of containers, and its thread for them. */
export interface Books {
  readonly addresses: AddressBook;
  readonly work: Pick<ContainerWork, "inspectPorts">;
}

export class Inspection {
  #books: Books | undefined;
  #timer: Timer | undefined;
  readonly #next: Soon;
  #running = false;

  constructor(
    private readonly known: KnownLinks,
    private readonly clock: Clock,
    private readonly warn: LimitedWarning,
  ) {
    this.#next = new Soon(clock, () => this.soon());
  }

  /** Inspect all containers now, and again from now on. */
  start(books: Books): void {
    this.#books = books;
    detached("inspecting containers", this.#inspect(this.known.all()));
    this.#timer = every(this.clock, INTERVAL_MS, () => this.soon());
  }

  /** Inspect those that are due, unless an inspection is under way. */
  soon(): void {
    const due = this.#due();
    if (due.length > 0 && !this.#running) detached("inspecting containers", this.#inspect(due));
  }

  stop(): void {
    this.#timer?.cancel();
    this.#next.stop();
  }

  /** Return the links to inspect: those that are new or may have changed, or else those inspected longest ago. */
  #due(): KnownLink[] {
    const now = this.clock.now();
    const present = this.known.all().filter(({ missingSince }) => missingSince === undefined);
    const unseen = present.filter(({ inspectedAt }) => inspectedAt === undefined);
    if (unseen.length > 0) {
      if (unseen.length > BATCH) this.#next.within(NEXT_MS);
      return unseen.slice(0, BATCH);
    }
    return present
      .filter(({ inspectedAt = 0 }) => now - inspectedAt >= REPEAT_MS)
      .sort((a, b) => (a.inspectedAt ?? 0) - (b.inspectedAt ?? 0))
      .slice(0, BATCH);
  }

  async #inspect(links: readonly KnownLink[]): Promise<void> {
    const books = this.#books;
    if (!books || links.length === 0) return;
    this.#running = true;
    try {
      const found = await books.work.inspectPorts(
        links.map(({ port: { index, alias, peerIndex, peerNetns }, netns, inside }) => ({
          index,
          alias,
          peerIndex,
          peerNetns,
          netns: inside?.netns ?? netns,
        })),
      );
      const now = this.clock.now();
      for (const known of links) {
        known.inspectedAt = now;
        const seen = found.get(known.port.index);
        if (seen) mergeInspection(known, seen, books.addresses, now);
      }
    } catch (error) {
      this.warn("look", `cannot look into containers: ${reasonOf(error)}; retrying`);
    } finally {
      this.#running = false;
    }
  }
}
