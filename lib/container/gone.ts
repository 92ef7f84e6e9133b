// Containers that ended while nobody listened: what events would have said, asked for.
import { existsSync } from "node:fs";
import { findContainer } from "./runtime.ts";

/** Who keeps addresses for containers that seem to be gone. */
export interface Keeper {
  departing(): ReadonlySet<string>;
  destroyed(id: string): void;
}

/**
 * Asks the runtimes about each container whose link has gone: one that none of them knows is gone for good, one that does
 * not run loses its names. Rejects with ContainerError where one does not answer.
 */
export async function settleGone(
  sockets: readonly string[],
  keeper: Keeper,
  unname: (id: string) => void,
): Promise<void> {
  // One that is not there may come, and know them.
  if (!sockets.some((path) => existsSync(path))) return;
  for (const id of keeper.departing()) {
    const container = await findContainer(sockets, id);
    if (!container) keeper.destroyed(id);
    else if (container.pid === 0) unname(id);
  }
}
