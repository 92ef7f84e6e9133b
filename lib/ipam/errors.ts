// Why a request for addresses was refused.
import type { PeerName } from "../mesh/name.ts";

/** A request that cannot be fulfilled; the message is for its sender. */
export class IpamError extends Error {
  override readonly name: string = "IpamError";
}

/** A request that was cancelled while it waited: by its sender, by a delete, or because we leave the network. */
export class CancelledError extends IpamError {
  override readonly name = "CancelledError";
}

/** A request about an unknown peer. */
export class UnknownPeerError extends IpamError {
  override readonly name = "UnknownPeerError";
}

/** No peer has a free address; the allocator has logged it. */
export class ExhaustedError extends IpamError {
  override readonly name = "ExhaustedError";
}

/** Return the error for an address that another peer does not give up. */
export function ownedElsewhere(
  address: string,
  owner: PeerName,
  nickname: string | undefined,
  reason = "",
): IpamError {
  const who = nickname === undefined ? owner : `${owner} (${nickname})`;
  return new IpamError(`address ${address} is owned by other peer ${who}${reason}`);
}

/** There is nothing to release. */
export class NoAddressesError extends IpamError {
  override readonly name = "NoAddressesError";
}
