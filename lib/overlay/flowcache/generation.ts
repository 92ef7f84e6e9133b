// The generation of cached flows: the router changes it where it sees a change of what the slow path decides, and the next packet of each
// flow takes the slow path. What changes without it is seen within LIFETIME_NS; so it does not matter whether the router is away.
import type { BpfMap } from "../../bpf/map.ts";
import { POLICY_TABLE } from "../../host/names.ts";
import { watchTables } from "../../netlink/nftables/watch.ts";
import type { Watch } from "../../sys/readable.ts";
import { CONTROL } from "./maps.ts";

/** Make all cached flows stale. By chance, as a router that starts does not know which generations there were. */
export function raiseGeneration(control: BpfMap<number, number>): void {
  control.set(CONTROL.generation, crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
}

/** Follow the rules of network policies, which weave-npc changes: it has no right to the map. */
export function watchPolicies(changed: () => void, failed: (error: Error) => void): Watch {
  const tables = (["inet", "bridge"] as const).map((family) => ({ family, name: POLICY_TABLE }));
  return watchTables(tables, () => new Set(), { changed, lost: changed, failed });
}
