// Giving addresses back: when their holder says so, when its container has gone, and never while a link still has them.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";
import type { Clock } from "../clock/clock.ts";
import type { Sighting } from "../host/containers.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { StoreError } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import { IpamError } from "./errors.ts";
import type { OwnedAddresses } from "./owned.ts";
import type { Pending } from "./pending.ts";
import { type Departure, type Obstacle, ReleaseGrace } from "./releasegrace.ts";
import type { Lease } from "./saved.ts";
import type { Space } from "./space.ts";

/** What of a holder is to be released. */
export interface ReleaseOptions {
  /** Only what is for this attachment; see Lease. */
  readonly attachment?: string | undefined;
  /** The caller has just removed the link of that attachment: nobody needs to look for it. */
  readonly detached?: boolean;
}

export interface ReleaserDependencies {
  readonly clock: Clock;
  readonly log: Log;
  /** Looks which addresses links of containers have. */
  attached?(): Promise<Sighting>;
  /** A holder has no addresses any more. */
  released?(id: string): void;
  /** Containers have lost their links, and nobody has said why. */
  gone?(ids: ReadonlySet<string>): void;
  /** Something that waited may be possible now. */
  changed(): void;
}

/** Looks in a row that did not see everything, after which the next waits for another link to go. */
const MAX_UNSEEN = 6;

const NOTHING_SEEN: Sighting = { addresses: [], complete: false };

export class Releaser {
  readonly #grace = new ReleaseGrace();
  #looking = Promise.resolve();
  #noticing = false;
  /** Looks in a row that have not seen everything. */
  #unseen = 0;
  readonly #warn: (kind: string, text: string) => void;

  constructor(
    private readonly owned: OwnedAddresses,
    private readonly space: Space,
    private readonly pending: Pending,
    private readonly dependencies: ReleaserDependencies,
  ) {
    this.#warn = limitedWarnings(dependencies.log, () => dependencies.clock.now());
  }

  /**
   * Releases addresses of a holder, and cancels its requests. Throws IpamError when there are none. Resolves when links
   * have been searched for a container's; an address that a link still has, or that a full disk keeps from being
   * released, follows later.
   */
  release(id: string, { attachment, detached = false }: ReleaseOptions = {}): Promise<void> {
    const waited = this.pending.cancel(id, attachment);
    const { isContainer, cidrs } = this.owned.get(id);
    const isMeant = (lease: Lease) => lease.attachment === attachment;
    const leases = cidrs.filter(
      (lease) => attachment === undefined || lease.attachment === undefined || isMeant(lease),
    );
    if (leases.length === 0 && !waited) throw new IpamError(`Delete: no addresses for ${id}`);
    if (!isContainer || (detached && leases.every(isMeant))) {
      this.#remove(id, leases);
      return Promise.resolve();
    }
    for (const lease of leases) {
      // What is for nobody in particular may be another attachment's while a link has it.
      if (attachment === undefined || isMeant(lease)) this.#block(id, [lease], "unseen");
      else this.#grace.died(id, lease.address, this.dependencies.clock.now(), false);
    }
    return this.#settle();
  }

  /** Releases one address of a holder; throws IpamError when it does not hold it. See release(). */
  free(id: string, address: IPv4): Promise<void> {
    const { isContainer, cidrs } = this.owned.get(id);
    const lease = cidrs.find((held) => held.address === address);
    if (!lease) throw new IpamError(`Free: address ${formatIPv4(address)} not found for ${id}`);
    if (isContainer) {
      this.#block(id, [lease], "unseen");
      return this.#settle();
    }
    this.#remove(id, [lease]);
    return Promise.resolve();
  }

  /** A container has ended; it may be started again, and keeps its addresses for a while. */
  died(id: string): void {
    this.pending.cancel(id);
    const { isContainer, cidrs } = this.owned.get(id);
    if (isContainer) this.#died(id, cidrs);
  }

  /** It runs. */
  started(id: string): void {
    this.#grace.forgetHolder(id);
  }

  /** A container is gone for good. */
  destroyed(id: string): void {
    const { isContainer, cidrs } = this.owned.get(id);
    if (isContainer && cidrs.length > 0) detached(`releasing the addresses of ${id}`, this.release(id));
  }

  holderOf(address: IPv4): string | undefined {
    return this.owned.holderOf(address);
  }

  /** Whether an address was given back, and waits for its link to go. */
  isGivenBack(address: IPv4): boolean {
    return this.#grace.get(address)?.obstacle !== undefined;
  }

  /** An address is in use by its holder (again). */
  keep(address: IPv4): void {
    this.#grace.forget(address);
  }

