// The addresses of nodes that are gone go to one of the others, and only one: it says so in the shared annotations
// before, and strikes the peer off the list after. The steps are those of the original's kube-utils, which may be what
// other nodes run; what is different is what we do not take: from a peer that can still be reached, or that is on a
// node that has come back meanwhile, or when we do not seem to be in the cluster ourselves.
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Annotations, type SharedAnnotations, update } from "./annotations.ts";
import { type ListedPeer, listedPeers, takingOver, withoutPeer, withTakeOver } from "./peerlist.ts";

/** One who may take over. */
export interface Heir {
  readonly peer: string;
  readonly node: string;
  readonly shared: SharedAnnotations;
  /** Names of the nodes that there are now. */
  nodes(): Promise<ReadonlySet<string>>;
  /** Whether a peer is connected to the network now: then it lives, whatever the cluster says. */
  isReachable(peer: string): Promise<boolean>;
  /** Takes over the addresses of a peer; once it resolves they are ours, on disk. Twice is no harm. */
  takeOver(peer: string): Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Listed peers whose node is gone, or is ours while they are not us. */
function gone(heir: Heir, annotations: Annotations, nodes: ReadonlySet<string>): readonly ListedPeer[] {
  // What lists no node of ours is no list to judge others by.
  if (!nodes.has(heir.node)) return [];
  return listedPeers(annotations).filter(
    ({ PeerName, NodeName }) => PeerName !== heir.peer && (NodeName === heir.node || !nodes.has(NodeName)),
  );
}

/**
 * Takes over from every peer whose node is gone, unless another does. Resolves with the number of peers that are left
 * to be taken over from, by whomever; the caller asks again later then. Rejects with what kept it from finding out.
 */
export async function reclaim(heir: Heir): Promise<number> {
  const { shared, log } = heir;
  let left = 0;
  for (const { PeerName } of gone(heir, await shared.read(), await heir.nodes())) {
    try {
      if (!(await reclaimFrom(heir, PeerName))) left++;
    } catch (error) {
      log.warning(`cannot take over the addresses of a peer yet: ${reasonOf(error)}`, { peer: PeerName });
      left++;
    }
  }
  return left;
}

/** True once the peer is off the list. */
async function reclaimFrom(heir: Heir, peer: string): Promise<boolean> {
  const { shared, log } = heir;
  if (await heir.isReachable(peer)) {
    log.info("leaving a peer its addresses: its node is gone, but the peer is not", { peer });
    return false;
  }
  const annotations = await shared.read();
  // The list may be another one by now.
  if (!gone(heir, annotations, await heir.nodes()).some(({ PeerName }) => PeerName === peer)) return true;
  const other = takingOver(annotations, peer);
  if (other !== heir.peer) {
    // Who is taking over goes on after a restart, as long as it is a peer.
    if (other !== undefined && listedPeers(annotations).some(({ PeerName }) => PeerName === other))
      return false;
    if (!(await shared.write(withTakeOver(annotations, peer, heir.peer)))) return false;
  }
  log.info("taking over the addresses of a peer whose node is gone", { peer });
  await heir.takeOver(peer);
  await update(shared, (now) => withoutPeer(now, peer), heir);
  return true;
}
