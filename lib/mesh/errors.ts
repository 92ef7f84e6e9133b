// Reasons for which a connection is refused that decide whether it is tried again.
import type { Peer } from "./peer.ts";

/** Why a handshake is refused, in a word. */
export type Refusal =
  | "password"
  | "password missing here"
  | "password missing there"
  | "version"
  | "no router"
  | "name"
  | "range"
  | "division"
  | "overlay";

/** We have reached ourself. */
export class SelfConnectionError extends Error {
  override readonly name = "SelfConnectionError";
  constructor() {
    super("cannot connect to ourself");
  }
}

/**
 * A handshake that fails for a cause that waiting does not mend. `reason` and `remedy` are our own words; nothing in them
 * but numbers is of the far end.
 */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
  constructor(
    readonly refusal: Refusal,
    readonly reason: string,
    readonly remedy: string,
    /** What logs had for it always, in front. */
    original?: string,
  ) {
    super(`${original === undefined ? "" : `${original}: `}${reason}; ${remedy}`);
  }
}

/** Another host has our name: cloned machines do. Both stay in the dark about the other's containers until mended. */
export class CollisionError extends Error {
  override readonly name = "CollisionError";
  constructor(local: Peer, remote: Peer, address: string) {
    super(
      `local "${local}" and remote "${remote}" peer names collision: this host and the one at ${address} have the` +
        " same peer name; run 'weave reset' on one of them and launch it with --name and another name",
    );
  }
}

/** An address could not be dialled. */
export class DialError extends Error {
  override readonly name = "DialError";
  constructor(
    address: string,
    readonly reason: string,
    /** Where to look; empty where the reason says all. */
    readonly remedy: string,
  ) {
    super(`dial tcp ${address}: ${reason}`);
  }
}

/** There are as many connections as there may be, and this peer can be reached without one more. */
export class ConnectionLimitError extends Error {
  override readonly name = "ConnectionLimitError";
  constructor(limit: number) {
    super(`Connection limit reached (${limit})`);
  }
}

/** Another host has a neighbour's name; or it is that neighbour, restarted, and the connection of its last life still is. */
export class DuplicateNameError extends Error {
  override readonly name = "DuplicateNameError";
  constructor(remote: Peer, address: string) {
    super(
      `Multiple connections to ${remote}: it is connected from ${address}, in another life of its own or as another` +
        " host of the same name; retried until that connection ends",
    );
  }
}

/** A peer that must not be connected to us, whatever way it comes, until what is named here has changed. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  constructor(
    readonly reason: string,
    readonly remedy: string,
    readonly refusal: Refusal,
  ) {
    super(`${reason}; ${remedy}`);
  }
}
