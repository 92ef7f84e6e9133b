// A simulated peer with its names.
import { Nameserver } from "../../lib/dns/nameserver.ts";
import type { SavedEntry } from "../../lib/dns/saved.ts";
import { CHANNEL } from "../../lib/dns/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { SimulatedPeer, Simulation } from "./simulation.ts";

export interface NamedHost {
  readonly peer: SimulatedPeer;
  readonly names: Nameserver;
}

/** Start peer number `i` with these names on its disk. */
export function launchNamed(simulation: Simulation, i: number, saved: SavedEntry[] = []): NamedHost {
  const peer = simulation.add(i);
  const { ourself, peers } = peer.router;
  const names = new Nameserver(
    {
      ourName: ourself.name,
      domain: "weave.local.",
      isKnownPeer: (name) => peers.get(name) !== undefined,
    },
    {
      clock: simulation.clock,
      log: silentLog,
      store: { load: () => saved, save() {}, remove() {} },
    },
  );
  peer.router.listen({ peersGone: (gone) => names.peersGone(gone) });
  names.start((gossiper) => peer.router.channel(CHANNEL, gossiper));
  return { peer, names };
}
