// The first targets of a router, as the original chooses them (weave: router/network_router.go, InitialPeers): after a crash,
// a reboot or a restart by a supervisor, the targets of the last run as changed by connect and forget; after 'weave stop',
// those of the launch.
import { existsSync } from "node:fs";
import { stateFile } from "../api/paths.ts";
import type { Log } from "../log/log.ts";
import { Store } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Identity, identity } from "./identity.ts";
import type { RouterOptions } from "./options.ts";

/** First targets. */
export interface Targets {
  readonly peers: readonly string[];
  /** True for those of the last run. */
  readonly remembered: boolean;
}

/** Choose the first targets; `told` if a cluster names the peers, so that the last run does not count. */
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

/** Save that 'weave stop' ended the router; only while no router runs. Throws StoreError. */
export function noteStopped(): void {
  if (!existsSync(stateFile())) return;
  const store = Store.open(stateFile());
  try {
    // The next launch logs damaged rows.
    identity(store, () => {}).stopped.set(true);
  } finally {
    store.close();
  }
}

/** Save the targets of this launch, by which the next start is recognised as a restart. */
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
