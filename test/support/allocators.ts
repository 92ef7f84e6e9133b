// Real allocators over a simulated mesh, with disks in memory.
import { type Cidr, type IPv4, parseCidr } from "../../lib/address/ipv4.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import type { Sighting } from "../../lib/host/containers.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import type { AllocatorConfig } from "../../lib/ipam/config.ts";
import type { AllocatorStore, Holder, SavedRing, Vote } from "../../lib/ipam/saved.ts";
import { CHANNEL } from "../../lib/ipam/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { PeerName } from "../../lib/mesh/name.ts";
import { NamedPeers } from "../../lib/router/named.ts";
import type { SimulatedPeer, Simulation } from "./simulation.ts";

export const UNIVERSE = parseCidr("10.32.0.0/24");

/** A disk in memory, which survives its router. */
export class MemoryDisk {
  #ring: SavedRing | undefined;
  #vote: Vote | undefined;
  #gateways: IPv4[] = [];
  readonly #holders = new Map<string, Holder>();

  /** Return the disk for one router, until it is unplugged: later writes are lost. */
  mount(): AllocatorStore & { unplug(): void } {
    let plugged = true;
    return {
      path: "memory",
      loadRing: () => this.#ring,
      saveRing: (ring) => {
        if (plugged) this.#ring = structuredClone(ring);
      },
      loadVote: () => this.#vote,
      saveVote: (vote) => {
        if (plugged) this.#vote = structuredClone(vote);
      },
      loadHolders: () => structuredClone(this.#holders),
      saveHolder: (id, owned) => {
        if (plugged && owned) this.#holders.set(id, owned);
        else if (plugged) this.#holders.delete(id);
      },
      forgetHolders: () => {
        if (plugged) this.#holders.clear();
      },
      loadGateways: () => structuredClone(this.#gateways),
      saveGateways: (addresses) => {
        if (plugged) this.#gateways = [...addresses];
      },
      unplug: () => {
        plugged = false;
      },
    };
  }
}

/** Return a sighting of links; incomplete for undefined. */
export function seen(addresses: readonly Cidr[] | undefined): Sighting {
  return { addresses: addresses ?? [], complete: addresses !== undefined };
}

/** Give a simulated peer an allocator, with a quorum of two unless given. */
export function withAddresses(
  simulation: Simulation,
  { router }: SimulatedPeer,
  config: Partial<AllocatorConfig> = {},
  store: AllocatorStore = new MemoryDisk().mount(),
  attached?: () => readonly Cidr[] | undefined,
): Allocator {
  const { ourself } = router;
  const allocator = new Allocator(
    {
      ourName: ourself.name,
      ourUid: ourself.uid,
      ourNickName: ourself.nickName,
      universe: UNIVERSE,
      seed: [],
      observer: false,
      quorum: () => 2,
      isKnownPeer: (name) => router.peers.get(name) !== undefined,
      reachablePeers: () => router.reachablePeers(),
      ...config,
    },
    {
      clock: simulation.clock,
      random: seededRandom(ourself.uid),
      log: silentLog,
      store,
      ...(attached && { attached: async () => seen(attached()) }),
      ringReplaced: () => router.refusals.lift(),
    },
  );
  router.listen({ peerGone: (peer) => allocator.peerGone(peer) });
  router.guard(allocator.gate);
  allocator.start(router.channel(CHANNEL, allocator.gossiper), attached && seen(attached()));
  return allocator;
}

export interface NamedInTest extends Pick<NamedPeers, "forget"> {
  unheard(): string[];
}

/** Name peers for a simulated peer, and connect it to them. */
export async function nameFor(
  simulation: Simulation,
  { router }: SimulatedPeer,
  names: readonly string[],
  hasSpoken: (peer: PeerName) => boolean,
): Promise<NamedInTest> {
  const named = new NamedPeers(names, {
    maker: router.maker,
    ourself: router.ourself,
    clock: simulation.clock,
    log: silentLog,
    kept: { get: () => undefined, set() {} },
    isReachable: (peer) => router.peers.get(peer) !== undefined,
  });
  await named.connect(names, false);
  return { unheard: () => named.unheard(hasSpoken), forget: (peers) => named.forget(peers) };
}

/** Advance the clock and let promises settle, until this one has. */
export async function settled<T>(simulation: Simulation, promise: Promise<T>, limitMs = 300_000): Promise<T> {
  let done = false;
  const end = () => {
    done = true;
  };
  promise.then(end, end);
  for (let waited = 0; !done; waited += 10) {
    if (waited > limitMs) throw new Error("still waiting");
    simulation.clock.advance(10);
    await Promise.resolve();
    await Promise.resolve();
  }
  return promise;
}
