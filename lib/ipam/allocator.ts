// The allocator of one peer: hands out addresses from the part of the range it owns, and waits for other peers where it
// has none left (weave: ipam/allocator.go). Pure: clock, chance, gossip and disk are passed in; what has to wait for
// other peers is a promise.
import {
  type AddressRange,
  type Cidr,
  cidrRange,
  formatCidr,
  formatIPv4,
  formatRange,
  hostRange,
  type IPv4,
  rangesOverlap,
} from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import type { GossipChannel, Gossiper } from "../mesh/gossip.ts";
import type { PeerName } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import { Claim, NO_CONTAINER } from "./claim.ts";
import { Departed } from "./departed.ts";
import { CancelledError, IpamError } from "./errors.ts";
import { OwnedAddresses } from "./owned.ts";
import { DONE, Pending } from "./pending.ts";
import type { AllocatorStore } from "./saved.ts";
import { Sharing } from "./sharing.ts";
import { Space } from "./space.ts";

const TICK_MS = 5_000;

export interface AllocatorConfig {
  readonly ourName: PeerName;
  readonly ourUid: bigint;
  readonly ourNickName: string;
  /** The whole range that peers share. */
  readonly universe: Cidr;
  /** Peers to divide the range among, without asking anybody. */
  readonly seed: readonly PeerName[];
  /** Never takes part in the first division; waits for others. */
  readonly observer: boolean;
  /** How many peers have to agree on the first division; asked when it begins. */
  readonly quorum: () => number;
  readonly isKnownPeer: (name: PeerName) => boolean;
}

export interface AllocatorDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: AllocatorStore;
  /**
   * Addresses that containers of this host have, as the kernel tells; undefined where that cannot be seen. Asked
   * before anything is taken from a container that seems to be gone.
   */
  attached?(): readonly Cidr[] | undefined;
  /** What is ours of the range has changed. */
  owns?(ranges: readonly AddressRange[]): void;
  /** A holder has no addresses any more. */
  released?(id: string): void;
}

export class Allocator {
  readonly space = new Space();
  readonly owned: OwnedAddresses;
  readonly pending = new Pending();
  readonly sharing: Sharing;
  readonly #departed = new Departed();
  readonly #log: Log;
  readonly #clock: Clock;
  #ticker: Timer | undefined;
  #shuttingDown = false;

  constructor(
    readonly config: AllocatorConfig,
    private readonly dependencies: AllocatorDependencies,
  ) {
    this.owned = new OwnedAddresses(dependencies.store);
    this.#log = dependencies.log;
    this.#clock = dependencies.clock;
    this.sharing = new Sharing(config, dependencies, this.space, {
      changed: () => this.pending.retry(),
      denied: (range, by) =>
        this.pending.denied(range, (cidr) => this.sharing.ownedElsewhere(formatCidr(cidr), by)),
    });
  }

