// Containers that say of themselves which addresses they want: attached when they are started, by the runtime's events, or by
// an OCI hook before their first process runs. From then on they are kept as those of 'weave attach' are.
import { type Cidr, cidrContains, formatCidr, formatIPv4, type IPv4 } from "../address/ipv4.ts";
import { parseWantedList, type WantedAddress } from "../address/wanted.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { CIDR_VARIABLE } from "../container/declared.ts";
import type { Container } from "../container/runtime.ts";
import type { Attachment } from "../host/attach.ts";
import { LINK } from "../host/names.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { NetnsError } from "../sys/netns.ts";
import { reasonOf } from "../sys/reason.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import type { Attachments } from "./attachments.ts";
import type { KeptAddress } from "./savedattachments.ts";

/** Interval of retries of containers that could not be attached. */
const AGAIN_MS = 5_000;
const ID_SHOWN = 12;

/** A container to attach. */
export interface Wish {
  readonly id: string;
  readonly pid: number;
  /** See parseWantedList(). */
  readonly addresses: string;
  /** Its host name with a domain; undefined without one. */
  readonly fqdn: string | undefined;
}

export interface DeclaredHost {
  readonly clock: Clock;
  readonly log: Log;
  readonly attachments: Pick<Attachments, "knows" | "attachAt" | "note">;
  /** Containers that were detached by hand, until they are started again. Changes throw StoreError. */
  readonly left: { has(id: string): boolean; add(id: string): void; delete(id: string): void };
  readonly defaultSubnet: Cidr | undefined;
  /** Undefined if no runtime knows it. Rejects if one does not answer. */
  find(id: string): Promise<Container | undefined>;
  /** IDs of running containers; rejects likewise. */
  running(): Promise<Iterable<string>>;
  attach(attachment: Attachment): Promise<unknown>;
  claim(id: string, cidr: Cidr, signal?: AbortSignal): Promise<void>;
  allocate(id: string, subnet: Cidr, signal?: AbortSignal): Promise<IPv4>;
  /** Addresses that a container has already. */
  held(id: string): readonly Cidr[];
  release(id: string, address: IPv4): Promise<void>;
  /** Without DNS, or for a name outside of its domain, nothing. */
  name(hostname: string, id: string, address: IPv4): void;
}

export class DeclaredContainers {
  readonly #failed = new Map<string, string>();
  readonly #busy = new Set<string>();
  readonly #again: Timer;

  constructor(private readonly host: DeclaredHost) {
    this.#again = every(host.clock, AGAIN_MS, () => {
      for (const id of this.#failed.keys()) this.#soon(id);
    });
  }

  /** A container was started. */
  started(id: string): void {
    this.host.left.delete(id);
    this.#soon(id);
  }

  /** A container ended, or was removed. */
  ended(id: string): void {
    this.#failed.delete(id);
    this.host.left.delete(id);
  }

  /** A container was detached by hand. */
  detached(id: string): void {
    this.#failed.delete(id);
    this.host.left.add(id);
  }

  /** Events may have been missed: look at all running containers. */
  look(): void {
    detached("containers that want addresses", this.#lookAtAll());
  }

  stop(): void {
    this.#again.cancel();
  }

  /** Running containers that could not be attached. */
  problems(): ProblemReport[] {
    return [...this.#failed].map(([id, why]) => ({
      Check: "attach",
      Found: `container ${id.slice(0, ID_SHOWN)} asks for the network and is not attached: ${why}`,
      Advice: `retried every ${AGAIN_MS / 1_000} s; ${CIDR_VARIABLE}=none leaves a container alone`,
    }));
  }

  /** Attach a container, with the addresses that it had where it was attached before. Rejects with what is wrong. */
  async attach({ id, pid, addresses, fqdn }: Wish, signal?: AbortSignal): Promise<readonly Cidr[]> {
    const { host } = this;
    if (host.attachments.knows(id)) return host.attachments.attachAt(id, pid);
    const got: KeptAddress[] = [];
    const held = new Set(host.held(id).map(({ address }) => address));
    try {
      for (const wanted of parseWantedList(addresses)) got.push(await this.#acquire(id, wanted, signal));
      await host.attach({
        netns: pid,
        containerId: id,
        ifName: LINK,
        addresses: got,
        routes: [],
        multicastRoute: true,
        extend: true,
      });
    } catch (error) {
      // An attempt before this one may have attached it with the others.
      for (const { address } of got) if (!held.has(address)) await host.release(id, address);
      throw error;
    }
    if (fqdn !== undefined) for (const { address } of got) host.name(fqdn, id, address);
    host.attachments.note(id, got, true);
    host.log.info("attached a container that asks for it", { container: id, addresses: got.map(formatCidr) });
    return got;
  }

  async #acquire(id: string, wanted: WantedAddress, signal: AbortSignal | undefined): Promise<KeptAddress> {
    const { host } = this;
    if (wanted.kind === "own") {
      await host.claim(id, wanted.cidr, signal);
      return { ...wanted.cidr, asked: true };
    }
    const subnet = wanted.kind === "net" && wanted.subnet ? wanted.subnet : host.defaultSubnet;
    if (!subnet) throw new Error("no addresses are allocated: name one with its prefix length");
    const { prefix } = subnet;
    if (wanted.kind === "net")
      return { address: await host.allocate(id, subnet, signal), prefix, asked: false };
    const { address } = wanted;
    if (!cidrContains(subnet, address))
      throw new Error(
        `${formatIPv4(address)} is not in the default subnet ${formatCidr(subnet)}; add its prefix length`,
      );
    await host.claim(id, { address, prefix }, signal);
    return { address, prefix, asked: true };
  }

  async #lookAtAll(): Promise<void> {
    try {
      // One after the other: a runtime has other things to do.
      for (const id of await this.host.running())
        if (!this.host.attachments.knows(id) && !this.host.left.has(id)) await this.#try(id);
    } catch (error) {
      this.host.log.warning(`cannot look for containers that want addresses: ${reasonOf(error)}`);
    }
  }

  #soon(id: string): void {
    if (!this.host.attachments.knows(id)) detached(`container ${id}`, this.#try(id));
  }

  async #try(id: string): Promise<void> {
    if (this.#busy.has(id)) return;
    this.#busy.add(id);
    try {
      const container = await this.host.find(id);
      const addresses = container?.declared;
      if (container && container.pid > 0 && addresses !== undefined && !this.host.left.has(container.id))
        await this.attach({ ...container, addresses });
      this.#failed.delete(id);
    } catch (error) {
      this.#fail(id, error);
    } finally {
      this.#busy.delete(id);
    }
  }

  #fail(id: string, error: unknown): void {
    if (error instanceof NetnsError && error.gone) {
      this.#failed.delete(id);
      return;
    }
    const why = reasonOf(error);
    if (this.#failed.get(id) !== why)
      this.host.log.warning(`cannot attach a container that asks for it: ${why}; trying again`, {
        container: id,
      });
    this.#failed.set(id, why);
  }
}
