// Containers that ended while nobody listened: what events would have said, asked for.
import { existsSync } from "node:fs";
import { findContainer } from "./runtime.ts";

/**
 * Asks the runtimes about containers whose links have gone: one that none of them knows is `destroyed`, one that does not
 * run loses its names. Rejects with ContainerError where a runtime does not answer.
 */
export async function askAboutGone(
  sockets: readonly string[],
  ids: ReadonlySet<string>,
  on: { destroyed(id: string): void; unname(id: string): void },
): Promise<void> {
  // A runtime that is not there may come, and know them.
  if (!sockets.some((path) => existsSync(path))) return;
  for (const id of ids) {
    const container = await findContainer(sockets, id);
    if (!container) on.destroyed(id);
    else if (container.pid === 0) on.unname(id);
  }
}
