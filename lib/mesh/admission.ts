// Which peers may connect to us: those of our network, each under its own name.

import type { Clock } from "../clock/clock.ts";
import type { LimitedWarning } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { Limit } from "../sys/limit.ts";
import { Collisions, sameName } from "./collisions.ts";
import type { LocalConnection } from "./connection.ts";
import {
  CollisionError,
  DuplicateNameError,
  HandshakeError,
  RefusedError,
  SelfConnectionError,
} from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Features } from "./handshake.ts";
import type { Peer } from "./peer.ts";
import { Refusals } from "./refusals.ts";
import { RefusedHandshakes } from "./refusedhandshakes.ts";

/** Time for a peer's host to acknowledge something after another connection of that peer says that it may be gone. */
const DUPLICATE_CHECK_MS = 1_000;

export class Admission {
  readonly refusals: Refusals;
  readonly collisions: Collisions;
  readonly refusedHandshakes: RefusedHandshakes;
  #gate: Gate | undefined;

  constructor(
    private readonly ourself: Peer,
    clock: Clock,
    log: Log,
    private readonly warn: LimitedWarning,
  ) {
    this.refusals = new Refusals(clock, log);
    this.collisions = new Collisions(clock);
    this.refusedHandshakes = new RefusedHandshakes(clock);
  }

  limits(): Limit[] {
    return [this.refusals, this.collisions, this.refusedHandshakes].flatMap((each) => each.limits());
  }

  /** Ask `gate`, too, who may connect. */
  guard(gate: Gate): void {
    this.#gate = gate;
  }

  /** Features for a host at `ip`. */
  features(ip: string): Record<string, string> {
    return { ...this.#gate?.features(), ...this.collisions.features(ip) };
  }

  /** Check a peer by its features; `connected` is the connection that we have with one of its name. Throws the refusal. */
  check(
    remote: Peer,
    connection: LocalConnection,
    features: Features,
    connected: LocalConnection | undefined,
  ): void {
    const { ourself, collisions, refusals } = this;
    if (remote.name === ourself.name) throw this.#ourName(remote, connection);
    const verdict = this.#gate?.judge(features);
    const error =
      collisions.reported(ourself.name, features) ??
      collisions.judge(remote.name, connection.remoteIp, connected?.keeper) ??
      (verdict === undefined ? refusals.binding(remote) : verdict === "fits" ? undefined : verdict);
    if (error) {
      refusals.add(remote, connection, error, false);
      throw error;
    }
    if (verdict) refusals.lift(remote.name);
    connection.fits = verdict !== undefined;
  }

  /** Let one of two connections to a peer stay; throws why the new one does not. */
  settleDuplicate(connection: LocalConnection, duplicate: LocalConnection): void {
    const { remote, remoteIp } = connection;
    if (duplicate.remoteUid !== connection.remoteUid) {
      // Two hosts of one name, or one that was restarted: its kernel then resets connections that it does not know.
      duplicate.check(DUPLICATE_CHECK_MS, `${remote} was restarted at ${remoteIp}`);
      this.collisions.note(remote.name, duplicate.keeper, remoteIp);
      throw new DuplicateNameError(remote, duplicate.address);
    }
    const error = new Error(`Multiple connections to ${remote} added to ${this.ourself}`);
    const tie = connection.breakTie(duplicate);
    if (tie !== "lost") duplicate.shutdown(error);
    // A peer that got another address does not know the old connection any more, and dials again.
    else duplicate.check(DUPLICATE_CHECK_MS, `the peer connected again, from ${remoteIp}`);
    if (tie !== "won") throw error;
  }

  /** A connection was added: a peer whose features did not tell may have to be asked. */
  added({ fits, remote, remoteIp }: LocalConnection): void {
    this.collisions.named(remoteIp, remote.name);
    if (!fits) this.#gate?.connected(remote.name);
  }

  /** The handshake of a connection has ended. */
  introduced({ remoteIp }: LocalConnection): void {
    this.refusedHandshakes.lift(remoteIp);
  }

  /** A connection has ended: remember refusals. */
  ended(connection: LocalConnection, error: Error): void {
    const remote = connection.knownRemote;
    if (remote && error instanceof RefusedError) this.refusals.add(remote, connection, error, true);
    if (error instanceof HandshakeError) this.refusedHandshakes.note(connection, error);
  }

  #ourName(remote: Peer, connection: LocalConnection): Error {
    if (remote.uid === this.ourself.uid) return new SelfConnectionError();
    const collision = new CollisionError(this.ourself, remote, connection.address);
    this.refusedHandshakes.note(connection, sameName(this.ourself.name));
    this.collisions.noteOwn(connection.remoteIp);
    this.warn(`collision ${connection.remoteIp}`, collision.message, { address: connection.address });
    return collision;
  }
}
