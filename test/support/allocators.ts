// Real allocators over a simulated mesh, with disks in memory.
import { type Cidr, parseCidr } from "../../lib/address/ipv4.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import type { Sighting } from "../../lib/host/containers.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import type { AllocatorConfig } from "../../lib/ipam/config.ts";
import type { AllocatorStore } from "../../lib/ipam/saved.ts";
import { CHANNEL } from "../../lib/ipam/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { PeerName } from "../../lib/mesh/name.ts";
import { NamedPeers } from "../../lib/router/named.ts";
import { StoreError } from "../../lib/store/error.ts";
import type { SimulatedPeer, Simulation } from "./simulation.ts";

export const UNIVERSE = parseCidr("10.32.0.0/24");

const HOLDER = "holder ";

/**
 * A disk in memory, which survives its router: rows, as the state file has them. A power cut loses the last writes, back to
 * the last one that was waited for; a full disk refuses all.
 */
export class MemoryDisk {
  #rows = new Map<string, unknown>();
  #synced: ReadonlyMap<string, unknown> = new Map();
  /** Writes since then, in order. */
  #unsynced: (readonly [key: string, value: unknown])[] = [];
  full = false;

  /** Return the disk for one router, until it is unplugged: later writes are lost. */
  mount(): AllocatorStore & { unplug(): void } {
    let plugged = true;
    const read = <T>(key: string) => this.#rows.get(key) as T | undefined;
    const write = (key: string, value: unknown, durably = false) => {
      if (!plugged) return;
      if (this.full) throw new StoreError("disk", "cannot save: the disk is full");
      const row = [key, copyOf(value)] as const;
      this.#put(row);
      this.#unsynced.push(row);
      if (!durably) return;
      this.#synced = new Map(this.#rows);
      this.#unsynced = [];
    };
    const holders = () => [...this.#rows.keys()].filter((key) => key.startsWith(HOLDER));
    return {
      path: "memory",
      loadRing: () => read("ring"),
      saveRing: (ring, soon = false) => write("ring", ring, !soon),
      loadVote: () => read("vote"),
      saveVote: (vote) => write("vote", vote, true),
      loadHolders: () =>
        new Map(
          holders().map((key) => [key.slice(HOLDER.length), read(key) ?? { isContainer: true, cidrs: [] }]),
        ),
      saveHolder: (id, owned) => write(`${HOLDER}${id}`, owned),
      forgetHolders: () => {
        for (const key of holders()) write(key, undefined);
      },
      loadGateways: () => read("gateways") ?? [],
      saveGateways: (addresses) => write("gateways", addresses),
      unplug: () => {
        plugged = false;
      },
    };
  }

  /** Cut the power; `below` returns how many of so many writes are kept, in order. */
  cut(below: (bound: number) => number): void {
    const kept = this.#unsynced.slice(0, below(this.#unsynced.length + 1));
    this.#rows = new Map(this.#synced);
    this.#unsynced = [];
    for (const row of kept) this.#put(row);
  }

  copy(): MemoryDisk {
    const copy = new MemoryDisk();
    copy.become(this);
    return copy;
  }

  /** Take what is on another disk. */
  become(other: MemoryDisk): void {
    this.#rows = new Map(other.#rows);
    this.#synced = new Map(other.#rows);
    this.#unsynced = [];
  }

  #put([key, value]: readonly [key: string, value: unknown]): void {
    if (value === undefined) this.#rows.delete(key);
    else this.#rows.set(key, value);
  }
}

/** Rows are copied: what their writer changes later is not on the disk. Plain data without cycles. */
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (typeof value !== "object" || value === null) return value;
  if (Object.getPrototypeOf(value) !== Object.prototype) return structuredClone(value);
  const copy: Record<string, unknown> = {};
  for (const key in value) copy[key] = copyOf((value as Record<string, unknown>)[key]);
  return copy;
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
      ringReplaced: () => router.admission.refusals.lift(),
    },
  );
  router.listen({ peersGone: (peers) => allocator.peersGone(peers) });
  router.admission.guard(allocator.gate);
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
