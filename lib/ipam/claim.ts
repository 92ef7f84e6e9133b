// Claim of a certain address (weave: ipam/claim.go).
import { type Cidr, formatCidr, formatIPv4, rangeContains } from "../address/ipv4.ts";
import type { Clock } from "../clock/clock.ts";
import { detached } from "../log/unexpected.ts";
import { UNKNOWN_PEER } from "../mesh/name.ts";
import { StoreError } from "../store/error.ts";
import { hold } from "./allocation.ts";
import { IpamError, ownedElsewhere } from "./errors.ts";
import { holderId, NO_CONTAINER } from "./holders.ts";
import type { AllocatorParts } from "./parts.ts";
import { DONE } from "./pending.ts";
import type { Lease } from "./saved.ts";

/** Time after which a claim of an address fails whose owner cannot be reached: it may only be restarting. */
const UNREACHABLE_MS = 25_000;

export interface ClaimOptions {
  /** Release the address when the container is gone. */
  readonly isContainer?: boolean;
  /** See Lease. */
  readonly attachment?: string | undefined;
  /** Succeed at once where the owner is not known yet, and go on claiming. */
  readonly noErrorOnUnknown?: boolean;
  /** Wait as long as it takes, for an owner that cannot be reached and for room on the disk: the address is in use. */
  readonly patient?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export class Claim {
  /** Since when no route leads to the owner, in ms of the clock. */
  #unreachableSince: number | undefined;
  /** We wait for a look at the links: a dead container may still have the address. */
  #expedited = false;
  /** Nobody holds the address, for want of room on the disk, and nobody else is given it. */
  #reserved = false;

  /** `again` claims the same once more. */
  constructor(
    private readonly parts: Pick<AllocatorParts, "config" | "replicator" | "space" | "holders" | "releaser">,
    private readonly id: string,
    private readonly cidr: Cidr,
    private readonly options: ClaimOptions,
    private readonly again: (options: ClaimOptions) => Promise<void>,
    private readonly clock: Pick<Clock, "now">,
  ) {}

  /** See Attempt in pending.ts. */
  attempt(): typeof DONE | undefined {
    try {
      return this.#attempt();
    } catch (error) {
      if (!this.options.patient || !(error instanceof StoreError)) throw error;
      // The store tells of its failure in status. Nobody else may be given the address meanwhile.
      this.#reserved = this.parts.space.claim(this.cidr.address);
      return undefined;
    }
  }

  /** Give up an address that is not held yet. */
  abandon(): void {
    if (this.#reserved) this.parts.space.unuse(this.cidr.address);
    this.#reserved = false;
  }

  #attempt(): typeof DONE | undefined {
    const { replicator, config, holders, releaser } = this.parts;
    const { ring } = replicator;
    const { address } = this.cidr;
    if (holders.holderOf(address) === this.id) releaser.keep(address);
    if (!ring.contains(address)) return this.#claimOutside();
    replicator.establish();
    const owner = ring.owner(address);
    if (owner === config.ourName) return this.#claimOurs();
    // Nobody owns anything before there is a ring.
    if (owner === UNKNOWN_PEER) return this.options.noErrorOnUnknown ? this.#continueDetached() : undefined;
    if (replicator.askForAddress(owner, address)) {
      this.#unreachableSince = undefined;
      return undefined;
    }
    if (this.options.noErrorOnUnknown) return this.#continueDetached();
    this.#unreachableSince ??= this.clock.now();
    if (this.clock.now() - this.#unreachableSince >= UNREACHABLE_MS && !this.options.patient) {
      const nickname = replicator.nicknames.get(owner);
      throw ownedElsewhere(formatCidr(this.cidr), owner, nickname, " - which cannot be reached");
    }
    return undefined;
  }

  /** Outside the range no other peer has to be asked, so the address of a dead container is free at once. */
  #claimOutside(): typeof DONE | undefined {
    const { holders, releaser } = this.parts;
    const { address } = this.cidr;
    const holder = holders.holderOf(address);
    if (holder === undefined) {
      holders.add(holderId(this.id, address), this.#lease, this.#isContainer);
      releaser.keep(address);
      return DONE;
    }
    if (holder === this.id || this.id === NO_CONTAINER) return DONE;
    if (!this.#expedited) this.#expedited = releaser.expedite(address);
    else if (!releaser.isChecking(address)) this.#expedited = false;
    if (!this.#expedited) throw new IpamError(`address ${formatCidr(this.cidr)} already in use by ${holder}`);
    // Where links cannot be searched, expedite() has released it.
    return holders.holderOf(address) === undefined ? this.#claimOutside() : undefined;
  }

  #claimOurs(): typeof DONE | undefined {
    const { holders, replicator, space } = this.parts;
    const { address } = this.cidr;
    if (replicator.contested.some((range) => rangeContains(range, address))) return undefined;
    const holder = holders.holderOf(address);
    const text = formatIPv4(address);
    if (holder === undefined) {
      this.abandon();
      if (!space.claim(address)) throw new IpamError(`Address ${text} is not free to claim`);
      hold(this.parts, holderId(this.id, address), this.#lease, this.#isContainer);
      return DONE;
    }
    if (holder === this.id || this.id === NO_CONTAINER) return DONE;
    if (holder === text) throw new IpamError(`address ${formatCidr(this.cidr)} already in use`);
    throw new IpamError(`address ${formatCidr(this.cidr)} is already owned by ${holder}`);
  }

  /** Succeed; the claim goes on as a request of its own, or whoever takes the owner's space over would allocate the address. */
  #continueDetached(): typeof DONE {
    const options = { ...this.options, noErrorOnUnknown: false, patient: true, signal: undefined };
    queueMicrotask(() => {
      const claimed = this.again(options).catch((error) => {
        if (!(error instanceof IpamError)) throw error;
      });
      detached(`claiming ${formatCidr(this.cidr)}`, claimed);
    });
    return DONE;
  }

  get #lease(): Lease {
    return { ...this.cidr, attachment: this.options.attachment };
  }

  get #isContainer(): boolean {
    return this.options.isContainer ?? false;
  }
}
