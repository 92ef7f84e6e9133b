// Containers of Docker and podman that 'weave attach' attached stay attached across restarts: each run has a new network
// namespace, which gets a link with the same addresses and names. Detaching or removing the container ends that; stopping
// does not. While a container is stopped, its addresses can be allocated elsewhere: an address that nobody chose is then
// replaced by another of its subnet.
import { type Cidr, cidrRange, formatCidr, formatIPv4, type IPv4 } from "../address/ipv4.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import type { Container } from "../container/runtime.ts";
import type { Attachment } from "../host/attach.ts";
import { LINK } from "../host/names.ts";
import { CancelledError } from "../ipam/errors.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import type { Limit } from "../sys/limit.ts";
import { NetnsError } from "../sys/netns.ts";
import { reasonOf } from "../sys/reason.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import {
  type AttachmentsStore,
  type KeptAddress,
  MAX_ADDRESSES,
  MAX_ATTACHMENTS,
  type SavedAttachment,
} from "./savedattachments.ts";

/** Interval of retries of an attachment that failed while its container runs. */
const AGAIN_MS = 5_000;
const ID_SHOWN = 12;

export interface AttachmentsHost {
  readonly store: AttachmentsStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Ask the runtimes; undefined if none knows the container. Rejects if one does not answer. */
  find(id: string): Promise<Container | undefined>;
  /** True if `find` asks the runtime of this socket, and the socket exists. */
  isThere(socket: string): boolean;
  /** True if the container has a link of ours; rejects if its namespace is gone. */
  isAttached(pid: number): Promise<boolean>;
  attach(attachment: Attachment): Promise<unknown>;
  /** Addresses that the allocator has for a container. */
  held(id: string): readonly Cidr[];
  /** Rejects if another holder has the address. */
  claim(id: string, cidr: Cidr): Promise<void>;
  allocate(id: string, subnet: Cidr): Promise<IPv4>;
  /** Without DNS, none are found or added. */
  readonly names: {
    of(id: string): SavedAttachment["names"];
    add(hostname: string, id: string, address: IPv4): void;
  };
}

export class Attachments {
  readonly #kept: Map<string, SavedAttachment>;
  /** Why running containers could not be attached, by their IDs. */
  readonly #failed = new Map<string, string>();
  /** Containers with work in flight; true if another start came meanwhile. */
  readonly #busy = new Map<string, boolean>();
  readonly #again = new Map<string, Timer>();
  #stopped = false;

  constructor(private readonly host: AttachmentsHost) {
    this.#kept = new Map(host.store.load());
  }

