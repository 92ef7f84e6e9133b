// Donation of space to peers that ask for it (weave: ipam/allocator.go).
import { type AddressRange, formatRange, rangeContains, rangeSize } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorDependencies } from "./config.ts";
import type { RingMessenger } from "./messenger.ts";
import type { PersistentRing } from "./persistentring.ts";
import { DonationQuota } from "./quota.ts";
import type { Space } from "./space.ts";

export class Donor {
  readonly quota = new DonationQuota();

  constructor(
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "log">,
    private readonly persistent: PersistentRing,
    private readonly space: Space,
    private readonly messenger: RingMessenger,
  ) {}

  /** Donate part of what is free in a range and not `contested`, or deny the request. */
  donate(range: AddressRange, to: PeerName, contested: readonly AddressRange[]): void {
    const { clock, log } = this.dependencies;
    const now = clock.now();
    const allowance = this.quota.allowance(to, this.space.freeCount(), now);
    // The peer repeats its request.
    if (allowance === 0) return;
    const chunk = this.space.donate(range, contested, allowance);
    if (chunk && this.#grant(chunk, to)) {
      const size = rangeSize(chunk);
      log.debug("donating a range", { code: "range-donated", range: formatRange(chunk), size, peer: to });
      this.quota.granted(to, size, now);
      this.messenger.broadcastSoon();
      this.messenger.send(to);
    } else if (this.#mayFollow(range, contested)) {
      // A denial would be final. The peer asks again.
      this.messenger.send(to);
    } else {
      // The ring goes first: it may show that the peer owns what it asks for.
      this.messenger.send(to);
      this.messenger.denySpace(to, range);
    }
  }

  /** Whether a certain address is free, and ours to donate once nobody contests it. */
  #mayFollow(range: AddressRange, contested: readonly AddressRange[]): boolean {
    return (
      rangeSize(range) === 1 &&
      this.space.freeCount(range) === 1 &&
      contested.some((each) => rangeContains(each, range.start))
    );
  }

  #grant(chunk: AddressRange, to: PeerName): boolean {
    try {
      this.persistent.grant(chunk, to);
      return true;
    } catch (error) {
      this.dependencies.log.error(`cannot donate a range: ${reasonOf(error)}`, {
        range: formatRange(chunk),
        peer: to,
      });
      return false;
    } finally {
      this.persistent.updateSpace();
    }
  }
}
