// IPv4 addresses of links as they come and go, by rtnetlink multicast: that something has changed, not what.
import type { Watch } from "../sys/readable.ts";
import { listen } from "./listen.ts";
import { NETLINK_ROUTE, openNetlink } from "./socket.ts";

const RTNLGRP_IPV4_IFADDR = 5;

/**
 * Calls `changed` when the IPv4 addresses of the namespace that this thread is in now may have changed; `failed` once,
 * when the watch has ended.
 */
export function watchAddresses(changed: () => void, failed: (error: Error) => void): Watch {
  return listen(() => openNetlink("address monitor", NETLINK_ROUTE, [RTNLGRP_IPV4_IFADDR]), {
    message: changed,
    lost: changed,
    failed,
  });
}
