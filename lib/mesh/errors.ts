// Why a connection is not made, or ends: each error has its cause, by which it is decided whether to try again and what to
// do about it.
import { GobError } from "../gob/cursor.ts";
import { ProtocolError } from "./framing.ts";
import type { Peer } from "./peer.ts";
import { type ConnectionCause, connectionTrouble, type PeerTrouble, type Refusal } from "./trouble.ts";

/** A connection that is not made, or ends. The remedy follows from the cause and the address. */
export class ConnectionError extends Error {
  override readonly name: string = "ConnectionError";
  constructor(
    message: string,
    readonly why: ConnectionCause,
    /** What status shows; the message is for logs. */
    readonly reason: string = message,
  ) {
    super(message);
  }
}

/** The far end has closed the connection. */
export class ClosedError extends ConnectionError {
  override readonly name = "ClosedError";
  constructor() {
    super("EOF", "closed", "the peer closed the connection: its router was stopped or killed");
  }
}

/** We have reached ourself. */
export class SelfConnectionError extends ConnectionError {
  override readonly name = "SelfConnectionError";
  constructor() {
    super("cannot connect to ourself", "self");
  }
}

/**
 * A handshake that fails for a cause that waiting does not mend. Reason and remedy are our own words; nothing in them but
 * numbers is of the far end.
 */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
  readonly trouble: PeerTrouble & { readonly cause: Refusal };
  constructor(
    cause: Refusal,
    reason: string,
    remedy: string,
    /** What logs had for it always, in front. */
    original?: string,
  ) {
    super(`${original === undefined ? "" : `${original}: `}${reason}; ${remedy}`);
    this.trouble = { cause, reason, remedy };
  }
}

/** Another host has our name: cloned machines do. Both stay in the dark about the other's containers until mended. */
export class CollisionError extends Error {
  override readonly name = "CollisionError";
  readonly trouble: PeerTrouble;
  constructor(local: Peer, remote: Peer, address: string) {
    const reason = `this host and the one at ${address} have the same peer name`;
    const remedy = "run 'weave reset' on one of them and launch it with --name and another name";
    super(`local "${local}" and remote "${remote}" peer names collision: ${reason}; ${remedy}`);
    this.trouble = { cause: "name", reason, remedy };
  }
}

/** An address could not be dialled. */
export class DialError extends ConnectionError {
  override readonly name = "DialError";
  /** `call` is the system call that failed. */
  constructor(address: string, why: ConnectionCause, reason: string, call?: string) {
    super(`dial tcp ${address}: ${call === undefined ? "" : `${call}: `}${reason}`, why, reason);
  }
}

/** There are as many connections as there may be, and this peer can be reached without one more. */
export class ConnectionLimitError extends ConnectionError {
  override readonly name = "ConnectionLimitError";
  constructor(limit: number) {
    super(`Connection limit reached (${limit})`, "limit", `connection limit reached (${limit})`);
  }
}

/** Another host has a neighbour's name; or it is that neighbour, restarted, and the connection of its last life still is. */
export class DuplicateNameError extends ConnectionError {
  override readonly name = "DuplicateNameError";
  constructor(remote: Peer, address: string) {
    const reason =
      `it is connected from ${address}, in another life of its own or as another` +
      " host of the same name; retried until that connection ends";
    super(`Multiple connections to ${remote}: ${reason}`, "duplicate name", reason);
  }
}

/** A peer that must not be connected to us, whatever way it comes, until what is named here has changed. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly trouble: PeerTrouble & { readonly cause: Refusal };
  constructor(reason: string, remedy: string, cause: Refusal) {
    super(`${reason}; ${remedy}`);
    this.trouble = { cause, reason, remedy };
  }
}

/** Return the trouble that an error of a connection to an address ("host:port") stands for. */
export function peerTrouble(error: Error, address: string): PeerTrouble {
  if (error instanceof HandshakeError || error instanceof RefusedError || error instanceof CollisionError)
    return error.trouble;
  if (error instanceof ConnectionError) return connectionTrouble(error.why, error.reason, address);
  const breaksProtocol = error instanceof ProtocolError || error instanceof GobError;
  return connectionTrouble(breaksProtocol ? "protocol" : "other", error.message, address);
}
