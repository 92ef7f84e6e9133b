// Which addresses are Docker's to release, or to give to a container: dockerd names addresses of long ago (after 'weave reset' or
// with an IPAM driver of its own) that pods may have by now. Its leases say so in their attachment.
import type { IPv4 } from "../address/ipv4.ts";
import { HOLDER_OF_MAC } from "../container/plugin/ipamdriver.ts";
import { INSIDE } from "../container/plugin/networkdriver.ts";
import type { Allocator } from "../ipam/allocator.ts";

/** Prefix of networks: CNI may have one of the same name, and collect what is left of it; its names have no colon. */
export const DOCKER = "docker:";
/** The attachment of an address whose endpoint has no container yet. */
export const ENDPOINT = `${DOCKER}/${INSIDE}`;

export type Leases = Pick<Allocator, "leases" | "transfer"> & {
  readonly lifecycle: Pick<Allocator["lifecycle"], "holderOf">;
};

/** Return who holds an address that is Docker's; undefined for one that is free, or another's. */
export function dockersHolder(leases: Leases, address: IPv4): string | undefined {
  const holder = leases.lifecycle.holderOf(address);
  if (holder === undefined || holder.startsWith(HOLDER_OF_MAC)) return holder;
  const { attachment } = leases.leases(holder).find((lease) => lease.address === address) ?? {};
  return attachment?.startsWith(DOCKER) ? holder : undefined;
}

/** Mark the address of an endpoint as Docker's, where the endpoint holds it: earlier versions did not. Throws StoreError. */
export function adoptEndpoint(leases: Leases, id: string, address: IPv4): void {
  if (leases.lifecycle.holderOf(address) !== id) return;
  if (dockersHolder(leases, address) === undefined) leases.transfer(address, id, ENDPOINT);
}
