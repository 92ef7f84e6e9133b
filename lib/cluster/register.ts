// Register in the list of peers, before the router starts: under the kept name, unless another peer has taken over its
// addresses or has that name.
import { type Clock, sleep } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { type SharedAnnotations, update } from "./annotations.ts";
import { listedPeers, takingOver, withoutPeer, withPeers } from "./peerlist.ts";

/** The peer to register. */
export interface Registrant {
  /** The kept name, or one derived from the host. */
  readonly peer: string;
  /** A name unique to the node. */
  readonly unique: string;
  readonly node: string;
  /** The state on disk is of a registered peer. */
  readonly listedBefore: boolean;
  readonly shared: SharedAnnotations;
  readonly nodes: ReadonlySet<string>;
  /** Delete the saved addresses. Called before the registration, so that a crash in between does no harm. */
  forget(why: string): void;
  readonly clock: Clock;
  readonly random: Random;
}

/** Upper bound of a take-over, once it is announced. */
const TAKE_OVER_MS = 10_000;
const LOOK_MS = 1_000;

/** Register; resolves with the name to use. Rejects with KubeError or PeerListError. */
export async function register(registrant: Registrant): Promise<string> {
  const { node, nodes, shared, clock } = registrant;
  let annotations = await shared.read();
  const began = clock.now();
  while (takingOver(annotations, registrant.peer) !== undefined && clock.now() - began < TAKE_OVER_MS) {
    await sleep(clock, LOOK_MS);
    annotations = await shared.read();
  }
  const entry = listedPeers(annotations).find(({ PeerName }) => PeerName === registrant.peer);
  const twin = entry && entry.NodeName !== node && nodes.has(entry.NodeName) ? entry.NodeName : undefined;
  const peer = twin === undefined ? registrant.peer : registrant.unique;
  if (twin !== undefined) {
    registrant.forget(
      `node ${twin} has the peer name ${registrant.peer}, too: this host is a copy of it and takes the name ${peer}`,
    );
  } else if (takingOver(annotations, peer) !== undefined || (!entry && registrant.listedBefore)) {
    registrant.forget(`another peer took over the addresses of ${peer} while its node was gone`);
  }
  await update(
    shared,
    (now) => {
      // The announced take-over was abandoned. Take-overs announced by this peer stay.
      const free = takingOver(now, peer) === undefined ? now : withoutPeer(now, peer);
      const peers = listedPeers(free);
      if (peers.some(({ PeerName, NodeName }) => PeerName === peer && NodeName === node)) return undefined;
      const others = peers.filter(({ PeerName }) => PeerName !== peer);
      return withPeers(free, [...others, { PeerName: peer, NodeName: node }]);
    },
    registrant,
  );
  return peer;
}
