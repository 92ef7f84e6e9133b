// Changes of links, addresses, routes, settings and traffic control by rtnetlink(7) multicast, on one socket. Hosts have many
// links that do not concern us, so only a few attributes are read.
import { viewOf } from "../bytes/view.ts";
import type { Watch } from "../sys/readable.ts";
import { familyHeader } from "./attributes.ts";
import { isLeavingGroup } from "./link/delete.ts";
import {
  AF_UNSPEC,
  IFINFOMSG,
  IFLA_GROUP,
  IFLA_IFNAME,
  IFLA_MASTER,
  RTM_DELLINK,
  RTM_NEWLINK,
} from "./link/message.ts";
import { listen } from "./listen.ts";
import { type Message, NLM_F_REPLACE } from "./message.ts";
import { NETLINK_ROUTE, openNetlink } from "./socket.ts";

/** RTNLGRP_LINK, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_NETCONF, _IPV6_NETCONF. */
const GROUPS = { links: 1, trafficcontrol: 4, addresses: 5, routes: 7, netconf: 24, netconf6: 25 } as const;

/** What changes, by the families of message types (linux/rtnetlink.h: four to a family). */
const KINDS: Readonly<Record<number, RouteKind>> = {
  16: "links",
  20: "addresses",
  24: "routes",
  36: "trafficcontrol",
  40: "trafficcontrol",
  44: "trafficcontrol",
  80: "netconf",
};

const RTMSG = 12;
const NETCONFMSG = 4;
const RTA_OIF = 4;
const NETCONFA_IFINDEX = 1;

type RouteKind = "links" | "addresses" | "routes" | "netconf" | "trafficcontrol";

/** A change as the kernel reports it. */
export interface RouteEvent {
  readonly kind: RouteKind;
  /** ifindex of the link; undefined where the change is about none, or all. */
  readonly index: number | undefined;
  /** Netlink port of the process that made it; 0 for the kernel itself. */
  readonly port: number;
  /** Of "routes" only: it has replaced another one. */
  readonly replaced: boolean;
  /** Of "links" only: the state of the link. */
  readonly link: LinkEvent | undefined;
}

interface LinkEvent {
  readonly name: string;
  readonly master: number | undefined;
  /** The link is gone; leaving a bridge is no removal. */
  readonly removed: boolean;
  /** We are removing it, or have. */
  readonly leaving: boolean;
}

export interface RouteListener {
  changed(event: RouteEvent): void;
  /** Messages were lost: read all state anew. */
  lost(): void;
}

/** Watches the namespace that this thread is in at the start, for several listeners. */
export class RouteMonitor {
  readonly #listeners = new Set<RouteListener>();
  readonly #watch: Watch;

  /** `failed` is called where the watch has failed; it begins again. */
  constructor(failed: (error: Error) => void) {
    this.#watch = listen(() => openNetlink("rtnetlink monitor", NETLINK_ROUTE, Object.values(GROUPS)), {
      message: (message) => {
        const event = decodeEvent(message);
        if (event) for (const listener of this.#listeners) listener.changed(event);
      },
      lost: () => {
        for (const listener of this.#listeners) listener.lost();
      },
      failed,
    });
  }

  /** Add a listener, until that is closed. */
  add(listener: RouteListener): { close(): void } {
    this.#listeners.add(listener);
    return {
      close: () => {
        this.#listeners.delete(listener);
      },
    };
  }

  stop(): void {
    this.#watch.stop();
  }
}

/** Read a notification; undefined for one of another kind. Throws AttributeError where it is cut. */
export function decodeEvent(message: Message): RouteEvent | undefined {
  const { type, flags, port, body } = message;
  const kind = KINDS[type & ~3];
  if (kind === undefined) return undefined;
  const view = viewOf(body);
  const about = (index: number | undefined) => ({
    kind,
    index,
    port,
    replaced: kind === "routes" && (flags & NLM_F_REPLACE) !== 0,
    link: undefined,
  });
  if (kind === "addresses" || kind === "trafficcontrol") return about(indexIn(body));
  if (kind === "routes") return about(u32(view, find(view, RTMSG, RTA_OIF)));
  if (kind === "netconf") {
    // "all" and "default" have negative numbers.
    const index = u32(view, find(view, NETCONFMSG, NETCONFA_IFINDEX));
    return about(index !== undefined && index < 2 ** 31 ? index : undefined);
  }
  if (type !== RTM_NEWLINK && type !== RTM_DELLINK) return undefined;
  const name = find(view, IFINFOMSG, IFLA_IFNAME);
  return {
    kind,
    index: indexIn(body),
    port,
    replaced: false,
    link: {
      name: name ? text(body.subarray(name.at, name.at + name.length)) : "",
      master: u32(view, find(view, IFINFOMSG, IFLA_MASTER)),
      removed: type === RTM_DELLINK && body[0] === AF_UNSPEC,
      leaving: isLeavingGroup(u32(view, find(view, IFINFOMSG, IFLA_GROUP)) ?? 0),
    },
  };
}

/** The ifindex is at the same place in struct ifinfomsg, ifaddrmsg and tcmsg. */
const indexIn = (body: Uint8Array) => familyHeader(body, 8).getInt32(4, true);

interface Found {
  readonly at: number;
  readonly length: number;
}

/** Return the payload of the first attribute of a type, behind a header. */
function find(view: DataView, header: number, type: number): Found | undefined {
  for (let at = header; at + 4 <= view.byteLength; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > view.byteLength) return undefined;
    if ((view.getUint16(at + 2, true) & 0x3fff) === type) return { at: at + 4, length: length - 4 };
    at += (length + 3) & ~3;
  }
  return undefined;
}

function u32(view: DataView, found: Found | undefined): number | undefined {
  return found && found.length >= 4 ? view.getUint32(found.at, true) : undefined;
}

/** Return text up to its terminating zero. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString();
}
