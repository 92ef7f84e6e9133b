// The life of a connection in its router: who may connect, which of two connections to a peer stays, and what follows from each
// that is added, established or ended.
import type { Slices } from "../clock/slices.ts";
import type { AcceptBudget } from "./acceptbudget.ts";
import type { Admission } from "./admission.ts";
import type { ConnectionHost, LocalConnection } from "./connection.ts";
import type { ConnectionLimit } from "./limit.ts";
import type { PeerName } from "./name.ts";
import type { Peer } from "./peer.ts";
import type { Peers } from "./peers.ts";
import type { Routes, UnicastRoutes } from "./routes.ts";

/** What all connections of a router use, as it is. */
type SharedParts = Omit<
  ConnectionHost,
  "handshakes" | "features" | "identify" | "release" | "introduced" | "add" | "established" | "ended"
>;

export interface ConnectionParts extends SharedParts {
  /** Our connections, by the name of the peer at the other end. */
  readonly connections: Map<PeerName, LocalConnection>;
  readonly peers: Peers;
  readonly routes: Routes;
  readonly admission: Admission;
  readonly accepts: AcceptBudget;
  readonly limit: ConnectionLimit;
  /** Handshakes with hosts that we dial. */
  readonly dialled: Slices;
  /** Throws where no peer may connect at all. */
  checkOpen(): void;
}

/** What follows, in the topology and for dialling. */
export interface ConnectionEvents {
  /** A connection was added, maybe to a peer that is new to the network; `before`: our routes until then. */
  added(connection: LocalConnection, isNew: boolean, before: UnicastRoutes): void;
  established(connection: LocalConnection): void;
  /** An added connection is ours no more. */
  removed(connection: LocalConnection, remote: Peer, error: Error): void;
  /** A connection has ended, other than one that a stranger began. */
  ended(connection: LocalConnection, error: Error): void;
}

/** Return the host of a router's connections. */
export function connectionHost(parts: ConnectionParts, events: ConnectionEvents): ConnectionHost {
  const { connections, peers, routes, admission, accepts, limit, dialled, checkOpen, ...shared } = parts;
  return {
    ...shared,

    handshakes: (ip, outbound) =>
      outbound ? { slices: dialled, buffers: shared.buffers } : accepts.shared(ip),

    features: (ip) => ({ ...shared.overlay.features(), ...admission.features(ip) }),

    identify(remote, connection, features) {
      checkOpen();
      admission.check(remote, connection, features, connections.get(remote.name));
      if (!peers.get(remote.name) && !connection.acceptNewPeer) {
        throw new Error(`Found unknown remote name: ${remote.name} at ${connection.address}`);
      }
      return peers.referTo(remote);
    },

    release: (remote) => peers.release(remote),

    introduced(connection) {
      accepts.succeeded(connection);
      admission.introduced(connection);
    },

    add(connection, restarted) {
      const { remote } = connection;
      const duplicate = connections.get(remote.name);
      if (duplicate) admission.settleDuplicate(connection, duplicate);
      const reachable = routes.reaches(remote.name);
      limit.admit(reachable, connection.remoteIp);
      const before = routes.unicastAll;
      connections.set(remote.name, connection);
      const isNew = restarted || !reachable;
      connection.log(`connection added${restarted ? ": restarted peer" : isNew ? ": new peer" : ""}`, {
        code: "connection-added",
      });
      events.added(connection, isNew, before);
      admission.added(connection);
    },

    established(connection) {
      if (connections.get(connection.remote.name) !== connection) {
        return connection.shutdown(new Error("Cannot set unknown connection active"));
      }
      connection.log("connection fully established");
      admission.refusals.connected(connection.remote);
      events.established(connection);
    },

    ended(connection, error) {
      const remote = connection.knownRemote;
      admission.ended(connection, error);
      if (!remote && !connection.outbound) return accepts.failed(connection, error);
      if (remote && connections.get(remote.name) === connection) {
        connections.delete(remote.name);
        connection.log("connection deleted", { code: "connection-deleted" });
        events.removed(connection, remote, error);
      }
      events.ended(connection, error);
    },
  };
}
