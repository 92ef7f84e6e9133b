// The generation of cached flows: the router changes it when a decision of the slow path may change, and the next packet of each flow
// takes the slow path. Changes while the router is down are in force after LIFETIME_NS.
import type { BpfMap } from "../../bpf/map.ts";
import { POLICY_TABLE } from "../../host/names.ts";
import { watchTables } from "../../netlink/nftables/watch.ts";
import type { Watch } from "../../sys/readable.ts";
import { CONTROL } from "./maps.ts";

/** Make all cached flows stale. Random, as a router that starts does not know earlier generations. */
export function raiseGeneration(control: BpfMap<number, number>): void {
  control.set(CONTROL.generation, crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
}

/** Follow the rules of network policies, which weave-npc changes: it has no right to the map. */
export function watchPolicies(changed: () => void, failed: (error: Error) => void): Watch {
  const tables = (["inet", "bridge"] as const).map((family) => ({ family, name: POLICY_TABLE }));
  return watchTables(tables, () => new Set(), { changed, lost: changed, failed });
}