  /** Save addresses of a container besides those that are saved. Throws StoreError, with nothing changed. */
  note(id: string, addresses: readonly KeptAddress[], multicastRoute: boolean): void {
    const before = this.#kept.get(id);
    const [oldest] = this.#kept.keys();
    if (!before && oldest !== undefined && this.#kept.size >= MAX_ATTACHMENTS) this.forget(oldest);
    const others = (before?.addresses ?? []).filter(
      ({ address }) => !addresses.some((added) => added.address === address),
    );
    const all = [...others, ...addresses];
    if (all.length > MAX_ADDRESSES)
      throw new Error(`container ${id} has more than ${MAX_ADDRESSES} addresses`);
    this.#save(id, {
      addresses: all,
      names: before?.names ?? [],
      multicastRoute,
      socket: before?.socket,
    });
    this.#settled(id);
    this.started(id);
  }

  /** Forget addresses of a container, all unless given; the last one takes the container along. */
  forget(id: string, addresses?: readonly IPv4[]): void {
    const known = this.#kept.get(id);
    if (!known) return;
    const left = known.addresses.filter(({ address }) => addresses && !addresses.includes(address));
    if (left.length > 0) return this.#save(id, { ...known, addresses: left });
    this.host.store.remove(id);
    this.#kept.delete(id);
    this.#settled(id);
  }

  /** Return whether a container is kept attached. */
  knows(id: string): boolean {
    return this.#kept.has(id);
  }

  /** Attach a container that is known, which has this process now, and return its addresses. Rejects with what is wrong. */
  async attachAt(id: string, pid: number): Promise<readonly Cidr[]> {
    if (!(await this.host.isAttached(pid))) await this.#attach(id, pid);
    this.#name(id);
    return this.#kept.get(id)?.addresses ?? [];
  }

  /** A container has ended: save its names before they are deleted. */
  died(id: string): void {
    this.#settled(id);
    const known = this.#kept.get(id);
    const names = this.host.names.of(id);
    if (known && names.length > 0) this.#try(id, () => this.#save(id, { ...known, names }));
  }

  /** A container was removed. */
  destroyed(id: string): void {
    this.#try(id, () => this.forget(id));
  }

  /** A container was started: attach it if it was attached before. */
  started(id: string): void {
    if (this.#kept.has(id)) detached(`attaching container ${id} again`, this.#restore(id));
  }

  /** Events may have been missed: check all containers. */
  look(): void {
    for (const id of this.#kept.keys()) this.started(id);
  }

  limits(): Limit[] {
    return [{ name: "attached-containers", value: this.#kept.size, max: MAX_ATTACHMENTS, forgets: true }];
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#again.values()) timer.cancel();
  }

  /** Running containers that could not be attached. */
  problems(): ProblemReport[] {
    return [...this.#failed].map(([id, why]) => ({
      Check: "attach",
      Found: `container ${id.slice(0, ID_SHOWN)} was started again and is not attached: ${why}`,
      Advice: `retried every ${AGAIN_MS / 1_000} s; 'weave detach ${id.slice(0, ID_SHOWN)}' gives up`,
    }));
  }

  async #restore(id: string): Promise<void> {
    if (this.#stopped) return;
    if (this.#busy.has(id)) {
      this.#busy.set(id, true);
      return;
    }
    this.#busy.set(id, false);
    this.#again.get(id)?.cancel();
    this.#again.delete(id);
    try {
      const container = await this.host.find(id);
      if (!container) return this.#missing(id);
      this.#knownAt(id, container.socket);
      if (container.pid === 0) return this.#settled(id);
      if (!(await this.host.isAttached(container.pid))) await this.#attach(id, container.pid);
      this.#name(id);
      this.#settled(id);
    } catch (error) {
      // The container was forgotten or has ended meanwhile.
      const ended = error instanceof CancelledError || (error instanceof NetnsError && error.gone);
      if (!ended && this.#kept.has(id) && !this.#stopped) this.#fail(id, reasonOf(error));
    } finally {
      const again = this.#busy.get(id);
      this.#busy.delete(id);
      if (again) this.started(id);
    }
  }

  /** No runtime knows the container: it was removed, unless its own runtime is not running yet. */
  #missing(id: string): void {
    const socket = this.#kept.get(id)?.socket;
    if (socket !== undefined && this.host.isThere(socket)) this.destroyed(id);
    else this.#settled(id);
  }

  #knownAt(id: string, socket: string): void {
    const known = this.#kept.get(id);
    if (known && known.socket !== socket) this.#save(id, { ...known, socket });
  }

  async #attach(id: string, pid: number): Promise<void> {
    const known = this.#kept.get(id);
    if (!known) return;
    const { multicastRoute } = known;
    const moved = new Map<IPv4, KeptAddress>();
    // One after the other: rare, and the failing address is clear.
    for (const kept of known.addresses) moved.set(kept.address, await this.#take(id, kept));
    // The container was detached meanwhile.
    if (this.#kept.get(id) !== known || this.#stopped) return;
    const addresses = [...moved.values()];
    await this.host.attach({
      netns: pid,
      containerId: id,
      ifName: LINK,
      addresses,
      routes: [],
      multicastRoute,
      extend: true,
    });
    if (this.#kept.get(id) !== known) return;
    const names = known.names.map(({ hostname, address }) => ({
      hostname,
      address: moved.get(address)?.address ?? address,
    }));
    this.#save(id, { ...known, addresses, names });
    this.host.log.info("attached a container that was started again", {
      container: id,
      addresses: addresses.map(formatCidr),
    });
  }

  /** Add the saved names of a running container. */
  #name(id: string): void {
    const known = this.#kept.get(id);
    if (!known || known.names.length === 0) return;
    for (const { hostname, address } of known.names) this.host.names.add(hostname, id, address);
    this.#save(id, { ...known, names: [] });
  }

  /** Claim an address; if it is taken and nobody chose it, allocate another of its subnet. */
  async #take(id: string, kept: KeptAddress): Promise<KeptAddress> {
    const { host } = this;
    if (host.held(id).some(({ address }) => address === kept.address)) return kept;
    try {
      await host.claim(id, kept);
      return kept;
    } catch (error) {
      if (kept.asked) throw error;
      const subnet = { address: cidrRange(kept).start, prefix: kept.prefix };
      const address = await host.allocate(id, subnet);
      host.log.info("replaced an address that was allocated elsewhere while the container did not run", {
        container: id,
        address: formatIPv4(address),
        before: formatIPv4(kept.address),
      });
      return { ...kept, address };
    }
  }

  #fail(id: string, why: string): void {
    if (this.#failed.get(id) !== why)
      this.host.log.warning(`cannot attach a container that was started again: ${why}; trying again`, {
        container: id,
      });
    this.#failed.set(id, why);
    this.#again.set(
      id,
      this.host.clock.after(AGAIN_MS, () => this.started(id)),
    );
  }

  #settled(id: string): void {
    this.#failed.delete(id);
    this.#again.get(id)?.cancel();
    this.#again.delete(id);
  }

  #save(id: string, attachment: SavedAttachment): void {
    this.host.store.save(id, attachment);
    this.#kept.set(id, attachment);
  }

  #try(id: string, change: () => void): void {
    try {
      change();
    } catch (error) {
      this.host.log.error(`the saved attachment of a container is invalid: ${reasonOf(error)}`, {
        container: id,
      });
    }
  }
}
