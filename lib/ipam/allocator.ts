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
  rangeSize,
  rangesOverlap,
} from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { GossipChannel, Gossiper } from "../mesh/gossip.ts";
import type { PeerName } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import { Claim, NO_CONTAINER } from "./claim.ts";
import { CancelledError, ExhaustedError, IpamError } from "./errors.ts";
import { Gateways } from "./gateways.ts";
import { Homeless } from "./homeless.ts";
import { OwnedAddresses } from "./owned.ts";
import { DONE, Pending } from "./pending.ts";
import { type ReleaseOptions, Releaser } from "./releaser.ts";
import type { AllocatorStore, Lease } from "./saved.ts";
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
  /** Peers that the user named and that have not been heard yet; they may know a ring. None unless given. */
  readonly unheard?: () => readonly string[];
  /** True while another host is known to have our name: what is given to that name may be given to it. */
  readonly nameIsTaken?: () => boolean;
  /** True where two hosts are known to have this name. */
  readonly isAmbiguous?: (name: PeerName) => boolean;
  readonly isKnownPeer: (name: PeerName) => boolean;
  /** Other peers that can be reached. */
  readonly reachablePeers: () => readonly PeerName[];
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
  /** The range is divided in another way than it was: who was refused for that may fit now. */
  divisionChanged?(): void;
  /** What is ours of the range has changed. */
  owns?(ranges: readonly AddressRange[]): void;
  /** A holder has no addresses any more. */
  released?(id: string): void;
}

