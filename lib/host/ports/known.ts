// Containers' links as they are to be: the host's end as it was when it was first seen complete, and the container's end
// with addresses and routes. Pure.
import type { IPv4 } from "../../address/ipv4.ts";
import { formatCidr, formatIPv4 } from "../../address/ipv4.ts";
import { type BridgePort, NEW_PORT } from "../../netlink/link/bridgeport.ts";
import type { Link } from "../../netlink/link.ts";
import type { Route } from "../../netlink/route.ts";
import type { AttachedContainer } from "../containers.ts";
import { type AttachmentName, isContainerVeth, ownerOf } from "../names.ts";
import { portDifference, settingText } from "../reconcile/bridgeport.ts";

/** How long a link without an alias may still be in the making. */
const MAKING_MS = 2_000;

/** What the router has on an address. */
export interface AddressBook {
  holderOf(address: IPv4): string | undefined;
  /** It was given back, and waits for its link to go. */
  isGivenBack(address: IPv4): boolean;
}

/** What a port of a container is to be: as the kernel makes it, but for hairpin mode. */
export function desiredPort({ bridgePort }: Link): BridgePort {
  return { ...NEW_PORT, hairpin: bridgePort?.hairpin ?? false };
}

export interface KnownLink {
  /** The host's end as it is to be; its other end as it is. */
  port: Link;
  readonly owner: AttachmentName | undefined;
  /** The container's end; undefined where nobody has looked, or its namespace cannot be seen. */
  inside: AttachedContainer | undefined;
  /** Who holds its addresses, of those that the router knows. */
  holders: ReadonlyMap<IPv4, string>;
  /** What is not as it was inside, in words. */
  changed: string | undefined;
  /** What is wrong with the host's end and could not be put right yet, in words. */
  wrong: string | undefined;
  /** When it was looked into last, in milliseconds; undefined where it has to be, now. */
  lookedAt: number | undefined;
  /** Its container's end is up. */
  carrier: boolean;
  /** Its runtime says that the container has ended. */
  ended: boolean;
  /** The kernel told of its removal, which was not ours. */
  removed: boolean;
  /** When it was first missing. */
  missingSince: number | undefined;
  restoredAt: number | undefined;
  /** After a failure: not before this is it tried again. */
  retryAt: number;
}

/** Links by the ifindex of the host's end. */
export class KnownLinks {
  readonly #known = new Map<number, KnownLink>();
  /** When links that may not be complete were first seen. */
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
   * Takes in links that are complete: those with an alias, and all that have been there for a while (from an original or
   * an older version). `atStart` there is none in the making. Returns those that are new.
   */
  learn(links: Iterable<Link>, bridge: number, now: number, atStart = false): KnownLink[] {
    const making = new Map<number, number>();
    const fresh: KnownLink[] = [];
    for (const link of links) {
      if (this.#known.has(link.index) || !isPort(link, bridge)) continue;
      const since = this.#making.get(link.index) ?? now;
      if (link.alias === undefined && !atStart && now - since < MAKING_MS) making.set(link.index, since);
      else fresh.push(newLink(link));
    }
    for (const known of fresh) this.#known.set(known.port.index, known);
    this.#making = making;
    return fresh;
  }
}

/** On our bridge, or on none: it was removed, or somebody took the link off. */
function isPort({ kind, name, master, leaving }: Link, bridge: number): boolean {
  return kind === "veth" && isContainerVeth(name) && !leaving && (master === bridge || master === undefined);
}

function newLink(port: Link): KnownLink {
  return {
    port,
    owner: ownerOf(port.alias),
    inside: undefined,
    holders: new Map(),
    changed: undefined,
    wrong: undefined,
    lookedAt: undefined,
    carrier: port.carrier,
    ended: false,
    removed: false,
    missingSince: undefined,
    restoredAt: undefined,
    retryAt: 0,
  };
}

/** What is wrong with the host's end, in words; empty where all is right. */
export function wrongAt({ port }: KnownLink, now: Link, bridge: Link): string[] {
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
 * Takes in what is inside now. The container may change it: what is to come back with a lost link is what was there at
 * first, and addresses that the router gave later; what is missing of it is told, not put back.
 */
export function lookedInside(
  known: KnownLink,
  now: AttachedContainer,
  book: Pick<AddressBook, "holderOf">,
  at: number,
): void {
  const before = known.inside;
  known.lookedAt = at;
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
  // The kernel takes routes away from a link that is down.
  if (!now.link.up) return "down inside";
  if (now.mac !== before.mac) changes.push(`Ethernet address ${now.mac} instead of ${before.mac} inside`);
  // Addresses that nobody holds by our books are ours only where another IPAM plugin has given all of them.
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

/** Whether an address of it was given back, or to somebody else, since it was looked into. */
export function isGivenBack({ inside, holders }: KnownLink, book: AddressBook): boolean {
  return (
    [...holders].some(([address, holder]) => book.holderOf(address) !== holder) ||
    (inside?.addresses ?? []).some(({ address }) => book.isGivenBack(address))
  );
}
