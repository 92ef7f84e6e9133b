// Requests to other peers for space (weave: ipam/allocator.go).

import { type AddressRange, formatRange } from "../address/ipv4.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import type { AllocatorDependencies } from "./config.ts";
import type { RingMessenger } from "./messenger.ts";
import type { RingView } from "./ring/ring.ts";

/** Timeout of a space request, after which it is repeated. */
const ANSWER_MS = 1_000;

/** Ranges that are remembered. */
const MAX_RANGES = 1_024;

/** One request at a time for each range, however many containers wait. */
export class SpaceRequests {
  /** When space was asked for, by range. */
  readonly #asked = new LatestMap<string, number>(MAX_RANGES);

  constructor(
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "random">,
    private readonly messenger: Pick<RingMessenger, "requestSpace">,
    private readonly ring: Pick<RingView, "donors">,
  ) {}

  /** Ask one of the peers that have free space in a range, the first that a route leads to. */
  ask(range: AddressRange): void {
    const { clock, random } = this.dependencies;
    const key = formatRange(range);
    const asked = this.#asked.get(key);
    if (asked !== undefined && clock.now() - asked < ANSWER_MS) return;
    const donors = this.ring.donors(range.start, range.end, () => random.float());
    if (donors.some((donor) => this.messenger.requestSpace(donor, range))) this.#asked.set(key, clock.now());
  }

  get limit(): Limit {
    return forgetting("requested-ranges", this.#asked);
  }

  /** Note that a peer has answered. */
  answered(): void {
    this.#asked.clear();
  }
}
