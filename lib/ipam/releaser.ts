// Giving addresses back: when their holder says so, when its container has gone, and never while a link still has them.
import { type Cidr, formatIPv4, type IPv4 } from "../address/ipv4.ts";
import type { Clock } from "../clock/clock.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { StoreError } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import { IpamError } from "./errors.ts";
import type { OwnedAddresses } from "./owned.ts";
import type { Pending } from "./pending.ts";
import { ReleaseGrace } from "./releasegrace.ts";
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
  /** Addresses on links of containers; undefined where that cannot be seen. */
  attached?(): readonly Cidr[] | undefined;
  /** A holder has no addresses any more. */
  released?(id: string): void;
  /** More is free than before. */
  freed(): void;
}

export class Releaser {
  readonly #grace = new ReleaseGrace();
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
   * Releases addresses of a holder, and cancels its requests. Throws IpamError when there are none. A container's
   * address that cannot be released now, because a link still has it or the disk is full, follows later.
   */
  release(id: string, { attachment, detached = false }: ReleaseOptions = {}): void {
    const waited = this.pending.cancel(id, attachment);
    const { isContainer, cidrs } = this.owned.get(id);
    const isMeant = (lease: Lease) => lease.attachment === attachment;
    const leases = cidrs.filter(
      (lease) => attachment === undefined || lease.attachment === undefined || isMeant(lease),
    );
    if (leases.length === 0 && !waited) throw new IpamError(`Delete: no addresses for ${id}`);
    const surelyGone = !isContainer || (detached && leases.every(isMeant));
    const stay = surelyGone ? new Set<IPv4>() : this.#present(leases);
    // What is for nobody in particular may be another attachment's while a link has it.
    const blocked = leases.filter(
      (lease) => stay.has(lease.address) && (attachment === undefined || isMeant(lease)),
    );
    this.#block(id, blocked, "on-link");
    this.#remove(
      id,
      leases.filter(({ address }) => !stay.has(address)),
    );
  }

  /** Releases one address of a holder; throws IpamError when it does not hold it. */
  free(id: string, address: IPv4): void {
    const lease = this.owned.get(id).cidrs.find((held) => held.address === address);
    if (!lease) throw new IpamError(`Free: address ${formatIPv4(address)} not found for ${id}`);
    const stays = this.owned.get(id).isContainer && this.#present([lease]).has(address);
    if (stays) this.#block(id, [lease], "on-link");
    else this.#remove(id, [lease]);
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
    if (isContainer && cidrs.length > 0) this.release(id);
  }

  /** An address is in use by its holder (again). */
  keep(address: IPv4): void {
    this.#grace.forget(address);
  }

  /** Releases the address of a container that has died before its grace period is over; false where it may be needed. */
  releaseDead(id: string, address: IPv4): boolean {
    const lease = this.owned.get(id).cidrs.find((held) => held.address === address);
    if (!lease || !this.#grace.has(address) || this.#present([lease]).has(address)) return false;
    this.#remove(id, [lease]);
    return this.owned.holderOf(address) === undefined;
  }

  /** Holders whose addresses are about to be released. */
  departing(): ReadonlySet<string> {
    return this.#grace.holders();
  }

  /**
   * Notices attachments that have ended without a word: those none of whose addresses is on a link. `attached` are those
   * on links, a moment ago; null where that cannot be seen.
   */
  noticeGone(attached: readonly Cidr[] | null = this.dependencies.attached?.() ?? null): void {
    if (!attached) return;
    const present = new Set(attached.map(({ address }) => address));
    for (const [id, { isContainer, cidrs }] of this.owned.entries()) {
      if (!isContainer) continue;
      const attachments = Map.groupBy(cidrs, ({ attachment }) => attachment);
      for (const leases of attachments.values()) {
        if (!leases.some(({ address }) => present.has(address))) this.#died(id, leases);
      }
    }
    this.releaseDue(present);
  }

  /**
   * Releases what is for attachments of a CNI network that the runtime does not list ("ID/INTERFACE"). Addresses whose
   * attachment is not known are left to noticeGone().
   */
  collect(network: string, valid: ReadonlySet<string>): void {
    const prefix = `${network}/`;
    for (const [id, { isContainer, cidrs }] of [...this.owned.entries()]) {
      if (!isContainer) continue;
      for (const attachment of new Set(cidrs.map((lease) => lease.attachment))) {
        if (!attachment?.startsWith(prefix)) continue;
        if (!valid.has(`${id}/${attachment.slice(prefix.length)}`)) this.release(id, { attachment });
      }
    }
  }

  /** To be called every few seconds: releases what is due, unless it is `present` on a link. */
  releaseDue(present?: ReadonlySet<IPv4>): void {
    const due = this.#grace.due(this.dependencies.clock.now());
    if (due.length === 0) return;
    const stay = present ?? new Set(this.dependencies.attached?.()?.map(({ address }) => address));
    for (const { id, address, obstacle } of due) {
      const lease = this.owned.get(id).cidrs.find((held) => held.address === address);
      const stays = stay.has(address);
      if (lease && stays && obstacle) this.#block(id, [lease], "on-link");
      if (!lease || (stays && !obstacle)) this.#grace.forget(address);
      if (!lease || stays) continue;
      this.#remove(id, [lease]);
      if (this.owned.holderOf(address) === undefined) {
        this.dependencies.log.info(
          `[allocator] released ${formatIPv4(address)} of ${id}, which has ${obstacle ? "gone" : "ended"}`,
        );
      }
    }
  }

  /** Why addresses stay in use that were given back, for the status. */
  notes(): string[] {
    return this.#grace.notes();
  }

  /** Those of the leases whose address a link still has. */
  #present(leases: readonly Lease[]): ReadonlySet<IPv4> {
    if (leases.length === 0) return new Set();
    return new Set(this.dependencies.attached?.()?.map(({ address }) => address));
  }

  #died(id: string, leases: readonly Lease[]): void {
    for (const { address } of leases) this.#grace.died(id, address, this.dependencies.clock.now());
  }

  #block(id: string, leases: readonly Lease[], obstacle: "on-link" | "not-saved"): void {
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
      this.#warn("not-saved", `[allocator] cannot release addresses of ${id} yet: ${reasonOf(error)}`);
      return this.#block(id, leases, "not-saved");
    }
    for (const address of addresses) {
      this.#grace.forget(address);
      this.space.release(address);
    }
    this.dependencies.freed();
    if (this.owned.get(id).cidrs.length === 0) this.dependencies.released?.(id);
  }
}
