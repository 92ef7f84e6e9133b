// Waiting for a kernel fd (netlink, packet socket, tap) without blocking the event loop: Bun's own poller reads it.

import { closeSync } from "node:fs";

/** A running watch; `stop` ends it and closes the fd. */
export interface Watch {
  stop(): void;
}

/**
 * Hands over what arrives on a non-blocking fd, as it arrives. Several datagrams may come glued together in one
 * chunk, so the format has to carry its own lengths (netlink does). The watch owns the fd and closes it.
 * `onError` gets what ends the watch, ENOBUFS (the kernel dropped something) among it.
 */
export function watchReadable(
  fd: number,
  onData: (chunk: Uint8Array) => void,
  onError: (error: Error) => void,
): Watch {
  const reader = Bun.file(fd).stream().getReader();
  let stopped = false;
  // Bun reads from a duplicate of the fd, and closes that one only.
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  const read = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (stopped) return;
      if (done) throw new Error("closed by the kernel");
      onData(value);
    }
  };
  read().catch((error) => {
    close();
    if (!stopped) onError(error instanceof Error ? error : new Error(String(error)));
  });
  return {
    stop() {
      stopped = true;
      close();
      reader.cancel().catch(() => {});
    },
  };
}