  /**
   * Ends the grace period of an address that somebody else wants, and looks whether a link has it; requests that wait
   * are tried again then. False where its holder has not gone.
   */
  hurry(address: IPv4): boolean {
    const departure = this.#grace.get(address);
    if (!departure) return false;
    this.#block(departure.id, [{ address, prefix: 32 }], "unseen");
    detached("looking for a dead container's address", this.#settle());
    return true;
  }

  /** Whether it is not known yet if a link has the address. */
  isLooking(address: IPv4): boolean {
    return this.#grace.get(address)?.obstacle === "unseen";
  }

  /** Holders whose addresses are about to be released. */
  departing(): ReadonlySet<string> {
    return this.#grace.holders();
  }

  /** Notices attachments that have ended without a word: those none of whose addresses is on a link. */
  noticeGone(): Promise<void> {
    return this.#settle(true);
  }

  /** The same, with links that have been looked at already; returns the containers. */
  notice({ addresses, complete }: Sighting): ReadonlySet<string> {
    // A namespace that is being removed cannot be looked into, and soon is no more.
    this.#unseen = complete ? 0 : this.#unseen + 1;
    const gone = new Set<string>();
    if (!complete) return gone;
    const present = new Set(addresses.map(({ address }) => address));
    for (const [id, { isContainer, cidrs }] of this.owned.entries()) {
      if (!isContainer) continue;
      const attachments = Map.groupBy(cidrs, ({ attachment }) => attachment);
      for (const leases of attachments.values()) {
        if (!leases.some(({ address }) => present.has(address)) && this.#died(id, leases)) gone.add(id);
      }
    }
    return gone;
  }

  /** Resolves with what links of containers have now. */
  async look(): Promise<ReadonlySet<IPv4>> {
    const { addresses } = (await this.dependencies.attached?.()) ?? NOTHING_SEEN;
    return new Set(addresses.map(({ address }) => address));
  }

  /**
   * Releases what is for attachments of a CNI network that the runtime does not list ("ID/INTERFACE"). Addresses whose
   * attachment is not known are left to noticeGone().
   */
  async collect(network: string, valid: ReadonlySet<string>): Promise<void> {
    const prefix = `${network}/`;
    const releases: Promise<void>[] = [];
    for (const [id, { isContainer, cidrs }] of [...this.owned.entries()]) {
      if (!isContainer) continue;
      for (const attachment of new Set(cidrs.map((lease) => lease.attachment))) {
        if (!attachment?.startsWith(prefix)) continue;
        if (!valid.has(`${id}/${attachment.slice(prefix.length)}`))
          releases.push(this.release(id, { attachment }));
      }
    }
    await Promise.all(releases);
  }

  /** To be called every few seconds: releases what is due, unless a link has it. */
  releaseDue(): void {
    const again = this.#unseen > 0 && this.#unseen < MAX_UNSEEN;
    if (!again && this.#due().length === 0) return;
    detached("releasing addresses that are due", this.#settle(again));
  }

  /**
   * Looks at the links, one look at a time, and releases what was due before it began. Resolves when what was due at the
   * time of the call has been looked for.
   */
  #settle(notice = false): Promise<void> {
    const { attached } = this.dependencies;
    if (!attached) {
      this.#releaseUnless(this.#due(), new Set());
      return Promise.resolve();
    }
    this.#noticing ||= notice;
    const next = this.#looking.then(async () => {
      const due = this.#due();
      const noticing = this.#noticing;
      this.#noticing = false;
      // An earlier call has done it already.
      if (due.length === 0 && !noticing) return;
      const sighting = await attached().catch((error) => {
        this.#warn("look", `cannot list the addresses in use: ${reasonOf(error)}`);
      });
      if (!sighting) return;
      const gone = noticing ? this.notice(sighting) : undefined;
      if (gone && gone.size > 0) this.dependencies.gone?.(gone);
      this.#releaseUnless(due, new Set(sighting.addresses.map(({ address }) => address)));
    });
    this.#looking = next.catch(() => {});
    return next;
  }

  #due(): Departure[] {
    return this.#grace.due(this.dependencies.clock.now());
  }

  #releaseUnless(due: readonly Departure[], stay: ReadonlySet<IPv4>): void {
    for (const departure of due) {
      const { id, address, obstacle } = departure;
      // It has been taken up again while we looked.
      if (this.#grace.get(address) !== departure) continue;
      const lease = this.owned.get(id).cidrs.find((held) => held.address === address);
      if (!lease) this.#grace.forget(address);
      else if (!stay.has(address)) this.#release(departure, lease);
      else if (obstacle) this.#block(id, [lease], "on-link");
      else this.#grace.forget(address);
    }
    this.dependencies.changed();
  }

  #release({ id, address, obstacle }: Departure, lease: Lease): void {
    this.#remove(id, [lease]);
    if (this.owned.holderOf(address) !== undefined || obstacle === "unseen") return;
    this.dependencies.log.info(
      `released the address of a container that ${obstacle ? "was removed" : "ended"}`,
      { container: id, address: formatIPv4(address) },
    );
  }

  /** Why addresses stay in use that were given back, for the status. */
  notes(): string[] {
    return this.#grace.notes();
  }

  /** False where that is known of all of them. */
  #died(id: string, leases: readonly Lease[]): boolean {
    const now = this.dependencies.clock.now();
    return leases.map(({ address }) => this.#grace.died(id, address, now)).includes(true);
  }

  #block(id: string, leases: readonly Lease[], obstacle: Obstacle): void {
    for (const { address } of leases)
      this.#grace.blocked(id, address, this.dependencies.clock.now(), obstacle);
  }

  /** Throws StoreError for who is no container, and knows that it has to try again. */
  #remove(id: string, leases: readonly Lease[]): void {
    const addresses = leases.map(({ address }) => address);
    try {
      this.owned.remove(id, addresses);
    } catch (error) {
      if (!(error instanceof StoreError) || !this.owned.get(id).isContainer) throw error;
      this.#warn(
        "not-saved",
        `cannot release the addresses of container ${id}: ${reasonOf(error)}; retrying`,
      );
      return this.#block(id, leases, "not-saved");
    }
    for (const address of addresses) {
      this.#grace.forget(address);
      this.space.release(address);
    }
    this.dependencies.changed();
    if (this.owned.get(id).cidrs.length === 0) this.dependencies.released?.(id);
  }
}
