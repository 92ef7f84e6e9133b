// Whom a router connects to when it starts: as the original, one that a supervisor or a reboot starts again goes on with what
// connect and forget have made of its targets; one that was stopped on purpose takes what it is launched with
// (weave: router/network_router.go, InitialPeers).
import { existsSync } from "node:fs";
import { stateFile } from "../api/paths.ts";
import type { Log } from "../log/log.ts";
import { Store } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Identity, identity } from "./identity.ts";
import type { RouterOptions } from "./options.ts";

/** Targets to begin with. */
export interface Targets {
  readonly peers: readonly string[];
  /** They are those of the last time, not those of this launch. */
  readonly remembered: boolean;
}

/** Decides it by the options and what is kept. `told`: a cluster says who the peers are, whatever was kept. */
export function initialTargets(
  { peers }: Pick<RouterOptions, "peers">,
  { targets, launched, stopped }: Pick<Identity, "targets" | "launched" | "stopped">,
  told: boolean,
): Targets {
  const kept = targets.get();
  const again = sameAs(launched.get(), peers) && stopped.get() !== true;
  const remembered = kept !== undefined && !told && (peers.length === 0 || again);
  return { peers: remembered ? kept : peers, remembered };
}

const sameAs = (a: readonly string[] | undefined, b: readonly string[]) =>
  a !== undefined && JSON.stringify([...a].sort()) === JSON.stringify([...b].sort());

/** Notes that the router was stopped on purpose; throws StoreError. For when none runs. */
export function noteStopped(): void {
  if (!existsSync(stateFile())) return;
  const store = Store.open(stateFile());
  try {
    // What is damaged is told of at the next launch.
    identity(store, () => {}).stopped.set(true);
  } finally {
    store.close();
  }
}

/** Notes what a router was launched with, so that the next start is known for one of the same. */
export function noteLaunch(
  { launched, stopped }: Identity,
  peers: readonly string[],
  log: Pick<Log, "error">,
): void {
  try {
    if (peers.length > 0) launched.set(peers);
    stopped.set(false);
  } catch (error) {
    log.error(reasonOf(error));
  }
}
