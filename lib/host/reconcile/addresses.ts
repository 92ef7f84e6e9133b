// The addresses of the bridge, and their connected routes, as desired state. Others' addresses stay.
import { type Cidr, formatCidr, subnetOf } from "../../address/ipv4.ts";
import { addressAdd, addressDelete, addressList } from "../../netlink/address.ts";
import { type Link, linkByName } from "../../netlink/link.ts";
import { type Route, routeList, routeReplace } from "../../netlink/route.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { announce } from "../arp.ts";
import { requireBridge } from "../bridge.ts";
import { BRIDGE } from "../names.ts";
import type { Change, Resource } from "./resource.ts";

export interface DesiredAddresses {
  readonly wanted: readonly Cidr[];
  /** Addresses to remove from the bridge. */
  readonly unwanted: readonly Cidr[];
}

interface AddressChange extends Change {
  readonly bridge: Link;
  readonly cidr: Cidr;
  readonly add: boolean;
}

interface Found<T> {
  readonly bridge: Link;
  readonly present: readonly T[];
}

export class Addresses implements Resource<DesiredAddresses, Found<Cidr>, AddressChange> {
  readonly name = "addresses";
  readonly sources = ["links", "addresses"] as const;

  constructor(
    private readonly nl: NetlinkSocket,
    readonly desired: () => DesiredAddresses,
  ) {}

  observe(): Found<Cidr> {
    const bridge = requireBridge(this.nl);
    return { bridge, present: addressList(this.nl, bridge.index).map(({ cidr }) => cidr) };
  }

  difference({ wanted, unwanted }: DesiredAddresses, { bridge, present }: Found<Cidr>): AddressChange[] {
    const keys = new Set(present.map(formatCidr));
    const change = (cidr: Cidr, wrong: string, add: boolean) => {
      return { object: `address ${formatCidr(cidr)} on ${BRIDGE}`, wrong, bridge, cidr, add };
    };
    return [
      ...wanted.filter((cidr) => !keys.has(formatCidr(cidr))).map((cidr) => change(cidr, "missing", true)),
      ...unwanted
        .filter((cidr) => keys.has(formatCidr(cidr)))
        .map((cidr) => change(cidr, "still there", false)),
    ];
  }

  apply(changes: readonly AddressChange[]): void {
    for (const { bridge, cidr, add } of changes) {
      if (add) addressAdd(this.nl, BRIDGE, bridge.index, cidr);
      else addressDelete(this.nl, BRIDGE, bridge.index, cidr);
    }
    const added = changes.find(({ add }) => add);
    if (added) announce(this.nl, added.bridge);
  }
}

interface RouteChange extends Change {
  readonly route: Route;
}

/** The connected routes: the kernel adds them with an address, and never again. */
export class ConnectedRoutes implements Resource<readonly Cidr[], Found<Route> | undefined, RouteChange> {
  readonly name = "routes";
  readonly sources = ["links", "addresses", "routes"] as const;

  constructor(
    private readonly nl: NetlinkSocket,
    /** The addresses of the bridge. */
    readonly desired: () => readonly Cidr[],
    /** Bytes that the network carries; undefined where the bridge has that MTU. */
    private readonly mtu: () => number | undefined = () => undefined,
  ) {}

  observe(addresses: readonly Cidr[]): Found<Route> | undefined {
    const bridge = addresses.length === 0 ? undefined : linkByName(this.nl, BRIDGE);
    return bridge && { bridge, present: routeList(this.nl, { link: bridge.index }) };
  }

  difference(addresses: readonly Cidr[], found: Found<Route> | undefined): RouteChange[] {
    if (!found) return [];
    const mtu = this.mtu();
    const present = new Map(
      found.present
        .filter(({ gateway }) => gateway === undefined)
        .map((route) => [formatCidr(route.destination), route]),
    );
    const done = new Set<string>();
    return addresses.flatMap((cidr) => {
      const destination = subnetOf(cidr);
      const key = formatCidr(destination);
      // One for all addresses of a subnet; the kernel adds none for a /32.
      if (cidr.prefix === 32 || done.has(key)) return [];
      done.add(key);
      const there = present.get(key);
      if (there && there.mtu === mtu) return [];
      const route = { destination, link: found.bridge.index, connected: cidr.address, mtu };
      const wrong = there
        ? `of MTU ${there.mtu ?? "of the link"} instead of ${mtu ?? "that of the link"}`
        : "missing";
      return [{ object: `route ${key} dev ${BRIDGE}`, wrong, route }];
    });
  }

  apply(changes: readonly RouteChange[]): void {
    for (const { route } of changes) routeReplace(this.nl, route);
  }
}
