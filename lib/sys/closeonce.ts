// Closing a file descriptor once: closed again, its number may be that of another part's file.
import { closeSync } from "node:fs";

/** Return what closes `fd` when it is called first, and does nothing later. */
export function closeOnce(fd: number): () => void {
  let open = true;
  return () => {
    if (!open) return;
    open = false;
    closeSync(fd);
  };
}
