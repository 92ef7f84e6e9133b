// Connections of peers that a test makes up, which it can change.
import type { PeerName } from "../../lib/mesh/name.ts";
import type { Peer, PeerConnection } from "../../lib/mesh/peer.ts";

/** Return the connections of a peer that no gossip has told of. */
export function linksOf({ connections }: Pick<Peer, "connections">): Map<PeerName, PeerConnection> {
  if (connections instanceof Map) return connections;
  throw new TypeError("connections that gossip has told of do not change");
}
