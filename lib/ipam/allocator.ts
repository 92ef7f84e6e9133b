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
import type { Sighting } from "../host/containers.ts";
import type { Fields } from "../log/fields.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { GossipChannel, Gossiper } from "../mesh/gossip.ts";
import type { PeerName } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import { Claim, type ClaimOptions, NO_CONTAINER } from "./claim.ts";
import { CancelledError, ExhaustedError, IpamError } from "./errors.ts";
import { Gateways } from "./gateways.ts";
import { Homeless } from "./homeless.ts";
import { type AddressObstacle, addressObstacle } from "./obstacle.ts";
import { OwnedAddresses } from "./owned.ts";
import { DONE, Pending } from "./pending.ts";
import { type ReleaseOptions, Releaser } from "./releaser.ts";
import type { AllocatorStore, Lease } from "./saved.ts";
import { Sharing } from "./sharing.ts";
import { Space } from "./space.ts";
import { undivided, waitsFor } from "./waits.ts";

const TICK_MS = 5_000;

/** A wait for an address that is longer is logged. */
const TELL_AFTER_MS = 1_000;

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
  /** Looks which addresses links of containers have; asked before anything is taken from a container. */
  attached?(): Promise<Sighting>;
  /** The range is divided in another way than it was: who was refused for that may fit now. */
  divisionChanged?(): void;
  /** What is ours of the range has changed. */
  owns?(ranges: readonly AddressRange[]): void;
  /** A holder has no addresses any more. */
  released?(id: string): void;
  /** Containers have lost their links, and nobody has said why. */
  gone?(ids: ReadonlySet<string>): void;
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
  readonly #warn: LimitedWarning;
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
      changed: () => {
        this.sharing.reportFree();
        this.pending.retry();
      },
    });
  }

  /**
   * Takes up what was saved, or begins anew, and speaks on the channel that `open` makes from now on. Addresses that
   * links of containers have (`sighting`) are claimed before anybody can ask for one.
   */
  start(open: (gossiper: Gossiper) => GossipChannel, sighting?: Sighting): void {
    const { seed, observer } = this.config;
    const persisted = this.#load();
    if (persisted) {
      this.#info(
        `starting with the saved ring${seed.length > 0 ? "; ignoring the seed of --ipalloc-init" : ""}`,
      );
    } else if (seed.length > 0) {
      this.#info("starting with the seed of --ipalloc-init");
    } else {
      this.#info(
        observer
          ? "starting as observer: waiting for the ring of another peer"
          : "starting without a ring: peers agree on one at the first request",
      );
    }
    this.sharing.start(open(this.sharing));
    this.homeless.settle();
    if (sighting) this.#takeStock(sighting);
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
      const held = this.owned.within(id, cidrRange(subnet)).find((lease) => lease.attachment === attachment);
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
        this.#warn("exhausted", reason);
        throw new ExhaustedError(reason);
      }
      const holder = id === NO_CONTAINER ? formatIPv4(address) : id;
      this.#hold(holder, { address, prefix: subnet.prefix, attachment }, isContainer);
      this.#debug("allocated an address", {
        address: formatIPv4(address),
        container: holder,
        subnet: formatCidr(subnet),
      });
      return { value: address };
    };
    const run = () => {
      const request = this.pending.run("allocate", id, text, signal, attempt, { attachment, subnet });
      return this.#watched(id, request);
    };
    const held = this.owned.within(id, cidrRange(subnet));
    const unsaid = held.some((lease) => lease.attachment === undefined);
    if (attachment === undefined || !unsaid || held.some((lease) => lease.attachment === attachment))
      return run();
    return this.#adopt(id, cidrRange(subnet), attachment).then(run);
  }

  /** Why an address of a subnet cannot be given now; undefined where it can, or another peer may have one. */
  obstacle(subnet: Cidr): AddressObstacle | undefined {
    const { sharing, config, space } = this;
    if (this.#shuttingDown) return addressObstacle("leaving", "this peer is leaving the network");
    if (!rangesOverlap(cidrRange(config.universe), cidrRange(subnet))) {
      const reason = `range ${formatCidr(subnet)} out of bounds: ${formatCidr(config.universe)}`;
      return addressObstacle("out of range", reason);
    }
    sharing.establish();
    if (sharing.ring.empty) return addressObstacle("undivided", undivided(this));
    const hosts = hostRange(subnet);
    if (space.canAllocate(hosts, this.#excepted)) return undefined;
    const donors = sharing.ring.donors(hosts.start, hosts.end, () => 1);
    if (donors.some(config.isKnownPeer)) return undefined;
    const names = donors.map((name) => sharing.nicknames.annotate(name));
    if (donors.length === 0) return addressObstacle("exhausted", this.#exhausted(subnet));
    const away = `peers that have some cannot be reached: ${names.join(", ")}`;
    return addressObstacle("unreachable", `${this.#exhausted(subnet)}; ${away}`);
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

  /**
   * Gives an attachment an address that its container has for nobody in particular, while no link has it: it was
   * claimed for the container before that was attached, or is left from a version that did not tell attachments apart.
   */
  async #adopt(id: string, range: AddressRange, attachment: string): Promise<void> {
    const present = await this.releaser.look();
    const [idle] = this.owned
      .within(id, range)
      .filter((lease) => lease.attachment === undefined && !present.has(lease.address));
    if (idle) this.owned.attribute(id, idle.address, attachment);
  }

  /** Takes a certain address into use for `id`; waits where another peer has to give it up first. */
  claim(id: string, cidr: Cidr, options: ClaimOptions = {}): Promise<void> {
    this.#refuseWhenShuttingDown();
    const { attachment, signal } = options;
    const claim = new Claim(this, id, cidr, options);
    const attempt = () => claim.attempt();
    const request = this.pending.run("claim", id, formatCidr(cidr), signal, attempt, { cidr, attachment });
    return this.#watched(id, request);
  }

  /** What requests wait for: those of one holder, or all. */
  waits(id?: string): string[] {
    return [...new Set(this.pending.waiting(id).map((request) => waitsFor(this, request)))];
  }

  /** Logs what a request waits for that takes longer than a second. */
  #watched<T>(id: string, request: Promise<T>): Promise<T> {
    if (this.pending.waiting(id).length === 0) return request;
    const timer = this.#clock.after(TELL_AFTER_MS, () => {
      const [reason] = this.waits(id);
      if (reason !== undefined)
        this.#warn("waiting", `a container waits for an address: ${reason}`, { container: id });
    });
    return request.finally(() => timer.cancel());
  }

  lookup(id: string, range: AddressRange, attachment?: string): Cidr[] {
    const leases = this.owned.within(id, range);
    return attachment === undefined ? leases : leases.filter((lease) => lease.attachment === attachment);
  }

  /** See Releaser. */
  free(id: string, address: IPv4): Promise<void> {
    return this.releaser.free(id, address);
  }

  /** See Releaser. */
  delete(id: string, options?: ReleaseOptions): Promise<void> {
    return this.releaser.release(id, options);
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
  take(id: string, lease: Lease, isContainer: boolean): boolean {
    if (!this.space.claim(lease.address)) return false;
    this.#hold(id, lease, isContainer);
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
      this.#info("deleting the saved ring: it belongs to another network or peer", { saved: other });
      this.owned.forgetAll();
      return false;
    }
    this.sharing.restore(saved);
    this.owned.load();
    for (const [, { cidrs }] of this.owned.entries())
      for (const { address } of cidrs) this.space.claim(address);
    return true;
  }

  /** Claims what is in use and nobody holds, for its owner where that is known; notices who has gone. */
  #takeStock(sighting: Sighting): void {
    for (const { owner, ...cidr } of sighting.addresses) {
      if (this.owned.holderOf(cidr.address) !== undefined) continue;
      const id = owner?.containerId ?? NO_CONTAINER;
      this.#info("found an address in use", { address: formatCidr(cidr), container: owner && id });
      const attachment = owner?.network === undefined ? undefined : `${owner.network}/${owner.ifName}`;
      const options = { isContainer: true, noErrorOnUnknown: true, attachment };
      this.claim(id, cidr, options).catch((error) => {
        if (!(error instanceof CancelledError)) this.#log.error(reasonOf(error));
      });
    }
    this.releaser.notice(sighting);
  }

  #tick(): void {
    this.sharing.tick();
    if (!this.sharing.division.awaited && this.pending.size > 0) this.pending.retry();
    this.releaser.releaseDue();
  }

  #info(text: string, fields?: Fields): void {
    this.#log.info(text, fields);
  }

  #debug(text: string, fields?: Fields): void {
    this.#log.debug(text, fields);
  }
}
