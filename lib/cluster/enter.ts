// Entering the list of peers, before the router starts: as the peer that we were, if nobody has taken that over, and if
// nobody else is it.
import { type Clock, sleep } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { type SharedAnnotations, update } from "./annotations.ts";
import { listedPeers, takingOver, withoutPeer, withPeers } from "./peerlist.ts";

/** One who enters. */
export interface Newcomer {
  /** The name of the last time, or of the host as it was found. */
  readonly peer: string;
  /** A name that no other node can have. */
  readonly unique: string;
  readonly node: string;
  /** What is kept on disk is from when we were in the list. */
  readonly listedBefore: boolean;
  readonly shared: SharedAnnotations;
  readonly nodes: ReadonlySet<string>;
  /** Forgets what is kept of addresses. Called before we enter, so that a crash in between makes no difference. */
  forget(why: string): void;
  readonly clock: Clock;
  readonly random: Random;
}

/** Who takes over from us needs less than this for it, once it has said so. */
const TAKE_OVER_MS = 10_000;
const LOOK_MS = 1_000;

/** Enters the list; resolves with the name to go by. Rejects where the list cannot be read or changed. */
export async function enter(newcomer: Newcomer): Promise<string> {
  const { node, nodes, shared, clock } = newcomer;
  let annotations = await shared.read();
  const began = clock.now();
  while (takingOver(annotations, newcomer.peer) !== undefined && clock.now() - began < TAKE_OVER_MS) {
    await sleep(clock, LOOK_MS);
    annotations = await shared.read();
  }
  const entry = listedPeers(annotations).find(({ PeerName }) => PeerName === newcomer.peer);
  const twin = entry && entry.NodeName !== node && nodes.has(entry.NodeName) ? entry.NodeName : undefined;
  const peer = twin === undefined ? newcomer.peer : newcomer.unique;
  if (twin !== undefined) {
    newcomer.forget(
      `node ${twin} has the peer name ${newcomer.peer}, too: this host is a copy of it and takes the name ${peer}`,
    );
  } else if (takingOver(annotations, peer) !== undefined || (!entry && newcomer.listedBefore)) {
    newcomer.forget(`another peer took over the addresses of ${peer} while its node was gone`);
  }
  await update(
    shared,
    (now) => {
      // Whoever meant to take over from us has stopped on the way; but those that we take over from stay ours.
      const free = takingOver(now, peer) === undefined ? now : withoutPeer(now, peer);
      const peers = listedPeers(free);
      if (peers.some(({ PeerName, NodeName }) => PeerName === peer && NodeName === node)) return undefined;
      const others = peers.filter(({ PeerName }) => PeerName !== peer);
      return withPeers(free, [...others, { PeerName: peer, NodeName: node }]);
    },
    newcomer,
  );
  return peer;
}
