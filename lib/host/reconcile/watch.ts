// Filters the kernel's notifications for the reconciler: those about our links and by others.
import type { RouteEvent } from "../../netlink/monitor.ts";
import { isContainerVeth } from "../names.ts";
import { culpritOf } from "./culprit.ts";
import type { Reconciler } from "./reconciler.ts";

export class ReconcilerWatch {
  /** Names of the links that matter, by ifindex. */
  readonly #names = new Map<number, string>();

  constructor(
    private readonly reconciler: Pick<Reconciler, "notified">,
    /** Whether a link is one of those that the router makes. */
    private readonly isOurs: (name: string) => boolean,
    /** Netlink ports of our own sockets. */
    private readonly ownPorts: () => readonly number[],
  ) {}

  /** Begin with the existing links; again after notifications were lost. */
  start(links: readonly { readonly index: number; readonly name: string }[]): void {
    this.#names.clear();
    for (const { index, name } of links) if (this.#matters(name)) this.#names.set(index, name);
  }

  changed({ kind, index, port, replaced, link }: RouteEvent): void {
    const known = index === undefined ? undefined : link ? this.#follow(index, link) : this.#names.get(index);
    // A route by other links, or by none (blackhole), may have replaced one of ours; settings may be those of all links.
    const general = replaced || (kind === "netconf" && index === undefined);
    const name = known ?? (general ? "" : undefined);
    if (name === undefined || this.ownPorts().includes(port)) return;
    const source = kind === "links" && isContainerVeth(name) ? "ports" : kind;
    this.reconciler.notified(source, name, culpritOf(port));
  }

  #matters(name: string): boolean {
    return this.isOurs(name) || isContainerVeth(name);
  }

  /** Return the name by which a link matters, or mattered before. */
  #follow(index: number, { name, removed }: NonNullable<RouteEvent["link"]>): string | undefined {
    const before = this.#names.get(index);
    const matters = this.#matters(name);
    if (matters && !removed) this.#names.set(index, name);
    else this.#names.delete(index);
    return matters ? name : before;
  }
}
