// Listening to what the kernel tells of its own accord. It drops messages when a listener is slow (ENOBUFS); then nothing
// that was heard can be trusted, so the listener is told, and listening begins again.
import { closeSync, openSync } from "node:fs";
import { ENOBUFS, isErrno } from "../sys/errno.ts";
import { inNetns, OWN_NETNS } from "../sys/netns.ts";
import { type Watch, watchReadable } from "../sys/readable.ts";
import { decodeMessages, type Message } from "./message.ts";

export interface MessageListener {
  /** What it throws ends the watch. */
  message(message: Message): void;
  /** Messages were lost. */
  lost(): void;
  /** The watch has ended for another reason. */
  failed(error: Error): void;
}

/** Listens on a non-blocking socket that `open` makes, in the namespace that this thread is in now. */
export function listen(open: () => number, listener: MessageListener): Watch {
  // Starting again happens later, when this thread may be in another namespace.
  const home = openSync(OWN_NETNS, "r");
  let watch: Watch;
  const start = () => {
    watch = watchReadable(
      inNetns(`/proc/self/fd/${home}`, open),
      (chunk) => {
        for (const message of decodeMessages(chunk)) listener.message(message);
      },
      (error) => {
        if (!isErrno(error, ENOBUFS)) return listener.failed(error);
        start();
        listener.lost();
      },
    );
  };
  start();
  return {
    stop() {
      watch.stop();
      closeSync(home);
    },
  };
}
