// The IPAM driver: pools are subnets of the network's range, which all hosts share; addresses are those of the allocator.
// An address belongs to the endpoint's Ethernet address until there is an endpoint, so that a request that dockerd repeats
// gets the same again. Gateways and auxiliary addresses belong to no host: they are only set aside.

import type * as v from "valibot";
import { type Cidr, cidrContains, cidrRange, formatCidr, formatIPv4, type IPv4 } from "../../address/ipv4.ts";
import { type DockerBooks, requireRoom } from "./books.ts";
import {
  isForGateway,
  macOf,
  type OfPool,
  type ReleaseAddress,
  type RequestAddress,
  type RequestPool,
} from "./messages.ts";
import { parsePoolId, poolId } from "./pool.ts";

/** Requests in a row for a pool of our choice: dockerd before 27 repeats them for ever where it takes none of ours. */
const MAX_REPEATED = 8;

/** The allocator, as the driver uses it. Rejections say what is wrong. */
export interface DockerIpam {
  /** Undefined where no addresses are allocated. */
  readonly range: Cidr | undefined;
  readonly defaultSubnet: Cidr;
  /** Allocate an address of `range`, which is within `subnet`; the one that the holder has, if any. */
  allocate(holder: string, subnet: Cidr, range: Cidr, signal: AbortSignal): Promise<IPv4>;
  claim(holder: string, cidr: Cidr, signal: AbortSignal): Promise<void>;
  /** Release an address of any holder; one that is free is no error. */
  release(address: IPv4): Promise<void>;
  /** Allocate an address to no container of this host, or do so again. Throw StoreError. */
  reserve(address: IPv4): void;
  unreserve(address: IPv4): void;
}

/** Prefix of such holders. */
export const HOLDER_OF_MAC = "docker:";

/** Return the holder of an address that an endpoint with this Ethernet address is to have. */
export const holderOfMac = (mac: string): string => `${HOLDER_OF_MAC}${mac}`;

export class IpamDriver {
  /** Requests in a row for a pool of our choice. */
  #repeated = 0;

  constructor(
    private readonly ipam: DockerIpam,
    private readonly books: Pick<DockerBooks, "reserved">,
  ) {}

  /** The same space for both: dockerd then does not compare our pools with the host's routes. */
  spaces(): object {
    return { LocalDefaultAddressSpace: "weave", GlobalDefaultAddressSpace: "weave" };
  }

  capabilities(): object {
    return { RequiresMACAddress: true, RequiresRequestReplay: false };
  }

  requestPool({ Pool, SubPool, V6 }: v.InferOutput<typeof RequestPool>): object {
    const { range: universe, defaultSubnet } = this.ipam;
    if (V6) throw new Error("IPv6 is not supported; create the network without --ipv6");
    if (universe === undefined)
      throw new Error(
        'no addresses are allocated (launched with --ipalloc-range ""); use another --ipam-driver',
      );
    if (Pool === undefined && SubPool !== undefined) throw new Error("--ip-range goes with --subnet");
    const subnet = Pool ?? defaultSubnet;
    const range = SubPool ?? subnet;
    const within = (inner: Cidr, outer: Cidr) =>
      inner.prefix >= outer.prefix && cidrContains(outer, inner.address);
    if (!within(subnet, universe))
      throw new Error(
        `subnet ${formatCidr(subnet)} is not within the range of the network, ${formatCidr(universe)}; choose one that is`,
      );
    if (!within(range, subnet))
      throw new Error(`--ip-range ${formatCidr(range)} is not within --subnet ${formatCidr(subnet)}`);
    this.#refuseRepetition(Pool);
    return { PoolID: poolId({ subnet, range }), Pool: formatCidr(subnet), Data: {} };
  }

  #refuseRepetition(chosen: Cidr | undefined): void {
    this.#repeated = chosen === undefined ? this.#repeated + 1 : 0;
    if (this.#repeated <= MAX_REPEATED) return;
    this.#repeated = 0;
    const subnet = formatCidr(this.ipam.defaultSubnet);
    throw new Error(
      `Docker refuses ${subnet}, which overlaps with a route or a nameserver of this host; name it: --subnet ${subnet}`,
    );
  }

  releasePool({ PoolID }: v.InferOutput<typeof OfPool>): object {
    parsePoolId(PoolID);
    return {};
  }

  async requestAddress(
    { PoolID, Address, Options }: v.InferOutput<typeof RequestAddress>,
    signal: AbortSignal,
  ): Promise<object> {
    this.#repeated = 0;
    const { subnet, range } = parsePoolId(PoolID);
    const answer = (address: IPv4) => ({
      Address: formatCidr({ address, prefix: subnet.prefix }),
      Data: {},
    });
    if (Address !== undefined && !cidrContains(subnet, Address))
      throw new Error(`${formatIPv4(Address)} is not in the subnet ${formatCidr(subnet)}`);
    const mac = macOf(Options);
    // The way out of a container is docker_gwbridge: without --gateway there is none, and the subnet stands for it.
    if (isForGateway(Options) && Address === undefined) return answer(cidrRange(subnet).start);
    if (mac === undefined || isForGateway(Options)) {
      if (Address === undefined) throw new Error("an address for no endpoint has to be named");
      this.#reserve(Address);
      return answer(Address);
    }
    const holder = holderOfMac(mac);
    if (Address === undefined) return answer(await this.ipam.allocate(holder, subnet, range, signal));
    await this.ipam.claim(holder, { address: Address, prefix: subnet.prefix }, signal);
    return answer(Address);
  }

  async releaseAddress({ PoolID, Address }: v.InferOutput<typeof ReleaseAddress>): Promise<object> {
    const { subnet } = parsePoolId(PoolID);
    if (Address === cidrRange(subnet).start) return {};
    const key = formatIPv4(Address);
    const count = this.books.reserved.get(key);
    if (count === undefined) await this.ipam.release(Address);
    else if (count > 1) this.books.reserved.set(key, count - 1);
    else {
      this.books.reserved.delete(key);
      this.ipam.unreserve(Address);
    }
    return {};
  }

  #reserve(address: IPv4): void {
    const key = formatIPv4(address);
    const count = this.books.reserved.get(key) ?? 0;
    if (count === 0) requireRoom(this.books, "reserved");
    this.ipam.reserve(address);
    this.books.reserved.set(key, count + 1);
  }
}
