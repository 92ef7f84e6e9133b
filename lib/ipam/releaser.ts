// Release of addresses: on request, or when their container is gone; never while a link still has them.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";
import type { Sighting } from "../host/containers.ts";
import { partsOfKey } from "../host/names.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import { detached } from "../log/unexpected.ts";
import { StoreError } from "../store/error.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorDependencies } from "./config.ts";
import { IpamError, NoAddressesError } from "./errors.ts";
import type { Holders } from "./holders.ts";
import type { PendingRequests } from "./pending.ts";
import { type Departure, type Obstacle, ReleaseGrace } from "./releasegrace.ts";
import type { Lease } from "./saved.ts";
import type { Space } from "./space.ts";

export interface ReleaseOptions {
  /** Release what is for this attachment only; see Lease. */
  readonly attachment?: string | undefined;
  /** The caller has just removed the link of that attachment: links need no look. */
  readonly detached?: boolean;
}

export interface ReleaserDependencies
  extends Pick<AllocatorDependencies, "clock" | "log" | "attached" | "uses" | "released" | "gone"> {
  /** Addresses were released: what waits may be possible now. */
  changed(): void;
}

/** What happens to containers that hold addresses. */
export type HolderLifecycle = Pick<
  Releaser,
  | "died"
  | "started"
  | "destroyed"
  | "unknown"
  | "departing"
  | "checkGone"
  | "collect"
  | "holderOf"
  | "isGivenBack"
>;

/** Incomplete looks in a row, after which the next waits until another link goes. */
const MAX_INCOMPLETE = 6;

/** Time from allocation until a link must have the address: dockerd allocates well before it creates the link. */
const LINK_TIMEOUT_MS = 30_000;

const NO_SIGHTING: Sighting = { addresses: [], complete: false };

export class Releaser {
  readonly #grace = new ReleaseGrace();
  #searching = Promise.resolve();
  /** The search that has not begun yet. */
  #nextSearch: Promise<void> | undefined;
  #checkingGone = false;
  /** Incomplete looks in a row. */
  #incomplete = 0;
  /** Addresses that no link has had yet, with the time of their allocation in ms of the clock. */
  readonly #linkless = new Map<IPv4, number>();
  readonly #warn: LimitedWarning;

  constructor(
    private readonly holders: Holders,
    private readonly space: Space,
    private readonly pending: PendingRequests,
    private readonly dependencies: ReleaserDependencies,
  ) {
    this.#warn = limitedWarnings(dependencies.log, () => dependencies.clock.now());
  }

  /**
   * Release addresses of a holder, and cancel its requests. Throws IpamError where there are none. Resolves once links
   * have been searched for those of a container; one that a link still has, or that a full disk keeps, is released
   * later.
   */
  release(id: string, { attachment, detached = false }: ReleaseOptions = {}): Promise<void> {
    const waited = this.pending.cancel(id, attachment);
    const { isContainer, cidrs } = this.holders.get(id);
    const isNamed = (lease: Lease) => lease.attachment === attachment;
    const ifName = attachment === undefined ? undefined : partsOfKey(attachment).ifName;
    // An interface belongs to one network at a time: where its link was removed, the network was renamed since.
    const wasRenamed = detached && ifName !== undefined && !cidrs.some(isNamed);
    const isMeant = (lease: Lease) =>
      isNamed(lease) ||
      (wasRenamed && lease.attachment !== undefined && partsOfKey(lease.attachment).ifName === ifName);
    const leases = cidrs.filter(
      (lease) => attachment === undefined || lease.attachment === undefined || isMeant(lease),
    );
    if (leases.length === 0 && !waited) throw new NoAddressesError(`Delete: no addresses for ${id}`);
    if (!isContainer || (detached && leases.every(isMeant))) {
      this.#remove(
        id,
        leases.filter(({ address }) => isContainer || !this.#uses(id, address)),
      );
      return Promise.resolve();
    }
    for (const lease of leases) {
      // An address without an attachment may be of another one while a link has it.
      if (attachment === undefined || isMeant(lease)) this.#block(id, [lease], "unseen");
      else this.#grace.died(id, lease.address, this.dependencies.clock.now(), false);
    }
    return this.#settle();
  }

