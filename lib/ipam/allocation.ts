// Allocation of any address of a subnet (weave: ipam/allocate.go).
import { type Cidr, cidrRange, formatCidr, formatIPv4, hostRange, type IPv4 } from "../address/ipv4.ts";
import type { Log } from "../log/log.ts";
import { ExhaustedError, IpamError } from "./errors.ts";
import { holderId } from "./holders.ts";
import { exhaustedReason, isExhausted, notAllocatable, outOfRange } from "./obstacle.ts";
import type { AllocatorParts } from "./parts.ts";
import type { Attempt } from "./pending.ts";
import type { Lease } from "./saved.ts";

export interface AllocateOptions {
  /** Release the address when the container is gone. */
  readonly isContainer?: boolean;
  /** See Lease. */
  readonly attachment?: string | undefined;
  /** Prefix length of the address; that of the subnet unless given. */
  readonly prefix?: number | undefined;
  /** The gateway of the container, to be allocated to no container. */
  readonly gateway?: IPv4 | undefined;
  /** Reject at once where no peer has a free address, instead of waiting until one is released. */
  readonly failWhenExhausted?: boolean;
  readonly signal?: AbortSignal | undefined;
}

type Parts = Omit<AllocatorParts, "pending">;

/** Return an attempt to allocate an address for `id`: the one it has, else a free one, else one of another peer. */
export function allocation(
  parts: Parts,
  log: Pick<Log, "debug">,
  id: string,
  subnet: Cidr,
  { attachment, isContainer = false, failWhenExhausted = false, prefix = subnet.prefix }: AllocateOptions,
): Attempt<IPv4> {
  const { holders, releaser, replicator, space } = parts;
  return () => {
    const held = holders.within(id, cidrRange(subnet)).find((lease) => lease.attachment === attachment);
    if (held) {
      releaser.keep(held.address);
      return { value: held.address };
    }
    const outside = outOfRange(parts, subnet);
    if (outside !== undefined) throw new IpamError(outside);
    replicator.establish();
    const hosts = hostRange(subnet);
    const address = space.allocate(hosts, notAllocatable(parts));
    if (address === undefined) {
      replicator.askForSpace(hosts);
      if (!failWhenExhausted || !isExhausted(parts, hosts)) return undefined;
      throw new ExhaustedError(exhaustedReason(parts, subnet));
    }
    const container = holderId(id, address);
    hold(parts, container, { address, prefix, attachment }, isContainer);
    log.debug("allocated an address", {
      address: formatIPv4(address),
      container,
      subnet: formatCidr(subnet),
    });
    return { value: address };
  };
}

/** Record that `id` holds an address, which is in use already. Throws StoreError, with the address free again. */
export function hold(
  { holders, space, replicator, releaser }: Pick<Parts, "holders" | "space" | "replicator" | "releaser">,
  id: string,
  lease: Lease,
  isContainer: boolean,
): void {
  try {
    holders.add(id, lease, isContainer);
  } catch (error) {
    space.unuse(lease.address);
    throw error;
  }
  releaser.keep(lease.address);
  replicator.reportFree();
}
