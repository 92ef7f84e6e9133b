// Notifications of the kernel by multicast. It drops messages when a listener is slow (ENOBUFS); then no state derived from
// them can be trusted, so the listener is told, and listening begins again.

import { openSync } from "node:fs";
import { systemClock, type Timer } from "../clock/clock.ts";
import { closeOnce } from "../sys/closeonce.ts";
import { ENOBUFS, isErrno } from "../sys/errno.ts";
import { inNetns, OWN_NETNS } from "../sys/netns.ts";
import { type Watch, watchReadable } from "../sys/readable.ts";
import { decodeMessages, type Message } from "./message.ts";

/** Pause before listening begins again after a failure. */
const RETRY_MS = 1_000;
/** Notifications come in bursts, each of which would take a processor from the thread that causes them. */
const PAUSE_MS = 10;

export interface MessageListener {
  /** What this throws makes the watch fail. */
  message(message: Message): void;
  /** Messages were lost, also while the watch had failed. */
  lost(): void;
  /** The watch has failed, and begins again; called once, however often that fails. */
  failed(error: Error): void;
}

/**
 * Listen on a non-blocking socket that `open` makes, in the namespace that this thread is in now. Throws where that
 * cannot be opened; later it is tried until it can.
 */
export function listen(open: () => number, listener: MessageListener): Watch {
  // Later starts may find this thread in another namespace.
  const home = openSync(OWN_NETNS, "r");
  const leave = closeOnce(home);
  let watch: Watch | undefined;
  let retry: Timer | undefined;
  let stopped = false;
  const start = () => {
    watch = watchReadable(
      inNetns(`/proc/self/fd/${home}`, open),
      (chunk) => {
        for (const message of decodeMessages(chunk)) listener.message(message);
      },
      (error) => {
        watch?.stop();
        if (isErrno(error, ENOBUFS)) return again();
        listener.failed(error);
        startLater();
      },
      PAUSE_MS,
    );
  };
  const again = () => {
    try {
      start();
    } catch {
      return startLater();
    }
    listener.lost();
  };
  const startLater = () => {
    if (!stopped) retry = systemClock.after(RETRY_MS, again);
  };
  start();
  return {
    stop() {
      stopped = true;
      retry?.cancel();
      watch?.stop();
      leave();
    },
  };
}
