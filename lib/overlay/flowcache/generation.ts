// The generation of cached flows: whoever changes what the slow path decides changes it, and the next packet of each flow takes the
// slow path. Several processes do: the router, and weave-npc after each change of its rules. What changes without it is seen within
// LIFETIME_NS; so it does not matter whether a process is away, is killed in between, or may not open the map.
import type { BpfMap } from "../../bpf/map.ts";
import { programId, programMapIds } from "../../bpf/program.ts";
import { BRIDGE } from "../../host/names.ts";
import { findProgram } from "../../host/ports/hook.ts";
import { linkByName } from "../../netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../netlink/socket.ts";
import { adoptControl, CONTROL } from "./maps.ts";

/** Interval of looking for the map again: another router may have made its own. */
const LOOK_MS = 5_000;

/** Make all cached flows stale. By chance, so that two processes need no turns. */
export function raiseGeneration(control: BpfMap<number, number>): void {
  control.set(CONTROL.generation, crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
}

/** Return what raises the generation of this host's flow cache, if there is one; for other processes than the router. Never throws. */
export function generationRaiser(now: () => number): () => void {
  let control: BpfMap<number, number> | undefined;
  let lookedAt = Number.NEGATIVE_INFINITY;
  return () => {
    try {
      if (now() - lookedAt >= LOOK_MS) {
        lookedAt = now();
        control?.close();
        control = undefined;
        control = findControl();
      }
      if (control) raiseGeneration(control);
    } catch {
      // Without the right to open the map, cached flows see the change a little later.
    }
  };
}

function findControl(): BpfMap<number, number> | undefined {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const bridge = linkByName(nl, BRIDGE);
  const found = bridge && findProgram(nl, bridge, "egress");
  try {
    return found && adoptControl(programMapIds(programId(found.program)));
  } finally {
    found?.program.close();
  }
}
