// The allocator of one peer: hands out addresses of the ranges it owns, and waits for other peers where none is free
// (weave: ipam/allocator.go). Pure: clock, chance, gossip and disk are passed in.

import {
  type AddressRange,
  type Cidr,
  cidrRange,
  formatCidr,
  formatRange,
  type IPv4,
} from "../address/ipv4.ts";
import { every, type Timer } from "../clock/clock.ts";
import type { Sighting } from "../host/containers.ts";
import { attachmentKey } from "../host/names.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Gate } from "../mesh/gate.ts";
import type { GossipChannel, Gossiper } from "../mesh/gossip.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import { type AllocateOptions, allocation } from "./allocation.ts";
import { Claim, type ClaimOptions } from "./claim.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./config.ts";
import { DisplacedAddresses } from "./displaced.ts";
import { CancelledError, ExhaustedError, IpamError, ownedElsewhere } from "./errors.ts";
import { Gateways } from "./gateways.ts";
import { Holders, NO_CONTAINER } from "./holders.ts";
import { type AddressObstacle, addressObstacle, findObstacle } from "./obstacle.ts";
import type { AllocatorParts } from "./parts.ts";
import { DONE, PendingRequests } from "./pending.ts";
import { type HolderLifecycle, type ReleaseOptions, Releaser } from "./releaser.ts";
import { RingReplicator } from "./replicator.ts";
import { type IpamProblems, type IpamReport, ipamReport } from "./report.ts";
import type { RingView } from "./ring/ring.ts";
import type { Holder, Lease } from "./saved.ts";
import { Space } from "./space.ts";
import { waitReason } from "./waits.ts";

const TICK_MS = 5_000;

/** A longer wait for an address is logged. */
const LOG_WAIT_MS = 1_000;

export class Allocator {
  readonly #parts: AllocatorParts;
  readonly #displaced: DisplacedAddresses;
  readonly #warn: LimitedWarning;
  #ticker: Timer | undefined;
  #shuttingDown = false;

  constructor(
    config: AllocatorConfig,
    private readonly dependencies: AllocatorDependencies,
  ) {
    const { clock, log, store } = dependencies;
    this.#warn = limitedWarnings(log, () => clock.now());
    const [space, holders, pending] = [new Space(), new Holders(store), new PendingRequests()];
    const replicator = new RingReplicator(config, dependencies, space, {
      changed: () => pending.retry(),
      replaced: () => this.#displaced.settle(),
      denied: (range, by) =>
        pending.denied(range, (cidr) => ownedElsewhere(formatCidr(cidr), by, replicator.nicknames.get(by))),
    });
    const releaser = new Releaser(holders, space, pending, {
      ...dependencies,
      changed: () => {
        replicator.reportFree();
        pending.retry();
      },
    });
    this.#parts = { config, replicator, space, holders, gateways: new Gateways(store), pending, releaser };
    this.#displaced = new DisplacedAddresses(this.#parts, log);
  }