  /** Takes up what was saved, or begins anew, and speaks on the channel that `open` makes from now on. */
  start(open: (gossiper: Gossiper) => GossipChannel): void {
    const { seed, observer } = this.config;
    const persisted = this.#load();
    if (persisted) {
      this.#info(`Initialising with persisted data${seed.length > 0 ? ", ignoring supplied IPAM seed" : ""}`);
    } else if (seed.length > 0) {
      this.#info("Initialising with supplied IPAM seed");
    } else {
      this.#info(
        observer
          ? "Initialising as observer - awaiting IPAM data from another peer"
          : "Initialising via deferred consensus",
      );
    }
    this.sharing.start(open(this.sharing));
    this.#takeStock();
    this.#ticker = every(this.#clock, TICK_MS, () => this.#tick());
  }

  stop(): void {
    this.#ticker?.cancel();
    this.pending.cancelAll();
    this.sharing.stop();
  }

  /** Resolves once the range has been divided, which this asks for where it has not. */
  prime(signal?: AbortSignal): Promise<void> {
    return this.pending.run("prime", "", "Prime request", signal, () => {
      this.sharing.establish();
      return this.sharing.ring.empty ? undefined : DONE;
    });
  }

  /**
   * An address for `id` in a subnet: the one it has, else a free one of ours, else one that another peer can spare;
   * waits while there is none. Rejects with IpamError where the subnet lies outside the range, with StoreError where
   * it cannot be saved.
   */
  allocate(id: string, subnet: Cidr, isContainer = false, signal?: AbortSignal): Promise<IPv4> {
    this.#refuseWhenShuttingDown();
    const text = `${id} ${formatCidr(subnet)}`;
    return this.pending.run("allocate", id, text, signal, () => {
      const [held] = this.owned.within(id, cidrRange(subnet));
      if (held) {
        this.#departed.forget(id);
        return { value: held.address };
      }
      if (!rangesOverlap(cidrRange(this.config.universe), cidrRange(subnet))) {
        throw new IpamError(`range ${formatCidr(subnet)} out of bounds: ${formatCidr(this.config.universe)}`);
      }
      this.sharing.establish();
      const hosts = hostRange(subnet);
      const address = this.space.allocate(hosts, this.sharing.contested);
      if (address === undefined) {
        this.sharing.askForSpace(hosts);
        return undefined;
      }
      const holder = id === NO_CONTAINER ? formatIPv4(address) : id;
      this.#hold(holder, { address, prefix: subnet.prefix }, isContainer);
      this.#debug(`Allocated ${formatIPv4(address)} for ${holder} in ${formatCidr(subnet)}`);
      return { value: address };
    });
  }

  /** Takes a certain address into use for `id`; waits where another peer has to give it up first. */
  claim(
    id: string,
    cidr: Cidr,
    isContainer = false,
    noErrorOnUnknown = false,
    signal?: AbortSignal,
  ): Promise<void> {
    this.#refuseWhenShuttingDown();
    this.#departed.forget(id);
    const claim = new Claim(this, id, cidr, isContainer, noErrorOnUnknown);
    return this.pending.run("claim", id, formatCidr(cidr), signal, () => claim.attempt(), cidr);
  }

  lookup(id: string, range: AddressRange): Cidr[] {
    return this.owned.within(id, range);
  }

  /** Gives back one address of `id`; throws IpamError when it does not hold it. */
  free(id: string, address: IPv4): void {
    if (!this.owned.remove(id, address)) {
      throw new IpamError(`Free: address ${formatIPv4(address)} not found for ${id}`);
    }
    this.#released(id, [address]);
  }

  /** Gives back all addresses of `id`, and stops waiting for any; throws IpamError when there are none. */
  delete(id: string): void {
    const waited = this.pending.cancel(id);
    const cidrs = this.owned.removeAll(id);
    this.#departed.forget(id);
    if (cidrs.length === 0 && !waited) throw new IpamError(`Delete: no addresses for ${id}`);
    this.#released(
      id,
      cidrs.map(({ address }) => address),
    );
  }

  /** A container has ended; it may be started again, and keeps its addresses for a while. */
  containerDied(id: string): void {
    this.pending.cancel(id);
    if (this.owned.get(id).isContainer) this.#departed.note(id, this.#clock.now());
  }

  containerStarted(id: string): void {
    this.#departed.forget(id);
  }

  /** A container is gone for good. */
  containerDestroyed(id: string): void {
    if (this.owned.get(id).isContainer) this.delete(id);
  }

  /** Looks which containers have ended without a word: those that hold addresses nobody has. */
  noticeDeparted(attached = this.dependencies.attached?.()): void {
    if (!attached) return;
    const present = new Set(attached.map(({ address }) => address));
    for (const [id, { isContainer, cidrs }] of this.owned.entries()) {
      if (isContainer && !cidrs.some(({ address }) => present.has(address))) this.containerDied(id);
    }
  }

  /** Hands all our space to another peer and allocates nothing any more. */
  shutdown(): void {
    this.#shuttingDown = true;
    this.pending.cancelAll();
    this.sharing.leave();
  }

  /** Notes that `id` has an address, which is in use already; throws StoreError, with the address free again. */
  #hold(id: string, cidr: Cidr, isContainer: boolean): void {
    try {
      this.owned.add(id, cidr, isContainer);
    } catch (error) {
      this.space.unuse(cidr.address);
      throw error;
    }
    this.sharing.reportFree();
  }

  /** As `allocate`, for an address that is known; for claims. Returns false where it is not ours or not free. */
  take(id: string, cidr: Cidr, isContainer: boolean): boolean {
    if (!this.space.claim(cidr.address)) return false;
    this.#hold(id, cidr, isContainer);
    return true;
  }

  #released(id: string, addresses: readonly IPv4[]): void {
    for (const address of addresses) this.space.release(address);
    this.sharing.reportFree();
    this.pending.retry();
    if (this.owned.get(id).cidrs.length === 0) this.dependencies.released?.(id);
  }

  #refuseWhenShuttingDown(): void {
    if (this.#shuttingDown)
      throw new IpamError("this peer is leaving the network and allocates no addresses");
  }

  #load(): boolean {
    const { store } = this.dependencies;
    const saved = store.loadRing();
    const { start, end, peer } = this.sharing.ring;
    if (!saved || saved.entries.length === 0) {
      this.owned.forgetAll();
      return false;
    }
    if (saved.peer !== peer || saved.start !== start || saved.end !== end) {
      const other =
        saved.peer === peer
          ? `IPAM range ${formatRange(saved)}; our range is ${formatCidr(this.config.universe)}`
          : `peername ${saved.peer}`;
      this.#info(`Deleting persisted data for ${other}`);
      this.owned.forgetAll();
      return false;
    }
    this.sharing.restore(saved);
    this.owned.load();
    for (const [, { cidrs }] of this.owned.entries())
      for (const { address } of cidrs) this.space.claim(address);
    return true;
  }

  /** Claims what is in use without anybody knowing whose it is, and lets go of what nobody has any more. */
  #takeStock(): void {
    const attached = this.dependencies.attached?.();
    for (const cidr of attached ?? []) {
      if (this.owned.holderOf(cidr.address) !== undefined) continue;
      this.#info(`Found address ${formatCidr(cidr)} in use`);
      this.claim(NO_CONTAINER, cidr, true, true).catch((error) => {
        if (!(error instanceof CancelledError)) this.#log.error(`[allocator] ${reasonOf(error)}`);
      });
    }
    this.noticeDeparted(attached);
  }

  #tick(): void {
    this.sharing.tick();
    if (!this.sharing.division.awaited && this.pending.size > 0) this.pending.retry();
    this.#releaseDeparted();
  }

  #releaseDeparted(): void {
    const due = this.#departed.due(this.#clock.now());
    if (due.length === 0) return;
    const present = new Set(this.dependencies.attached?.()?.map(({ address }) => address));
    for (const id of due) {
      this.#departed.forget(id);
      if (this.owned.get(id).cidrs.some(({ address }) => present.has(address))) continue;
      try {
        this.delete(id);
        this.#info(`Released the addresses of ${id}, which has ended`);
      } catch (error) {
        // Without room to note it down it stays as it is, and is tried again.
        if (!(error instanceof IpamError)) this.#departed.note(id, this.#clock.now());
      }
    }
  }

  #info(text: string): void {
    this.#log.info(`[allocator ${this.config.ourName}] ${text}`);
  }

  #debug(text: string): void {
    this.#log.debug(`[allocator ${this.config.ourName}] ${text}`);
  }
}
