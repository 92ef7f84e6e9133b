// Containers that ended while no router listened to events.
import { existsSync } from "node:fs";
import { findContainer } from "./runtime.ts";

/**
 * Look up containers whose links are gone: an unknown one is `destroyed`, `unname` is called for a stopped one. Rejects with
 * ContainerError, after all others are looked up, if a runtime that may know one does not answer.
 */
export async function releaseMissed(
  sockets: readonly string[],
  ids: ReadonlySet<string>,
  on: { destroyed(id: string): void; unname(id: string): void },
): Promise<void> {
  // A runtime that starts later may know them.
  if (!sockets.some((path) => existsSync(path))) return;
  const failed: unknown[] = [];
  for (const id of ids) {
    try {
      const container = await findContainer(sockets, id);
      if (!container) on.destroyed(id);
      else if (container.pid === 0) on.unname(id);
    } catch (error) {
      failed.push(error);
    }
  }
  if (failed.length > 0) throw failed[0];
}