  /**
   * Load what was saved, or begin anew, and speak on `channel` from now on. Addresses on links of containers (`sighting`)
   * are claimed before anything else is allocated.
   */
  start(channel: GossipChannel, sighting?: Sighting): void {
    const { replicator, config } = this.#parts;
    const { info } = this.dependencies.log;
    const seeded = config.seed.length > 0;
    if (this.#load())
      info(`starting with the saved ring${seeded ? "; ignoring the seed of --ipalloc-init" : ""}`);
    else if (seeded) info("starting with the seed of --ipalloc-init");
    else if (config.observer) info("starting as observer: waiting for the ring of another peer");
    else info("starting without a ring: peers agree on one at the first request");
    replicator.start(channel);
    this.#displaced.settle();
    if (sighting) this.#claimSeen(sighting);
    this.#ticker = every(this.dependencies.clock, TICK_MS, () => this.#tick());
  }

  stop(): void {
    this.#ticker?.cancel();
    this.#parts.pending.cancelAll();
    this.#parts.replicator.stop();
  }

  /** The ring, to be read. */
  get ring(): RingView {
    return this.#parts.replicator.ring;
  }

  /** The user of the IPAM channel. */
  get gossiper(): Gossiper {
    return this.#parts.replicator;
  }

  /** What this peer says of its range in handshakes, and by which it judges others. */
  get gate(): Gate {
    return this.#parts.replicator;
  }

  /** To be told what happens to containers that hold addresses. */
  get lifecycle(): HolderLifecycle {
    return this.#parts.releaser;
  }

  /** See ipamReport(). */
  report(defaultSubnet: Cidr): IpamReport {
    return ipamReport(this.#parts, defaultSubnet, this.dependencies.clock);
  }

  problems(): IpamProblems {
    return { ring: this.#parts.replicator.problems(), addresses: this.#displaced.problems() };
  }

  /** What peers, containers and clients can make grow here, and how far. */
  limits(): Limit[] {
    return [...this.#parts.replicator.limits(), this.#parts.pending.limit];
  }

  /** What is held back or limited, and what was settled lately. */
  notes(): string[] {
    return [...this.#parts.releaser.notes(), ...this.#parts.replicator.notes()];
  }

  /** Ranges of ours that are not handed out yet: another peer may do so. */
  get contested(): readonly AddressRange[] {
    return this.#parts.replicator.contested;
  }

  /** See Space.releasedCount. */
  get releasedCount(): number {
    return this.#parts.space.releasedCount;
  }

  /** Return whether a neighbour has told us what it knows of the ring. */
  hasHeard(peer: PeerName): boolean {
    return this.#parts.replicator.heard.has(peer);
  }

  /** Note that peers became unreachable. */
  peersGone(peers: readonly { readonly name: PeerName; readonly nickName: string }[]): void {
    this.#parts.replicator.peersGone(peers);
  }

  /** Resolve once there is a ring, for which the peers vote where they have not. */
  prime(signal?: AbortSignal): Promise<void> {
    const { pending, replicator } = this.#parts;
    return pending.run("prime", "", "Prime request", signal, () => {
      replicator.establish();
      return replicator.ring.empty ? undefined : DONE;
    });
  }

  /**
   * Allocate an address of a subnet for `id`: the one it has, else a free one of ours, else one that another peer
   * donates; waits while there is none. Rejects with IpamError where the subnet lies outside the range, with StoreError.
   */
  allocate(id: string, subnet: Cidr, options: AllocateOptions = {}): Promise<IPv4> {
    this.#refuseWhenShuttingDown();
    const { holders, gateways, pending } = this.#parts;
    const { attachment, gateway, signal } = options;
    if (gateway !== undefined) gateways.reserve(gateway);
    const attempt = allocation(this.#parts, this.dependencies.log, id, subnet, options);
    const run = () => {
      const text = `${id} ${formatCidr(subnet)}`;
      const request = pending.run("allocate", id, text, signal, attempt, { attachment, subnet });
      return this.#watched(id, request).catch((error) => {
        if (error instanceof ExhaustedError) this.#warn("exhausted", error.message);
        throw error;
      });
    };
    const held = holders.within(id, cidrRange(subnet));
    const unattributed = held.some((lease) => lease.attachment === undefined);
    const own = held.some((lease) => lease.attachment === attachment);
    if (attachment === undefined || !unattributed || own) return run();
    return this.#attribute(id, cidrRange(subnet), attachment).then(run);
  }

  /** Return why no address of a subnet can be allocated now; undefined where one can, or a peer may have one. */
  obstacle(subnet: Cidr): AddressObstacle | undefined {
    return this.#shuttingDown
      ? addressObstacle("leaving", "this peer is leaving the network")
      : findObstacle(this.#parts, subnet);
  }

  /**
   * Give an attachment an address that its container holds for no attachment and that no link has: claimed before the
   * container was attached, or saved by a version that did not tell attachments apart.
   */
  async #attribute(id: string, range: AddressRange, attachment: string): Promise<void> {
    const { holders, releaser } = this.#parts;
    const present = await releaser.look();
    const [idle] = holders
      .within(id, range)
      .filter((lease) => lease.attachment === undefined && !present.has(lease.address));
    if (idle) holders.attribute(id, idle.address, attachment);
  }

  /** Take a certain address into use for `id`; waits where another peer has to donate it first. */
  claim(id: string, cidr: Cidr, options: ClaimOptions = {}): Promise<void> {
    this.#refuseWhenShuttingDown();
    const { attachment, signal } = options;
    const { pending } = this.#parts;
    const { clock } = this.dependencies;
    const claim = new Claim(this.#parts, id, cidr, options, (again) => this.claim(id, cidr, again), clock);
    const attempt = () => claim.attempt();
    const request = pending.run("claim", id, formatCidr(cidr), signal, attempt, { cidr, attachment });
    request.catch(() => claim.abandon());
    return this.#watched(id, request);
  }

  /** Return what requests wait for: those of one holder, or all. */
  waits(id?: string): string[] {
    const waiting = this.#parts.pending.waiting(id);
    return [...new Set(waiting.map((request) => waitReason(this.#parts, request)))];
  }

  /** Log what a request waits for that takes longer than LOG_WAIT_MS. */
  #watched<T>(id: string, request: Promise<T>): Promise<T> {
    if (this.#parts.pending.waiting(id).length === 0) return request;
    const timer = this.dependencies.clock.after(LOG_WAIT_MS, () => {
      const [reason] = this.waits(id);
      if (reason !== undefined)
        this.#warn("waiting", `a container waits for an address: ${reason}`, { container: id });
    });
    return request.finally(() => timer.cancel());
  }

  /** Return the addresses of a holder in a range, or those for one attachment. */
  lookup(id: string, range: AddressRange, attachment?: string): Lease[] {
    const leases = this.#parts.holders.within(id, range);
    return attachment === undefined ? leases : leases.filter((lease) => lease.attachment === attachment);
  }

  /** Return all addresses of a holder. */
  leases(id: string): readonly Lease[] {
    return this.#parts.holders.get(id).cidrs;
  }

  /** Return all holders and their addresses. */
  holders(): Iterable<readonly [string, Holder]> {
    return this.#parts.holders.entries();
  }

  /** Let another container hold an address, for this attachment; false if it has no holder. Throws StoreError. */
  transfer(address: IPv4, to: string, attachment?: string): boolean {
    const { holders, releaser } = this.#parts;
    releaser.keep(address);
    return holders.transfer(address, to, attachment);
  }

  /** Allocate an address to no container of this host from now on; `on` false ends that. Throws StoreError. */
  reserve(address: IPv4, on = true): void {
    const { gateways, pending } = this.#parts;
    if (on) gateways.reserve(address);
    else {
      gateways.unreserve(address);
      pending.retry();
    }
  }

  /** See Releaser.free(). */
  free(id: string, address: IPv4): Promise<void> {
    return this.#parts.releaser.free(id, address);
  }

  /** See Releaser.release(). */
  delete(id: string, options?: ReleaseOptions): Promise<void> {
    return this.#parts.releaser.release(id, options);
  }

  /** See TakeOvers.takeOver(). */
  takeOver(nameOrNickname: string, force?: boolean): Promise<number> {
    return this.#parts.replicator.takeOver(nameOrNickname, force);
  }

  /**
   * Hand all our space to another peer and stop allocating; resolves with that peer once it has acknowledged, with undefined
   * where there is no space or no peer. Rejects with IpamError where none does; until a peer has got our space, allocation
   * goes on.
   */
  async shutdown(): Promise<PeerName | undefined> {
    const { pending, replicator } = this.#parts;
    this.#shuttingDown = true;
    pending.cancelAll();
    try {
      return await replicator.leave();
    } catch (error) {
      this.#shuttingDown = replicator.leaving;
      throw error;
    }
  }

  #refuseWhenShuttingDown(): void {
    if (this.#shuttingDown)
      throw new IpamError("this peer is leaving the network and allocates no addresses");
  }

  /** Load what was saved; false where there is nothing, or it belongs to another network or peer. */
  #load(): boolean {
    const { gateways, holders, replicator, space, config } = this.#parts;
    const { start, end, peer } = replicator.ring;
    gateways.load();
    const saved = this.dependencies.store.loadRing();
    const isOurs = saved?.peer === peer && saved.start === start && saved.end === end;
    if (!saved || saved.entries.length === 0 || !isOurs) {
      if (saved && saved.entries.length > 0) {
        const other =
          saved.peer === peer
            ? `IPAM range ${formatRange(saved)}; our range is ${formatCidr(config.universe)}`
            : `peername ${saved.peer}`;
        this.dependencies.log.info("deleting the saved ring: it belongs to another network or peer", {
          saved: other,
        });
      }
      holders.forgetAll();
      return false;
    }
    replicator.restore(saved);
    holders.load();
    for (const [, { cidrs }] of holders.entries()) for (const { address } of cidrs) space.claim(address);
    return true;
  }

  /** Claim addresses that are in use and held by nobody, for their containers; note containers that are gone. */
  #claimSeen(sighting: Sighting): void {
    const { holders, releaser } = this.#parts;
    const { log } = this.dependencies;
    for (const { owner, ...cidr } of sighting.addresses) {
      if (holders.holderOf(cidr.address) !== undefined) continue;
      const id = owner?.containerId ?? NO_CONTAINER;
      log.info("found an address in use", { address: formatCidr(cidr), container: owner && id });
      const attachment = owner?.network === undefined ? undefined : attachmentKey(owner);
      const options = { isContainer: true, noErrorOnUnknown: true, patient: true, attachment };
      this.claim(id, cidr, options).catch((error) => {
        if (!(error instanceof CancelledError)) log.error(reasonOf(error));
      });
    }
    releaser.noteGone(sighting);
  }

  #tick(): void {
    const { replicator, pending, releaser } = this.#parts;
    replicator.tick();
    if (!replicator.leaving && !replicator.ring.empty) this.#displaced.settle();
    if (!replicator.bootstrap.awaited && pending.size > 0) pending.retry();
    releaser.releaseDue();
  }
}
