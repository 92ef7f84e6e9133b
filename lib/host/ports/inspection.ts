// Looks into the network namespaces of containers, a few at a time: what is in them is told where it has changed.
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import type { LimitedWarning } from "../../log/limited.ts";
import { detached } from "../../log/unexpected.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { ContainerWork } from "../containerwork.ts";
import { type AddressBook, type KnownLink, type KnownLinks, lookedInside } from "./known.ts";

/** Interval of looking into containers that are new or may have changed, a few at a time, and else into one. */
const LOOK_MS = 250;
/** It takes 1 ms each, in the way of containers that are attached meanwhile. */
const LOOKS = 4;
/** A container is looked into again not before this. */
const LOOK_AGAIN_MS = 5_000;

/** What the rest of the router knows of containers. */
export interface Books {
  readonly addresses: AddressBook;
  readonly work: Pick<ContainerWork, "lookInside">;
}

export class Inspection {
  #books: Books | undefined;
  #timer: Timer | undefined;
  #looking = false;

  constructor(
    private readonly known: KnownLinks,
    private readonly clock: Clock,
    private readonly warn: LimitedWarning,
  ) {}

  /** Looks into all containers, and from now on again. */
  start(books: Books): void {
    this.#books = books;
    detached("looking into containers", this.#look(this.known.all()));
    this.#timer = every(this.clock, LOOK_MS, () => this.soon());
  }

  /** Looks into those that are due, unless it is at it. */
  soon(): void {
    const due = this.#due();
    if (due.length > 0 && !this.#looking) detached("looking into containers", this.#look(due));
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Links to look into: those that are new or may have changed, or else the one that was not for the longest time. */
  #due(): KnownLink[] {
    const now = this.clock.now();
    const present = this.known.all().filter(({ missingSince }) => missingSince === undefined);
    const unseen = present.filter(({ lookedAt }) => lookedAt === undefined);
    if (unseen.length > 0) return unseen.slice(0, LOOKS);
    return present
      .filter(({ lookedAt = 0 }) => now - lookedAt >= LOOK_AGAIN_MS)
      .sort((a, b) => (a.lookedAt ?? 0) - (b.lookedAt ?? 0))
      .slice(0, 1);
  }

  async #look(links: readonly KnownLink[]): Promise<void> {
    const books = this.#books;
    if (!books || links.length === 0) return;
    this.#looking = true;
    try {
      const found = await books.work.lookInside(
        links.map(({ port: { index, alias, peerIndex, peerNetns }, inside }) => ({
          index,
          alias,
          peerIndex,
          peerNetns,
          netns: inside?.netns,
        })),
      );
      const now = this.clock.now();
      for (const known of links) {
        known.lookedAt = now;
        const seen = found.get(known.port.index);
        if (seen) lookedInside(known, seen, books.addresses, now);
      }
    } catch (error) {
      this.warn("look", `cannot look into containers: ${reasonOf(error)}; retrying`);
    } finally {
      this.#looking = false;
    }
  }
}
