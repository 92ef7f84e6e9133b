// Why a request for addresses was turned down.

/** A request that cannot be fulfilled; the message is for the one who asked. */
export class IpamError extends Error {
  override readonly name: string = "IpamError";
}

/** A request that was called off while it waited: by its sender, by a delete, or because we leave the network. */
export class CancelledError extends IpamError {
  override readonly name = "CancelledError";
}

/** A request about a peer that nobody knows. */
export class UnknownPeerError extends IpamError {
  override readonly name = "UnknownPeerError";
}

/** No peer has a free address; the allocator has logged it. */
export class ExhaustedError extends IpamError {
  override readonly name = "ExhaustedError";
}
