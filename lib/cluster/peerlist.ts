// The peers that hold addresses of the cluster, with the nodes they are on, in an annotation; one entry stays until the
// addresses of that peer are taken over. Format and keys are those of the original's kube-utils, so that both share it.
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

/** The list is not one; nothing may be concluded from it. */
class PeerListError extends Error {
  override readonly name = "PeerListError";
}

/** Reads the list; an annotation that is not there is an empty one. Throws PeerListError. */
export function listedPeers(annotations: Annotations): readonly ListedPeer[] {
  const text = annotations[PEERS];
  if (text === undefined) return [];
  try {
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list)) return v.parse(PeerList, list).Peers ?? [];
  } catch {
    // It says so below.
  }
  throw new PeerListError(
    `annotation ${PEERS} of ConfigMap ${CONFIGMAP} is not a list of peers; repair it, or delete it: peers then add themselves again`,
  );
}

export function withPeers(annotations: Annotations, peers: readonly ListedPeer[]): Annotations {
  const Peers = peers.map(({ PeerName, NodeName }) => ({ PeerName, NodeName }));
  return { ...annotations, [PEERS]: JSON.stringify({ Peers }) };
}

/** The key under which one peer says that it is taking over from another; what keys may not contain becomes '_'. */
const lockKey = (peer: string) => `${PREFIX}${peer}`.replace(/[^A-Za-z0-9\-_./]/g, "_");

/** Who is taking over from a peer. */
export function takingOver(annotations: Annotations, from: string): string | undefined {
  return annotations[lockKey(from)];
}

export function withTakeOver(annotations: Annotations, from: string, by: string): Annotations {
  return { ...annotations, [lockKey(from)]: by };
}

/** Without a peer: neither in the list, nor taken over, nor taking over from anybody. */
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
