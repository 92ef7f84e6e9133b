// Taking a certain address into use (weave: ipam/claim.go).
import { type Cidr, formatCidr, formatIPv4 } from "../address/ipv4.ts";
import { UNKNOWN_PEER } from "../mesh/name.ts";
import type { Allocator } from "./allocator.ts";
import { IpamError } from "./errors.ts";
import { DONE } from "./pending.ts";

/** The id that stands for nobody in particular; the address itself is then the holder's id. */
export const NO_CONTAINER = "_";

/** Attempts before a claim of an address whose owner cannot be reached fails. */
const MAX_ATTEMPTS = 5;

export class Claim {
  #attempts = 0;

  constructor(
    private readonly allocator: Allocator,
    private readonly id: string,
    private readonly cidr: Cidr,
    private readonly isContainer: boolean,
    /** Succeeds at once where the owner is not known yet, and goes on trying. */
    private readonly noErrorOnUnknown: boolean,
  ) {}

  /** See Attempt in pending.ts. */
  attempt(): typeof DONE | undefined {
    this.#attempts++;
    const { ring, config, owned } = this.allocator;
    const { address } = this.cidr;
    if (!ring.contains(address)) {
      const holder = owned.holderOf(address);
      if (holder === undefined) this.#add();
      else if (holder !== this.id && this.id !== NO_CONTAINER) {
        throw new IpamError(`address ${formatCidr(this.cidr)} already in use by ${holder}`);
      }
      return DONE;
    }
    this.allocator.establishRing();
    const owner = ring.owner(address);
    if (owner === config.ourName) return this.#takeOurs();
    if (owner === UNKNOWN_PEER) {
      // Nobody owns anything yet.
      return this.noErrorOnUnknown ? this.#answerAndWait() : undefined;
    }
    if (this.allocator.requestAddress(owner, address)) return undefined;
    if (this.noErrorOnUnknown) return this.#answerAndWait();
    if (this.#attempts > MAX_ATTEMPTS) {
      throw this.allocator.ownedElsewhere(this.cidr, owner, " - which cannot be reached");
    }
    return undefined;
  }

  /** Says yes for now; the claim itself goes on with a request of its own that nobody waits for. */
  #answerAndWait(): typeof DONE {
    const { allocator, id, cidr, isContainer } = this;
    queueMicrotask(() => {
      allocator.claim(id, cidr, isContainer).catch((error) => {
        if (error instanceof IpamError) return;
        throw error;
      });
    });
    return DONE;
  }

  #takeOurs(): typeof DONE {
    const { owned, space } = this.allocator;
    const { address } = this.cidr;
    const holder = owned.holderOf(address);
    const own = formatIPv4(address);
    if (holder === undefined) {
      if (!space.claim(address)) throw new IpamError(`Address ${own} is not free to claim`);
      this.#add();
      return DONE;
    }
    if (holder === this.id || this.id === NO_CONTAINER) return DONE;
    if (holder === own) throw new IpamError(`address ${formatCidr(this.cidr)} already in use`);
    throw new IpamError(`address ${formatCidr(this.cidr)} is already owned by ${holder}`);
  }

  #add(): void {
    const id = this.id === NO_CONTAINER ? formatIPv4(this.cidr.address) : this.id;
    this.allocator.owned.add(id, this.cidr, this.isContainer);
  }
}
