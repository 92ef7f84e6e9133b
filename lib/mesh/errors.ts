// Why a connection is not made, or ends. The cause of an error decides whether to dial again, and on the remedy.
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
    /** For the status; the message is for logs. */
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
 * A handshake that failed for a cause that waiting does not mend. Reason and remedy are our own words; only numbers in
 * them come from the far end.
 */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
  readonly trouble: PeerTrouble & { readonly cause: Refusal };
  constructor(
    cause: Refusal,
    reason: string,
    remedy: string,
    /** The words of the original, in front of the message. */
    original?: string,
  ) {
    super(`${original === undefined ? "" : `${original}: `}${reason}; ${remedy}`);
    this.trouble = { cause, reason, remedy };
  }
}

/** Another host has our name, as cloned machines do; neither reaches the containers of the other. */
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

/** The limit of connections is reached, and this peer can be reached through others. */
export class ConnectionLimitError extends ConnectionError {
  override readonly name = "ConnectionLimitError";
  constructor(limit: number) {
    super(`Connection limit reached (${limit})`, "limit", `connection limit reached (${limit})`);
  }
}

/** Another host has the name of a neighbour; or the neighbour was restarted, and its old connection has not ended yet. */
export class DuplicateNameError extends ConnectionError {
  override readonly name = "DuplicateNameError";
  constructor(remote: Peer, address: string) {
    const reason =
      `it is connected from ${address}, in another life of its own or as another` +
      " host of the same name; retried until that connection ends";
    super(`Multiple connections to ${remote}: ${reason}`, "duplicate name", reason);
  }
}

/** A peer that may not connect, inbound or outbound, until the cause has changed. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly trouble: PeerTrouble & { readonly cause: Refusal };
  constructor(reason: string, remedy: string, cause: Refusal) {
    super(`${reason}; ${remedy}`);
    this.trouble = { cause, reason, remedy };
  }
}

/** Return the trouble of a connection error; `address` is "host:port". */
export function peerTrouble(error: Error, address: string): PeerTrouble {
  if (error instanceof HandshakeError || error instanceof RefusedError || error instanceof CollisionError)
    return error.trouble;
  if (error instanceof ConnectionError) return connectionTrouble(error.why, error.reason, address);
  const breaksProtocol = error instanceof ProtocolError || error instanceof GobError;
  return connectionTrouble(breaksProtocol ? "protocol" : "other", error.message, address);
}
