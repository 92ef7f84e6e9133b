// What the kernel knows of the network under the mesh: this host's addresses, its routes, and notifications of changes.
import { formatIPv4, parseIPv4 } from "../address/ipv4.ts";
import { addressList } from "../netlink/address.ts";
import { RTM_DELLINK, RTM_NEWLINK } from "../netlink/link/message.ts";
import { linkState } from "../netlink/link.ts";
import { listen } from "../netlink/listen.ts";
import type { Message } from "../netlink/message.ts";
import { pathTo } from "../netlink/path.ts";
import { NETLINK_ROUTE, type NetlinkSocket, openNetlink } from "../netlink/socket.ts";
import { boottimeMs, busyMs } from "../sys/clocks.ts";
import type { Watch } from "../sys/readable.ts";

const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV4_ROUTE = 7;
const RTNLGRP_IPV4_RULE = 8;
const GROUPS = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE];

export interface UnderlayListener {
  /** A link is up and has a carrier, or not; one that is removed counts as running. */
  link(index: number, running: boolean): void;
  /** Something else has changed, or notifications were lost. */
  changed(): void;
  failed(error: Error): void;
}

export interface UnderlayKernel {
  /** IPv4 addresses of this host. */
  addresses(): string[];
  /** Route to an IPv4 address, from one of this host's if that is given; undefined if there is none. */
  path(
    remote: string,
    local: string | undefined,
  ): { readonly link: number | undefined; readonly gateway: number | undefined } | undefined;
  /** Milliseconds since boot, suspension included. */
  boottime(): number;
  /** Milliseconds that this router has run, or waited for a processor. */
  busy(): number;
  watch(listener: UnderlayListener): Watch;
}

/** The kernel of this host, asked through a socket. */
export const underlayKernel = (nl: NetlinkSocket): UnderlayKernel => ({
  addresses: () => addressList(nl).map(({ cidr }) => formatIPv4(cidr.address)),
  path: (remote, local) => pathTo(nl, parseIPv4(remote), local === undefined ? undefined : parseIPv4(local)),
  boottime: boottimeMs,
  busy: busyMs,
  watch: (listener) =>
    listen(() => openNetlink("underlay monitor", NETLINK_ROUTE, GROUPS), {
      message: (message) => heard(message, listener),
      lost: listener.changed,
      failed: listener.failed,
    }),
});

/** Tell a listener what a notification of rtnetlink means. */
export function heard(message: Message, listener: Pick<UnderlayListener, "link" | "changed">): void {
  if (message.type !== RTM_NEWLINK && message.type !== RTM_DELLINK) return listener.changed();
  const { index, running } = linkState(message);
  listener.link(index, running || message.type === RTM_DELLINK);
}
