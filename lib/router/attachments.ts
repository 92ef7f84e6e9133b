// Containers of Docker and podman that were attached by hand stay attached over a restart: a new run of the container has a
// new network namespace, and is given a link with the same addresses and names. That ends when the container is removed, or
// detached; a container that was only stopped may be started again. A stopped container does not keep its addresses from
// others for ever: one that was given away meanwhile is replaced by another of its subnet, unless somebody chose it.
import { type Cidr, cidrRange, formatCidr, formatIPv4, type IPv4 } from "../address/ipv4.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import type { Container } from "../container/runtime.ts";
import type { Attachment } from "../host/attach.ts";
import { LINK } from "../host/names.ts";
import { CancelledError } from "../ipam/errors.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
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

/** Interval at which an attachment that failed is tried again, while its container runs. */
const AGAIN_MS = 5_000;
const ID_SHOWN = 12;

export interface AttachmentsHost {
  readonly store: AttachmentsStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Asks the runtimes; undefined where none knows the container. Rejects where one does not answer. */
  find(id: string): Promise<Container | undefined>;
  /** Whether a runtime has its socket there, and was asked. */
  isThere(socket: string): boolean;
  /** Whether the container has a link of ours; rejects where its namespace is gone. */
  isAttached(pid: number): Promise<boolean>;
  attach(attachment: Attachment): Promise<unknown>;
  /** Addresses that it holds by our books. */
  held(id: string): readonly Cidr[];
  /** Rejects where another has the address. */
  claim(id: string, cidr: Cidr): Promise<void>;
  allocate(id: string, subnet: Cidr): Promise<IPv4>;
  /** Nothing happens to them where there is no DNS. */
  readonly names: {
    of(id: string): SavedAttachment["names"];
    add(hostname: string, id: string, address: IPv4): void;
  };
}

export class Attachments {
  readonly #kept: Map<string, SavedAttachment>;
  /** Containers that run and could not be attached, and why. */
  readonly #failed = new Map<string, string>();
  /** Containers that are being looked after; true where they have to be once more. */
  readonly #busy = new Map<string, boolean>();
  readonly #again = new Map<string, Timer>();
  #stopped = false;

  constructor(private readonly host: AttachmentsHost) {
    this.#kept = new Map(host.store.load());
  }

  /** Notes what a container was given; adds to what is known of it. Throws, with nothing changed, where it cannot. */
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

  /** Forgets addresses of a container, and the container with the last of them; all without `addresses`. */
  forget(id: string, addresses?: readonly IPv4[]): void {
    const known = this.#kept.get(id);
    if (!known) return;
    const left = known.addresses.filter(({ address }) => addresses && !addresses.includes(address));
    if (left.length > 0) return this.#save(id, { ...known, addresses: left });
    this.host.store.remove(id);
    this.#kept.delete(id);
    this.#settled(id);
  }

  /** A container has ended; its names are about to be deleted. */
  died(id: string): void {
    this.#settled(id);
    const known = this.#kept.get(id);
    const names = this.host.names.of(id);
    if (known && names.length > 0) this.#try(id, () => this.#save(id, { ...known, names }));
  }

  /** A container is gone for good. */
  destroyed(id: string): void {
    this.#try(id, () => this.forget(id));
  }

  /** A container runs (again). */
  started(id: string): void {
    if (this.#kept.has(id)) detached(`attaching container ${id} again`, this.#restore(id));
  }

  /** Events were missed: looks what has become of all. */
  look(): void {
    for (const id of this.#kept.keys()) this.started(id);
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#again.values()) timer.cancel();
  }

  /** Containers that run and could not be attached. */
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
      // Forgotten, or ended, meanwhile.
      const ended = error instanceof CancelledError || (error instanceof NetnsError && error.gone);
      if (!ended && this.#kept.has(id) && !this.#stopped) this.#fail(id, reasonOf(error));
    } finally {
      const again = this.#busy.get(id);
      this.#busy.delete(id);
      if (again) this.started(id);
    }
  }

  /** No runtime that is there knows the container: it was removed, unless its own runtime is not there yet. */
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
    // One after the other: it is rare, and what fails is clear.
    for (const kept of known.addresses) moved.set(kept.address, await this.#take(id, kept));
    // Detached meanwhile.
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

  /** Gives a container that runs the names back that it had. */
  #name(id: string): void {
    const known = this.#kept.get(id);
    if (!known || known.names.length === 0) return;
    for (const { hostname, address } of known.names) this.host.names.add(hostname, id, address);
    this.#save(id, { ...known, names: [] });
  }

  /** Makes an address the container's; another one of its subnet where that is as good. */
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
