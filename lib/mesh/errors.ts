// Reasons for which a connection is refused that decide whether it is tried again.
import type { Peer } from "./peer.ts";

/** We have reached ourself. */
export class SelfConnectionError extends Error {
  override readonly name = "SelfConnectionError";
  constructor() {
    super("cannot connect to ourself");
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
  ) {
    super(`${reason}; ${remedy}`);
  }
}
