// The list of peers that own addresses of the cluster, with their nodes, in an annotation. An entry stays until the peer's
// addresses are reclaimed. Format and keys are those of the original's kube-utils: both share the list.
import * as v from "valibot";
import type { Annotations } from "./annotations.ts";
import { CONFIGMAP } from "./annotations.ts";

const PREFIX = "kube-peers.weave.works/";
const PEERS = `${PREFIX}peers`;

export interface ListedPeer {
  readonly PeerName: string;
  readonly NodeName: string;
}

/** Go writes an empty list as null. */
const PeerList = v.object({
  Peers: v.nullish(v.array(v.object({ PeerName: v.string(), NodeName: v.string() })), []),
});

/** The annotation is no list of peers. */
class PeerListError extends Error {
  override readonly name = "PeerListError";
}

/** Read the list; empty if there is no annotation. Throws PeerListError. */
export function listedPeers(annotations: Annotations): readonly ListedPeer[] {
  const text = annotations[PEERS];
  if (text === undefined) return [];
  try {
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list)) return v.parse(PeerList, list).Peers ?? [];
  } catch {
    // Reported below.
  }
  throw new PeerListError(
    `annotation ${PEERS} of ConfigMap ${CONFIGMAP} is not a list of peers; repair it, or delete it: peers then add themselves again`,
  );
}

export function withPeers(annotations: Annotations, peers: readonly ListedPeer[]): Annotations {
  const Peers = peers.map(({ PeerName, NodeName }) => ({ PeerName, NodeName }));
  return { ...annotations, [PEERS]: JSON.stringify({ Peers }) };
}

/** The key that announces a take-over from a peer; characters that keys may not contain become '_'. */
const lockKey = (peer: string) => `${PREFIX}${peer}`.replace(/[^A-Za-z0-9\-_./]/g, "_");

/** Return the peer that takes over from `from`. */
export function takingOver(annotations: Annotations, from: string): string | undefined {
  return annotations[lockKey(from)];
}

export function withTakeOver(annotations: Annotations, from: string, by: string): Annotations {
  return { ...annotations, [lockKey(from)]: by };
}

/** Remove a peer: its entry, and take-overs from it and by it. */
export function withoutPeer(annotations: Annotations, peer: string): Annotations {
  const kept = Object.entries(annotations).filter(
    ([key, value]) => key !== lockKey(peer) && !(key.startsWith(PREFIX) && value === peer),
  );
  const rest = Object.fromEntries(kept);
  return withPeers(
    rest,
    listedPeers(rest).filter(({ PeerName }) => PeerName !== peer),
  );
}
