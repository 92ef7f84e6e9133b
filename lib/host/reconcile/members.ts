// Containers' links as ports of the bridge: those that were, and lost it with the bridge.
import { type Link, linkList, linkSet } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { BRIDGE, isContainerVeth, isVethAlias } from "../names.ts";
import type { Change, Resource } from "./resource.ts";

interface MemberChange extends Change {
  readonly link: Link;
  readonly bridge: number;
}

export class Members implements Resource<ReadonlySet<number>, readonly Link[], MemberChange> {
  readonly name = "container ports";
  readonly sources = ["links", "ports"] as const;
  /** Links that are or were ports of ours, by their ifindexes. */
  #members: ReadonlySet<number> | undefined;

  constructor(private readonly nl: NetlinkSocket) {}

  desired(): ReadonlySet<number> {
    return this.#members ?? new Set();
  }

  observe(): Link[] {
    const links = linkList(this.nl);
    const bridge = links.find(({ name }) => name === BRIDGE)?.index;
    const before = this.#members;
    const isMember = ({ index, name, master, alias }: Link) =>
      isContainerVeth(name) &&
      // One gets its alias when it becomes a port: at the start nobody else knows that it was one.
      ((bridge !== undefined && master === bridge) || (before ? before.has(index) : isVethAlias(alias)));
    this.#members = new Set(links.filter(isMember).map(({ index }) => index));
    return links;
  }

  difference(_: ReadonlySet<number>, links: readonly Link[]): MemberChange[] {
    const bridge = links.find(({ name }) => name === BRIDGE)?.index;
    if (bridge === undefined) return [];
    return links
      .filter(({ index, master }) => this.#members?.has(index) && master === undefined)
      .map((link) => ({ object: `link ${link.name}`, wrong: `no port of ${BRIDGE}`, link, bridge }));
  }

  apply(changes: readonly MemberChange[]): void {
    for (const { link, bridge } of changes) {
      linkSet(this.nl, link.name, link.index, { master: bridge, up: true });
    }
  }
}
