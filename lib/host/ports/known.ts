// Containers' links as desired: the host's end as it was when first seen complete, and the container's end with addresses and
// routes. Pure.
import type { IPv4 } from "../../address/ipv4.ts";
import { formatCidr, formatIPv4 } from "../../address/ipv4.ts";
import { type BridgePort, NEW_PORT } from "../../netlink/link/bridgeport.ts";
import type { Link } from "../../netlink/link.ts";
import type { Route } from "../../netlink/route.ts";
import type { AttachedContainer } from "../containers.ts";
import { type AttachmentName, isContainerVeth, ownerOf } from "../names.ts";
import { portDifference, settingText } from "../reconcile/bridgeport.ts";

/** Time in which a link on the bridge may still be without its alias. */
const MAKING_MS = 2_000;
/** The same for a link that is not on the bridge yet: a CNI plugin that gets little CPU time needs long to attach it. */
const JOINING_MS = 60_000;

/** What the router knows of an address. */
export interface AddressBook {
  holderOf(address: IPv4): string | undefined;
  /** It was released, and waits for its link to go. */
  isGivenBack(address: IPv4): boolean;
}

/** Return the desired settings of a port: the kernel's defaults, but for hairpin mode. */
export function desiredPort({ bridgePort }: Link): BridgePort {
  return { ...NEW_PORT, hairpin: bridgePort?.hairpin ?? false };
}

export interface KnownLink {
  /** The host's end as desired; the reference to its other end as it is. */
  port: Link;
  owner: AttachmentName | undefined;
  /** Path of the container's namespace when this router attached it. */
  netns: string | undefined;
  /** The container's end; undefined before an inspection, or where its namespace cannot be seen. */
  inside: AttachedContainer | undefined;
  /** Holders of its addresses, as far as the router knows them. */
  holders: ReadonlyMap<IPv4, string>;
  /** What has changed inside, in words. */
  changed: string | undefined;
  /** What is wrong with the host's end and not repaired yet, in words. */
  wrong: string | undefined;
  /** Time of the last inspection, in ms; undefined where one is due. */
  inspectedAt: number | undefined;
  /** The container's end is up. */
  carrier: boolean;
  /** The runtime says that the container has ended. */
  ended: boolean;
  /** The kernel notified of its removal by others. */
  removed: boolean;
  /** Time at which it was first missing. */
  missingSince: number | undefined;
  restoredAt: number | undefined;
  /** After a failure, the time of the next attempt. */
  retryAt: number;
}

/** Links by the ifindex of the host's end. */
export class KnownLinks {
  readonly #known = new Map<number, KnownLink>();
  /** Times at which links that may be incomplete were first seen. */
  #making = new Map<number, number>();

  get(index: number): KnownLink | undefined {
    return this.#known.get(index);
  }

