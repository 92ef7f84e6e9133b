// Read a kernel fd (netlink, packet socket, TAP, pipe) in the event loop, by Bun's own poller.
import { closeOnce } from "./closeonce.ts";

/** `stop` ends a watch and closes its file. */
export interface Watch {
  stop(): void;
}

/**
 * Pass on what arrives on a non-blocking fd, which the watch owns and closes. A chunk may have several datagrams, so the format
 * has to carry lengths, as netlink does. `onError` gets the error that ends the watch, such as ENOBUFS for lost messages. After a
 * chunk, nothing is passed on for `pauseMs`.
 */
export function watchReadable(
  fd: number,
  onData: (chunk: Uint8Array) => void,
  onError: (error: Error) => void,
  pauseMs = 0,
): Watch {
  const reader = Bun.file(fd).stream().getReader();
  let stopped = false;
  // Bun reads from a duplicate of the fd and closes only that.
  const close = closeOnce(fd);
  const read = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (stopped) return;
      if (done) throw new Error("closed by the kernel");
      onData(value);
      if (pauseMs > 0) await Bun.sleep(pauseMs);
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
