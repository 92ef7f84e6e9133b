// Reclaim the addresses of removed nodes, by one peer only: it announces the take-over in the shared annotations, takes
// over, and removes the peer from the list. The steps are those of the original's kube-utils, which other nodes may run.
// Unlike it, do not reclaim from a peer that is reachable, from a node that has come back, or while this peer's own node
// is not in the list of nodes.
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Annotations, type SharedAnnotations, update } from "./annotations.ts";
import { type ListedPeer, listedPeers, takingOver, withoutPeer, withTakeOver } from "./peerlist.ts";

/** The peer that reclaims. */
export interface Reclaimer {
  readonly peer: string;
  readonly node: string;
  readonly shared: SharedAnnotations;
  /** Names of the present nodes. */
  nodes(): Promise<ReadonlySet<string>>;
  /** Whether a peer is reachable: then it is alive, whatever the cluster says. */
  isReachable(peer: string): Promise<boolean>;
  /** Take over the addresses of a peer, durably. Idempotent. */
  takeOver(peer: string): Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Listed peers whose node is gone, or is this one under another name. */
function gone(
  reclaimer: Reclaimer,
  annotations: Annotations,
  nodes: ReadonlySet<string>,
): readonly ListedPeer[] {
  // Distrust a list without this node.
  if (!nodes.has(reclaimer.node)) return [];
  return listedPeers(annotations).filter(
    ({ PeerName, NodeName }) =>
      PeerName !== reclaimer.peer && (NodeName === reclaimer.node || !nodes.has(NodeName)),
  );
}

/**
 * Reclaim from every peer whose node is gone, unless another peer does. Resolves with the number of peers that remain;
 * the caller retries later. Rejects if the list or the nodes cannot be read.
 */
export async function reclaim(reclaimer: Reclaimer): Promise<number> {
  const { shared, log } = reclaimer;
  let left = 0;
  for (const { PeerName } of gone(reclaimer, await shared.read(), await reclaimer.nodes())) {
    try {
      if (!(await reclaimFrom(reclaimer, PeerName))) left++;
    } catch (error) {
      log.warning(`cannot take over the addresses of a peer yet: ${reasonOf(error)}`, { peer: PeerName });
      left++;
    }
  }
  return left;
}

/** Return true once the peer is off the list. */
async function reclaimFrom(reclaimer: Reclaimer, peer: string): Promise<boolean> {
  const { shared, log } = reclaimer;
  if (await reclaimer.isReachable(peer)) {
    log.info("keeping the addresses of a peer: its node is gone, but the peer is still reachable", { peer });
    return false;
  }
  const annotations = await shared.read();
  // The list may have changed.
  if (!gone(reclaimer, annotations, await reclaimer.nodes()).some(({ PeerName }) => PeerName === peer))
    return true;
  const other = takingOver(annotations, peer);
  if (other !== reclaimer.peer) {
    // A peer resumes its take-over after a restart, while it is listed.
    if (other !== undefined && listedPeers(annotations).some(({ PeerName }) => PeerName === other))
      return false;
    if (!(await shared.write(withTakeOver(annotations, peer, reclaimer.peer)))) return false;
  }
  log.info("taking over the addresses of a peer whose node is gone", { peer });
  await reclaimer.takeOver(peer);
  await update(shared, (now) => withoutPeer(now, peer), reclaimer);
  return true;
}