  all(): KnownLink[] {
    return [...this.#known.values()];
  }

  forget(index: number): void {
    this.#known.delete(index);
  }

  /**
   * Add links that are complete: those with an alias, and all that have existed for a while (from an original or an older
   * version) while this router attaches nothing. With `atStart`, none is under construction. Return the new ones.
   */
  learn(
    links: Iterable<Link>,
    bridge: number,
    now: number,
    { atStart = false, attaching = false } = {},
  ): KnownLink[] {
    const making = new Map<number, number>();
    const fresh: KnownLink[] = [];
    for (const link of links) {
      if (this.#known.has(link.index) || !isPort(link, bridge)) continue;
      const since = this.#making.get(link.index) ?? now;
      const limit = link.master === bridge ? MAKING_MS : JOINING_MS;
      if (link.alias === undefined && !atStart && (attaching || now - since < limit))
        making.set(link.index, since);
      else fresh.push(newLink(link));
    }
    for (const known of fresh) this.#known.set(known.port.index, known);
    this.#making = making;
    return fresh;
  }
}

/** Whether a link is a port of our bridge, or was until somebody removed the bridge or took the link off. */
function isPort({ kind, name, master, leaving }: Link, bridge: number): boolean {
  return kind === "veth" && isContainerVeth(name) && !leaving && (master === bridge || master === undefined);
}

function newLink(port: Link): KnownLink {
  return {
    port,
    owner: ownerOf(port.alias),
    netns: undefined,
    inside: undefined,
    holders: new Map(),
    changed: undefined,
    wrong: undefined,
    inspectedAt: undefined,
    carrier: port.carrier,
    ended: false,
    removed: false,
    missingSince: undefined,
    restoredAt: undefined,
    retryAt: 0,
  };
}

/** Return what is wrong with the host's end, in words. */
export function portProblems({ port }: KnownLink, now: Link, bridge: Link): string[] {
  const wrong: string[] = [];
  if (now.master !== bridge.index) wrong.push(`off bridge ${bridge.name}`);
  if (!now.up) wrong.push("down");
  if (now.name !== port.name) wrong.push(`renamed to ${now.name}`);
  if (now.mtu !== port.mtu) wrong.push(`MTU ${now.mtu} instead of ${port.mtu}`);
  if (now.alias !== port.alias) wrong.push("without its alias");
  if (now.address !== port.address) wrong.push(`Ethernet address ${now.address} instead of ${port.address}`);
  if (now.master !== bridge.index) return wrong;
  for (const name of Object.keys(portDifference(desiredPort(port), now, bridge)) as (keyof BridgePort)[])
    wrong.push(name === "blocked" ? name : settingText(name, now.bridgePort?.[name] ?? false));
  return wrong;
}

/**
 * Merge what an inspection found. The container may change what is inside: a removed link is restored with what was there
 * first, and with addresses that the router assigned later; what is missing is reported, not put back.
 */
export function mergeInspection(
  known: KnownLink,
  now: AttachedContainer,
  book: Pick<AddressBook, "holderOf">,
  at: number,
): void {
  const before = known.inside;
  known.inspectedAt = at;
  const isNew = !before || before.cookie !== now.cookie || before.inode !== now.inode;
  const addresses = isNew
    ? now.addresses
    : [
        ...before.addresses.filter(
          ({ address }) => !known.holders.has(address) || book.holderOf(address) !== undefined,
        ),
        ...now.addresses.filter(
          ({ address }) =>
            book.holderOf(address) !== undefined && !before.addresses.some((had) => had.address === address),
        ),
      ];
  known.inside = isNew ? now : { ...now, mac: before.mac, addresses, routes: before.routes };
  known.holders = new Map(
    addresses.flatMap(({ address }) => {
      const holder = book.holderOf(address);
      return holder === undefined ? [] : [[address, holder] as const];
    }),
  );
  known.changed = changesInside(known.inside, now, known.holders);
}

function changesInside(
  before: AttachedContainer,
  now: AttachedContainer,
  holders: ReadonlyMap<IPv4, string>,
): string | undefined {
  const changes: string[] = [];
  // The kernel removes the routes of a link that is down.
  if (!now.link.up) return "down inside";
  if (now.mac !== before.mac) changes.push(`Ethernet address ${now.mac} instead of ${before.mac} inside`);
  // Addresses without a holder count only where another IPAM plugin has assigned all of them.
  const ours = before.addresses.filter(({ address }) => holders.size === 0 || holders.has(address));
  const has = (address: IPv4) => now.addresses.some((cidr) => cidr.address === address);
  for (const cidr of ours) if (!has(cidr.address)) changes.push(`no address ${formatCidr(cidr)} inside`);
  for (const route of before.routes)
    if (!now.routes.some((other) => sameRoute(route, other)))
      changes.push(`no route to ${formatRoute(route)} inside`);
  return changes.length === 0 ? undefined : changes.join(", ");
}

const sameRoute = (a: Route, b: Route) =>
  a.destination.address === b.destination.address &&
  a.destination.prefix === b.destination.prefix &&
  a.gateway === b.gateway;

function formatRoute({ destination, gateway }: Route): string {
  const via = gateway === undefined ? "" : ` via ${formatIPv4(gateway)}`;
  return `${formatCidr(destination)}${via}`;
}

/** Whether an address of it was released, or assigned to another holder, since its inspection. */
export function isGivenBack({ inside, holders }: KnownLink, book: AddressBook): boolean {
  return (
    [...holders].some(([address, holder]) => book.holderOf(address) !== holder) ||
    (inside?.addresses ?? []).some(({ address }) => book.isGivenBack(address))
  );
}
