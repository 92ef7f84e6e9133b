// Notifications of changes of IPsec associations and policies by XFRM multicast (linux/xfrm.h).
import type { Watch } from "../../sys/readable.ts";
import { listen } from "../listen.ts";
import { openNetlink } from "../socket.ts";
import { NETLINK_XFRM } from "./message.ts";

const XFRMNLGRP_SA = 3;
const XFRMNLGRP_POLICY = 4;

/**
 * Call `changed` when somebody but the socket with netlink port `own` may have changed something in the namespace that this
 * thread is in now; `failed` where the watch has failed, which begins again. Throws where the kernel has no XFRM.
 */
export function watchXfrm(own: () => number, changed: () => void, failed: (error: Error) => void): Watch {
  return listen(() => openNetlink("XFRM monitor", NETLINK_XFRM, [XFRMNLGRP_SA, XFRMNLGRP_POLICY]), {
    message({ port }) {
      if (port !== own()) changed();
    },
    lost: changed,
    failed,
  });
}