  /** Release one address of a holder; throws IpamError where it does not hold it. See release(). */
  free(id: string, address: IPv4): Promise<void> {
    const { isContainer, cidrs } = this.holders.get(id);
    const lease = cidrs.find((held) => held.address === address);
    if (!lease) throw new IpamError(`Free: address ${formatIPv4(address)} not found for ${id}`);
    if (isContainer) {
      this.#block(id, [lease], "unseen");
      return this.#settle();
    }
    if (this.#uses(id, address))
      throw new IpamError(`Free: address ${formatIPv4(address)} is still in use by ${id}`);
    this.#remove(id, [lease]);
    return Promise.resolve();
  }

  /** Whether a holder that is no container uses an address: the host may have it with two prefix lengths. */
  #uses(id: string, address: IPv4): boolean {
    return this.dependencies.uses?.(id, address) === true;
  }

  /** A container ended. It may be started again, and keeps its addresses for a while. */
  died(id: string): void {
    this.pending.cancel(id);
    const { isContainer, cidrs } = this.holders.get(id);
    for (const { address } of cidrs) this.#linkless.delete(address);
    if (isContainer) this.#died(id, cidrs);
  }

  /** A container runs. */
  started(id: string): void {
    this.#grace.forgetHolder(id);
  }

  /** A container was removed. */
  destroyed(id: string): void {
    const { isContainer, cidrs } = this.holders.get(id);
    if (isContainer && cidrs.length > 0) detached(`releasing the addresses of ${id}`, this.release(id));
  }

