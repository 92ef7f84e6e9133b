// Kernel work for containers. Some is slow: removing a link waits 10 to 20 ms for a grace period, with the rtnl lock held.
// Daemons run it in a thread (workthread.ts).
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import type { Netns } from "../sys/netns.ts";
import { type Attached, type Attachment, attach } from "./attach.ts";
import { attachedAddresses, inspectPorts, type PortToInspect, type Sighting } from "./containers.ts";
import { detach } from "./detach.ts";
import { addEndpoint, type MadeEndpoint, type NewEndpoint, tuneEndpoint } from "./endpoint.ts";
import type { ContainerLink } from "./hostend.ts";
import { inspect } from "./inspect.ts";
import { applyMtu, type MtuChange } from "./mtu.ts";

/** All operations reject with NetnsError, AlreadyAttachedError or the kernel's error. */
export interface ContainerWork {
  attach(attachment: Attachment): Promise<Attached>;
  /** Resolve to true if the link is gone for certain; see detach(). */
  detach(link: ContainerLink): Promise<boolean>;
  /** See addEndpoint(). */
  addEndpoint(endpoint: NewEndpoint): Promise<MadeEndpoint>;
  /** See tuneEndpoint(). */
  tuneEndpoint(outer: string): Promise<string | undefined>;
  inspect(netns: Netns, ifName: string): Promise<ReturnType<typeof inspect>>;
  /** See attachedAddresses(). */
  attached(): Promise<Sighting>;
  /** See inspectPorts(). */
  inspectPorts(ports: readonly PortToInspect[]): Promise<ReturnType<typeof inspectPorts>>;
  /** See applyMtu(). */
  applyMtu(change: MtuChange): Promise<void>;
}

/** Runs in the calling thread, for programs without an event loop to keep free. */
export const workHere: ContainerWork = {
  attach: async (attachment) => attach(attachment),
  async detach(link) {
    const [detached] = detach([link]);
    if (detached instanceof Error) throw detached;
    return detached ?? false;
  },
  addEndpoint: async (endpoint) => addEndpoint(endpoint),
  tuneEndpoint: async (outer) => tuneEndpoint(outer),
  inspect: async (netns, ifName) => inspect(netns, ifName),
  async attached() {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return attachedAddresses(nl);
  },
  async inspectPorts(ports) {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return inspectPorts(nl, ports);
  },
  async applyMtu(change) {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    applyMtu(nl, change);
  },
};
