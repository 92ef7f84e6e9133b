// Attachments that survive a restart of their container, wired to runtimes, kernel, allocator and names.
import { existsSync } from "node:fs";
import type { Cidr } from "../address/ipv4.ts";
import type { Clock } from "../clock/clock.ts";
import { findContainer, runningIds } from "../container/runtime.ts";
import type { Nameserver } from "../dns/nameserver.ts";
import type { ContainerWork } from "../host/containerwork.ts";
import { LINK } from "../host/names.ts";
import type { Allocator } from "../ipam/allocator.ts";
import type { Log } from "../log/log.ts";
import { Attachments } from "./attachments.ts";
import { DeclaredContainers } from "./declared.ts";
import type { AttachmentsStore, DetachedStore } from "./savedattachments.ts";

export interface AttachingParts {
  readonly store: AttachmentsStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Sockets of the container runtimes. */
  readonly sockets: readonly string[];
  readonly allocator: Allocator;
  readonly work: ContainerWork;
  /** Undefined without DNS. */
  readonly nameserver: Nameserver | undefined;
}

/** Load the attachments of this host; nothing happens before a runtime reports a container. */
export function openAttachments(parts: AttachingParts): Attachments {
  const { store, clock, log, sockets, allocator, work, nameserver } = parts;
  return new Attachments({
    store,
    clock,
    log,
    find: (id) => findContainer(sockets, id),
    isThere: (socket) => sockets.includes(socket) && existsSync(socket),
    isAttached: async (pid) => (await work.inspect(pid, LINK)) !== undefined,
    attach: (attachment) => work.attach(attachment),
    held: (id) => allocator.leases(id),
    claim: (id, cidr) => allocator.claim(id, cidr, { isContainer: true }),
    allocate: (id, subnet) => allocator.allocate(id, subnet, { isContainer: true, failWhenExhausted: true }),
    names: {
      of(id) {
        const entries = nameserver?.entries.all() ?? [];
        return Array.from(entries)
          .filter(
            ({ containerId, origin, tombstone }) =>
              containerId === id && tombstone === 0 && origin === nameserver?.config.ourName,
          )
          .map(({ hostname, address }) => ({ hostname, address }));
      },
      add(hostname, id, address) {
        nameserver?.add(hostname, id, address);
      },
    },
  });
}

/** Follow containers that declare addresses, which become attachments. */
export function openDeclared(
  { clock, log, sockets, allocator, work, nameserver }: Omit<AttachingParts, "store">,
  attachments: Attachments,
  left: DetachedStore,
  defaultSubnet: Cidr | undefined,
): DeclaredContainers {
  return new DeclaredContainers({
    clock,
    log,
    attachments,
    left,
    defaultSubnet,
    find: (id) => findContainer(sockets, id),
    running: () => runningIds(sockets),
    attach: (attachment) => work.attach(attachment),
    claim: (id, cidr, signal) => allocator.claim(id, cidr, { isContainer: true, signal }),
    allocate: (id, subnet, signal) =>
      allocator.allocate(id, subnet, { isContainer: true, failWhenExhausted: true, signal }),
    held: (id) => allocator.leases(id),
    release: (id, address) => allocator.free(id, address),
    name: (hostname, id, address) => nameserver?.add(hostname, id, address),
  });
}