/** For whom an address is, and how long to wait for it. */
export interface AllocateOptions {
  /** It is to be released when the container has gone. */
  readonly isContainer?: boolean;
  /** See Lease. */
  readonly attachment?: string | undefined;
  /** The container's gateway, which no container is to have as its own. */
  readonly gateway?: IPv4 | undefined;
  /** Rejects at once where no peer has a free address, instead of waiting until one is released. */
  readonly failWhenExhausted?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export class Allocator {
  readonly space = new Space();
  readonly owned: OwnedAddresses;
  readonly pending = new Pending();
  readonly sharing: Sharing;
  readonly releaser: Releaser;
  readonly #gateways: Gateways;
  readonly homeless: Homeless;
  readonly #log: Log;
  readonly #warn: (kind: string, text: string) => void;
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
    this.#warn = limitedWarnings(this.#log, () => this.#clock.now());
    this.sharing = new Sharing(config, dependencies, this.space, {
      changed: () => this.pending.retry(),
      replaced: () => this.homeless.settle(),
      denied: (range, by) =>
        this.pending.denied(range, (cidr) => this.sharing.ownedElsewhere(formatCidr(cidr), by)),
    });
    this.#gateways = new Gateways(dependencies.store);
    this.homeless = new Homeless({ ...this, log: this.#log });
    this.releaser = new Releaser(this.owned, this.space, this.pending, {
      ...dependencies,
      freed: () => {
        this.sharing.reportFree();
        this.pending.retry();
      },
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
    this.homeless.settle();
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
  allocate(id: string, subnet: Cidr, options: AllocateOptions = {}): Promise<IPv4> {
    this.#refuseWhenShuttingDown();
    const { attachment, isContainer = false, gateway, signal } = options;
    if (gateway !== undefined) this.#gateways.reserve(gateway);
    const text = `${id} ${formatCidr(subnet)}`;
    const attempt = () => {
      const held = this.#held(id, cidrRange(subnet), attachment);
      if (held) {
        this.releaser.keep(held.address);
        return { value: held.address };
      }
      if (!rangesOverlap(cidrRange(this.config.universe), cidrRange(subnet))) {
        throw new IpamError(`range ${formatCidr(subnet)} out of bounds: ${formatCidr(this.config.universe)}`);
      }
      this.sharing.establish();
      const hosts = hostRange(subnet);
      const address = this.space.allocate(hosts, this.#excepted);
      if (address === undefined) {
        this.sharing.askForSpace(hosts);
        if (!options.failWhenExhausted || !this.#isExhausted(hosts)) return undefined;
        const reason = this.#exhausted(subnet);
        this.#warn("exhausted", `[allocator] ${reason}`);
        throw new ExhaustedError(reason);
      }
      const holder = id === NO_CONTAINER ? formatIPv4(address) : id;
      this.#hold(holder, { address, prefix: subnet.prefix, attachment }, isContainer);
      this.#debug(`Allocated ${formatIPv4(address)} for ${holder} in ${formatCidr(subnet)}`);
      return { value: address };
    };
    return this.pending.run("allocate", id, text, signal, attempt, { attachment });
  }

  /** Why an address of a subnet cannot be given now; undefined where it can, or another peer may have one. */
  obstacle(subnet: Cidr): string | undefined {
    const { sharing, config, space } = this;
    if (this.#shuttingDown) return "this peer is leaving the network";
    if (!rangesOverlap(cidrRange(config.universe), cidrRange(subnet))) {
      return `range ${formatCidr(subnet)} out of bounds: ${formatCidr(config.universe)}`;
    }
    sharing.establish();
    if (sharing.ring.empty) {
      const { consensus } = sharing.division;
      const voters = consensus ? ` (${consensus.state.size} known, quorum ${consensus.quorum})` : "";
      return `the peers have not divided the range ${formatCidr(config.universe)} yet${voters}`;
    }
    const hosts = hostRange(subnet);
    if (space.canAllocate(hosts, this.#excepted)) return undefined;
    const donors = sharing.ring.donors(hosts.start, hosts.end, () => 1);
    if (donors.some(config.isKnownPeer)) return undefined;
    const names = donors.map((name) => sharing.nicknames.annotate(name));
    const away = donors.length > 0 ? `; peers that have some cannot be reached: ${names.join(", ")}` : "";
    return this.#exhausted(subnet) + away;
  }

  /** Whether nobody has a free address, reachable or not. */
  #isExhausted({ start, end }: AddressRange): boolean {
    const { ring, contested } = this.sharing;
    return !ring.empty && contested.length === 0 && ring.donors(start, end, () => 1).length === 0;
  }

  #exhausted(subnet: Cidr): string {
    const [{ start, end }, universe] = [hostRange(subnet), cidrRange(this.config.universe)];
    const within = { start: Math.max(start, universe.start), end: Math.min(end, universe.end) };
    const total = rangeSize(within);
    const reserved = this.#gateways.ranges.filter((range) => rangesOverlap(range, within)).length;
    const also = reserved > 0 ? `, ${reserved} reserved for gateways` : "";
    return `no free address in ${formatCidr(subnet)} (${total - reserved} of ${total} in use${also})`;
  }

  /** Addresses of ours that are not to be allocated now. */
  get #excepted(): readonly AddressRange[] {
    return [...this.sharing.contested, ...this.#gateways.ranges];
  }

  /** What `id` has in a range for an attachment; or for nobody in particular, while no link has it. */
  #held(id: string, range: AddressRange, attachment: string | undefined): Lease | undefined {
    const held = this.owned.within(id, range);
    const exact = held.find((lease) => lease.attachment === attachment);
    if (exact || attachment === undefined) return exact;
    const unsaid = held.filter((lease) => lease.attachment === undefined);
    if (unsaid.length === 0) return undefined;
    const present = new Set(this.dependencies.attached?.()?.map(({ address }) => address));
    const idle = unsaid.find(({ address }) => !present.has(address));
    if (idle) this.owned.attribute(id, idle.address, attachment);
    return idle;
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
    const claim = new Claim(this, id, cidr, isContainer, noErrorOnUnknown);
    return this.pending.run("claim", id, formatCidr(cidr), signal, () => claim.attempt(), { cidr });
  }

  lookup(id: string, range: AddressRange, attachment?: string): Cidr[] {
    const leases = this.owned.within(id, range);
    return attachment === undefined ? leases : leases.filter((lease) => lease.attachment === attachment);
  }

  /** See Releaser. */
  free(id: string, address: IPv4): void {
    this.releaser.free(id, address);
  }

  /** See Releaser. */
  delete(id: string, options?: ReleaseOptions): void {
    this.releaser.release(id, options);
  }

  /**
   * Hands all our space to another peer and allocates nothing any more; resolves once that peer has acknowledged.
   * Rejects with IpamError where none does; while no peer has got our space, allocation goes on.
   */
  async shutdown(): Promise<void> {
    this.#shuttingDown = true;
    this.pending.cancelAll();
    try {
      await this.sharing.leave();
    } catch (error) {
      this.#shuttingDown = this.sharing.leaving;
      throw error;
    }
  }

  /** Notes that `id` has an address, which is in use already; throws StoreError, with the address free again. */
  #hold(id: string, lease: Lease, isContainer: boolean): void {
    try {
      this.owned.add(id, lease, isContainer);
    } catch (error) {
      this.space.unuse(lease.address);
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

  #refuseWhenShuttingDown(): void {
    if (this.#shuttingDown)
      throw new IpamError("this peer is leaving the network and allocates no addresses");
  }

  #load(): boolean {
    const { store } = this.dependencies;
    this.#gateways.load();
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
    this.releaser.noticeGone(attached);
  }

  #tick(): void {
    this.sharing.tick();
    if (!this.sharing.division.awaited && this.pending.size > 0) this.pending.retry();
    this.releaser.releaseDue();
  }

  #info(text: string): void {
    this.#log.info(`[allocator ${this.config.ourName}] ${text}`);
  }

  #debug(text: string): void {
    this.#log.debug(`[allocator ${this.config.ourName}] ${text}`);
  }
}
