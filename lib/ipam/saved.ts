// What the allocator keeps on disk: the ring, and which addresses were handed out to whom.
import * as v from "valibot";
import type { Cidr } from "../address/ipv4.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import type { Store } from "../store/store.ts";
import type { RingState } from "./ring.ts";

const Address = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32));
const Name = v.pipe(v.string(), v.transform(parsePeerName));

const RingSchema = v.object({
  peer: Name,
  start: Address,
  end: Address,
  entries: v.array(v.object({ token: Address, peer: Name, version: v.number(), free: Address })),
  seeds: v.array(Name),
});

const OwnedSchema = v.record(
  v.string(),
  v.object({
    isContainer: v.boolean(),
    cidrs: v.array(v.object({ address: Address, prefix: v.pipe(v.number(), v.minValue(0), v.maxValue(32)) })),
  }),
);

/** Addresses of one holder: a container, or something with a name such as "weave:expose". */
export interface Owned {
  isContainer: boolean;
  cidrs: Cidr[];
}

export type SavedRing = RingState & { readonly peer: PeerName };

/** Where the allocator keeps its state. */
export interface AllocatorStore {
  loadRing(): SavedRing | undefined;
  saveRing(ring: SavedRing): void;
  loadOwned(): Map<string, Owned>;
  saveOwned(owned: ReadonlyMap<string, Owned>): void;
}

export function allocatorStore(store: Store): AllocatorStore {
  return {
    loadRing: () => store.get("ring", RingSchema),
    saveRing: ({ peer, start, end, entries, seeds }) =>
      store.set("ring", { peer, start, end, entries, seeds }),
    loadOwned: () => new Map(Object.entries(store.get("owned", OwnedSchema) ?? {})),
    saveOwned: (owned) => store.set("owned", Object.fromEntries(owned)),
  };
}
