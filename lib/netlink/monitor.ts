// Link changes as they happen, by rtnetlink multicast. The kernel drops messages when a listener is slow (ENOBUFS);
// then nothing that was heard can be trusted, so the listener is told to look at everything again.
import { closeSync, openSync } from "node:fs";
import { ENOBUFS, isErrno } from "../sys/errno.ts";
import { inNetns, OWN_NETNS } from "../sys/netns.ts";
import { type Watch, watchReadable } from "../sys/readable.ts";
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from "./link.ts";
import { decodeMessages } from "./message.ts";
import { NETLINK_ROUTE, openNetlink } from "./socket.ts";

const RTNLGRP_LINK = 1;

export interface LinkListener {
  changed(link: Link): void;
  removed(link: Link): void;
  /** Messages were lost: read the state of all links anew. */
  resync(): void;
  /** The watch has ended for another reason. */
  failed(error: Error): void;
}

/** Watches the links of the namespace that this thread is in now. */
export function watchLinks(listener: LinkListener): Watch {
  // Starting again happens later, when this thread may be in another namespace.
  const home = openSync(OWN_NETNS, "r");
  let watch: Watch;
  const start = () => {
    watch = watchReadable(
      inNetns(`/proc/self/fd/${home}`, () => openNetlink("link monitor", NETLINK_ROUTE, [RTNLGRP_LINK])),
      (chunk) => {
        for (const message of decodeMessages(chunk)) {
          if (message.type === RTM_NEWLINK) listener.changed(decodeLink(message));
          if (message.type === RTM_DELLINK) listener.removed(decodeLink(message));
        }
      },
      (error) => {
        if (!isErrno(error, ENOBUFS)) return listener.failed(error);
        start();
        listener.resync();
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
