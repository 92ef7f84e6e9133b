// Link changes as they happen, by rtnetlink multicast.
import type { Watch } from "../sys/readable.ts";
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from "./link.ts";
import { listen } from "./listen.ts";
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
  return listen(() => openNetlink("link monitor", NETLINK_ROUTE, [RTNLGRP_LINK]), {
    message(message) {
      if (message.type === RTM_NEWLINK) listener.changed(decodeLink(message));
      if (message.type === RTM_DELLINK) listener.removed(decodeLink(message));
    },
    lost: () => listener.resync(),
    failed: (error) => listener.failed(error),
  });
}