  /** Release the addresses of a holder that no runtime knows, unless their links may still appear. */
  unknown(id: string): void {
    if (!this.holders.get(id).cidrs.some(({ address }) => this.#mayGetLink(address))) this.destroyed(id);
  }

  holderOf(address: IPv4): string | undefined {
    return this.holders.holderOf(address);
  }

  /** Return whether an address was released, and waits until its link is gone. */
  isGivenBack(address: IPv4): boolean {
    return this.#grace.get(address)?.obstacle !== undefined;
  }

  /** An address is in use by its holder (again). */
  keep(address: IPv4): void {
    this.#grace.forget(address);
    this.#linkless.set(address, this.dependencies.clock.now());
  }

  #mayGetLink(address: IPv4): boolean {
    const since = this.#linkless.get(address);
    return since !== undefined && this.dependencies.clock.now() - since < LINK_TIMEOUT_MS;
  }

  /**
   * End the grace period of an address that another holder wants, and look whether a link has it; then requests are
   * tried again. Returns false if the address is in no grace period, or its link may still appear.
   */
  expedite(address: IPv4): boolean {
    const departure = this.#grace.get(address);
    if (!departure || this.#mayGetLink(address)) return false;
    this.#block(departure.id, [{ address, prefix: 32 }], "unseen");
    detached("looking for a dead container's address", this.#settle());
    return true;
  }

  /** Return whether links have not been searched for the address yet. */
  isChecking(address: IPv4): boolean {
    return this.#grace.get(address)?.obstacle === "unseen";
  }

  /** Return the holders of addresses in their grace period. */
  departing(): ReadonlySet<string> {
    return this.#grace.holders();
  }

  /** Look for containers that are gone without an event: no link has an address of theirs. */
  checkGone(): Promise<void> {
    return this.#settle(true);
  }

  /** Start the grace period of attachments of which no link has an address; return their containers. */
  noteGone({ addresses, complete }: Sighting): ReadonlySet<string> {
    // A namespace that is being removed cannot be searched, and is gone soon.
    this.#incomplete = complete ? 0 : this.#incomplete + 1;
    for (const { address } of addresses) this.#linkless.delete(address);
    const gone = new Set<string>();
    if (!complete) return gone;
    const present = new Set(addresses.map(({ address }) => address));
    for (const [id, { isContainer, cidrs }] of this.holders.entries()) {
      if (!isContainer) continue;
      const attachments = Map.groupBy(cidrs, ({ attachment }) => attachment);
      for (const leases of attachments.values()) {
        if (!leases.some(({ address }) => present.has(address)) && this.#died(id, leases)) gone.add(id);
      }
    }
    return gone;
  }

  /** Resolve with the addresses on links of containers. */
  async look(): Promise<ReadonlySet<IPv4>> {
    const { addresses } = (await this.dependencies.attached?.()) ?? NO_SIGHTING;
    return new Set(addresses.map(({ address }) => address));
  }

  /**
   * Release what is for attachments of a CNI network that the runtime does not list ("ID/INTERFACE"). Addresses without
   * an attachment are left to checkGone().
   */
  async collect(network: string, valid: ReadonlySet<string>): Promise<void> {
    const prefix = `${network}/`;
    const releases: Promise<void>[] = [];
    for (const [id, { isContainer, cidrs }] of [...this.holders.entries()]) {
      if (!isContainer) continue;
      for (const attachment of new Set(cidrs.map((lease) => lease.attachment))) {
        if (!attachment?.startsWith(prefix)) continue;
        if (!valid.has(`${id}/${attachment.slice(prefix.length)}`))
          releases.push(this.release(id, { attachment }));
      }
    }
    await Promise.all(releases);
  }

  /** To be called every few seconds: release what is due, unless a link has it. */
  releaseDue(): void {
    const again = this.#incomplete > 0 && this.#incomplete < MAX_INCOMPLETE;
    if (!again && this.#due().length === 0) return;
    detached("releasing addresses that are due", this.#settle(again));
  }

  /**
   * Search the links, one search at a time, and release what was due before it began. Resolves when the search for what
   * was due at the time of the call has ended: all calls until it begins share one.
   */
  #settle(checkGone = false): Promise<void> {
    const { attached } = this.dependencies;
    if (!attached) {
      this.#releaseUnless(this.#due(), new Set());
      return Promise.resolve();
    }
    this.#checkingGone ||= checkGone;
    if (this.#nextSearch !== undefined) return this.#nextSearch;
    const search = this.#searching.then(() => {
      this.#nextSearch = undefined;
      return this.#search(attached);
    });
    this.#nextSearch = search;
    this.#searching = search.catch(() => {});
    return search;
  }

  async #search(attached: NonNullable<ReleaserDependencies["attached"]>): Promise<void> {
    const due = this.#due();
    const checkingGone = this.#checkingGone;
    this.#checkingGone = false;
    // An earlier search has done it.
    if (due.length === 0 && !checkingGone) return;
    const sighting = await attached().catch((error) => {
      this.#warn("look", `cannot list the addresses in use: ${reasonOf(error)}`);
    });
    if (!sighting) return;
    const gone = checkingGone ? this.noteGone(sighting) : undefined;
    if (gone && gone.size > 0) this.dependencies.gone?.(gone);
    this.#releaseUnless(due, new Set(sighting.addresses.map(({ address }) => address)));
  }

  #due(): Departure[] {
    return this.#grace.due(this.dependencies.clock.now());
  }

  #releaseUnless(due: readonly Departure[], stay: ReadonlySet<IPv4>): void {
    for (const departure of due) {
      const { id, address, obstacle } = departure;
      // It was taken into use again during the search.
      if (this.#grace.get(address) !== departure) continue;
      const lease = this.holders.get(id).cidrs.find((held) => held.address === address);
      if (!lease) this.#grace.forget(address);
      else if (!stay.has(address)) this.#release(departure, lease);
      else if (obstacle) this.#block(id, [lease], "on-link");
      else this.#grace.forget(address);
    }
    this.dependencies.changed();
  }

  #release({ id, address, obstacle }: Departure, lease: Lease): void {
    this.#remove(id, [lease]);
    if (this.holders.holderOf(address) !== undefined || obstacle === "unseen") return;
    this.dependencies.log.info(
      `released the address of a container that ${obstacle ? "was removed" : "ended"}`,
      { container: id, address: formatIPv4(address) },
    );
  }

  /** Why released addresses are still in use, for the status. */
  notes(): string[] {
    return this.#grace.notes();
  }

  /** Return false where all of them were in their grace period. */
  #died(id: string, leases: readonly Lease[]): boolean {
    const now = this.dependencies.clock.now();
    return leases.map(({ address }) => this.#grace.died(id, address, now)).includes(true);
  }

  #block(id: string, leases: readonly Lease[], obstacle: Obstacle): void {
    for (const { address } of leases)
      this.#grace.blocked(id, address, this.dependencies.clock.now(), obstacle);
  }

  /** Throws StoreError for a holder that is no container: its caller tries again. */
  #remove(id: string, leases: readonly Lease[]): void {
    const addresses = leases.map(({ address }) => address);
    try {
      this.holders.remove(id, addresses);
    } catch (error) {
      if (!(error instanceof StoreError) || !this.holders.get(id).isContainer) throw error;
      this.#warn("not-saved", `cannot release the addresses of a container: ${reasonOf(error)}; retrying`, {
        container: id,
      });
      return this.#block(id, leases, "not-saved");
    }
    for (const address of addresses) {
      this.#grace.forget(address);
      this.#linkless.delete(address);
      this.space.release(address);
    }
    this.dependencies.changed();
    if (this.holders.get(id).cidrs.length === 0) this.dependencies.released?.(id);
  }
}
