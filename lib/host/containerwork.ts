// What the kernel is asked to do for containers: some of it takes long (a removed link waits for the kernel's grace
// period, 10 to 20 ms, with the lock that every other request needs). A daemon has a thread for it; see workthread.ts.
import type { Cidr } from "../address/ipv4.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import type { Netns } from "../sys/netns.ts";
import { type Attached, type Attachment, attach, type ContainerLink, detach, inspect } from "./attach.ts";
import { bridgeAddresses } from "./bridge.ts";
import { attachedAddresses } from "./containers.ts";

/** All of it rejects with NetnsError, AlreadyAttachedError, or another error as the kernel has it. */
export interface ContainerWork {
  attach(attachment: Attachment): Promise<Attached>;
  /** Whether the link is gone for certain; see detach(). */
  detach(link: ContainerLink): Promise<boolean>;
  inspect(netns: Netns, ifName: string): Promise<ReturnType<typeof inspect>>;
  bridgeAddresses(bridge: string): Promise<readonly Cidr[]>;
  /** Addresses of all containers that are attached; undefined where not every one can be seen from here. */
  attachedAddresses(): Promise<readonly Cidr[] | undefined>;
}

/** In this thread: for programs that do nothing else meanwhile. */
export const workHere: ContainerWork = {
  attach: async (attachment) => attach(attachment),
  async detach(link) {
    const [detached] = detach([link]);
    if (detached instanceof Error) throw detached;
    return detached ?? false;
  },
  inspect: async (netns, ifName) => inspect(netns, ifName),
  async bridgeAddresses(bridge) {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return bridgeAddresses(nl, bridge);
  },
  async attachedAddresses() {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return attachedAddresses(nl);
  },
};
