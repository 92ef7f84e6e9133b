// Taking a certain address into use (weave: ipam/claim.go).
import { type Cidr, formatCidr, formatIPv4, rangeContains } from "../address/ipv4.ts";
import { detached } from "../log/unexpected.ts";
import { UNKNOWN_PEER } from "../mesh/name.ts";
import type { Allocator } from "./allocator.ts";
import { IpamError } from "./errors.ts";
import { DONE } from "./pending.ts";
import type { Lease } from "./saved.ts";

/** The id that stands for nobody in particular; the address itself is then the holder's id. */
export const NO_CONTAINER = "_";

/** Attempts before a claim of an address whose owner cannot be reached fails. */
const MAX_ATTEMPTS = 5;

export interface ClaimOptions {
  /** It is to be released when the container has gone. */
  readonly isContainer?: boolean;
  /** See Lease. */
  readonly attachment?: string | undefined;
  /** Succeeds at once where the owner is not known yet, and goes on trying. */
  readonly noErrorOnUnknown?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export class Claim {
  #attempts = 0;
  /** We wait for a look whether the address is still in use. */
  #hurried = false;

  constructor(
    private readonly allocator: Allocator,
    private readonly id: string,
    private readonly cidr: Cidr,
    private readonly options: ClaimOptions,
  ) {}

  /** See Attempt in pending.ts. */
  attempt(): typeof DONE | undefined {
    this.#attempts++;
    const { sharing, config, owned, releaser } = this.allocator;
    const { ring } = sharing;
    const { address } = this.cidr;
    if (owned.holderOf(address) === this.id) releaser.keep(address);
    if (!ring.contains(address)) {
      const holder = owned.holderOf(address);
      if (holder !== undefined && (holder === this.id || this.id === NO_CONTAINER)) return DONE;
      // Nobody remembers an address outside the range: that of a container that has died may go to another at once.
      if (holder !== undefined && !this.#hurried) this.#hurried = releaser.hurry(address);
      else if (holder !== undefined && !releaser.isLooking(address)) this.#hurried = false;
      if (holder !== undefined && !this.#hurried) {
        throw new IpamError(`address ${formatCidr(this.cidr)} already in use by ${holder}`);
      }
      if (owned.holderOf(address) !== undefined) return undefined;
      owned.add(this.#holder, this.#lease, this.#isContainer);
      return DONE;
    }
    sharing.establish();
    const owner = ring.owner(address);
    if (owner === config.ourName) return this.#takeOurs();
    if (owner === UNKNOWN_PEER) {
      // Nobody owns anything yet.
      return this.options.noErrorOnUnknown ? this.#answerAndWait() : undefined;
    }
    if (sharing.askForAddress(owner, address)) return undefined;
    if (this.options.noErrorOnUnknown) return this.#answerAndWait();
    if (this.#attempts > MAX_ATTEMPTS) {
      throw sharing.ownedElsewhere(formatCidr(this.cidr), owner, " - which cannot be reached");
    }
    return undefined;
  }

  /** Says yes for now; the claim itself goes on with a request of its own that nobody waits for. */
  #answerAndWait(): typeof DONE {
    const { allocator, id, cidr } = this;
    const options = { ...this.options, noErrorOnUnknown: false, signal: undefined };
    queueMicrotask(() => {
      const claimed = allocator.claim(id, cidr, options).catch((error) => {
        if (!(error instanceof IpamError)) throw error;
      });
      detached(`claiming ${formatCidr(cidr)}`, claimed);
    });
    return DONE;
  }

  #takeOurs(): typeof DONE | undefined {
    const { owned, sharing } = this.allocator;
    const { address } = this.cidr;
    if (sharing.contested.some((range) => rangeContains(range, address))) return undefined;
    const holder = owned.holderOf(address);
    const own = formatIPv4(address);
    if (holder === undefined) {
      if (!this.allocator.take(this.#holder, this.#lease, this.#isContainer)) {
        throw new IpamError(`Address ${own} is not free to claim`);
      }
      return DONE;
    }
    if (holder === this.id || this.id === NO_CONTAINER) return DONE;
    if (holder === own) throw new IpamError(`address ${formatCidr(this.cidr)} already in use`);
    throw new IpamError(`address ${formatCidr(this.cidr)} is already owned by ${holder}`);
  }

  get #lease(): Lease {
    return { ...this.cidr, attachment: this.options.attachment };
  }

  get #isContainer(): boolean {
    return this.options.isContainer ?? false;
  }

  get #holder(): string {
    return this.id === NO_CONTAINER ? formatIPv4(this.cidr.address) : this.id;
  }
}
