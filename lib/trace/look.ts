// Capture on one host's part of a path while probes pass, here and for other hosts' questions.
import type { IPv4 } from "../address/ipv4.ts";
import type { Clock } from "../clock/clock.ts";
import { sleep } from "../clock/clock.ts";
import { bridgeAddresses } from "../host/bridge.ts";
import { BRIDGE } from "../host/names.ts";
import { linkByName } from "../netlink/link.ts";
import type { TracedDrop } from "../netlink/nftables/trace.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns } from "../sys/netns.ts";
import { type Capture, capture, type Sighting } from "./capture.ts";
import { endState, guardAt, NOTHING_DROPPED } from "./endstate.ts";
import { forwarding, overlayLinks } from "./forwarding.ts";
import type { Place } from "./places.ts";
import type { Probe } from "./probe.ts";
import { describeDrops, followRules, isolation } from "./rules.ts";
import type { Point, Seen, Side } from "./side.ts";
import { Sightings } from "./sightings.ts";

/** Interval of looking for what was seen; for another host's question, of which there may be several. */
const LOOK_MS = 3;
const LOOK_FOR_OTHERS_MS = 25;
/** Wait for packets that follow an answer. */
const SETTLE_MS = 30;
/** Dropped probes after which a capture ends, except at the sender. */
const DROPS = 3;

export interface LookOptions {
  /** The address of this host's end. */
  readonly address: IPv4;
  /** That end; undefined where no container has the address. */
  readonly place: Place | undefined;
  readonly probe: Probe;
  /** Trace the probe through the rules; only one capture on a host can. */
  readonly rules: boolean;
  /** End the capture before its timeout. */
  done(seen: readonly Seen[]): boolean;
  /** Whether the capture is to go on after its timeout. */
  waits?(): boolean;
  /** Called once the capture runs; to send probes. */
  begun?(): void;
}

/** Capture for up to `ms`; resolve with this host's part of the path. Reject with SysError or NetlinkError. */
export async function look(looking: LookOptions, clock: Clock, ms: number): Promise<Side> {
  const { address, place, probe } = looking;
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const before = place ? guardAt(host, place.port).dropped : NOTHING_DROPPED;
  const trace = looking.rules ? followRules(probe) : "followed by the other end";
  const captures: { capture: Capture; seen: (sighting: Sighting) => Seen }[] = [];
  const seen = new Sightings();
  const drops: TracedDrop[] = [];
  const collect = () => {
    for (const each of captures) for (const sighting of each.capture.read()) seen.add(each.seen(sighting));
    if (typeof trace !== "string") drops.push(...trace.read());
    return seen.all;
  };
  try {
    captures.push({ capture: capture(probe), seen: hostPoints(host, place) });
    if (place)
      captures.push({ capture: inNetns(place.container.netns, () => capture(probe)), seen: inside(place) });
    looking.begun?.();
    const end = clock.now() + ms;
    const dropped = () => looking.begun === undefined && drops.filter(({ forth }) => forth).length >= DROPS;
    const interval = looking.begun ? LOOK_MS : LOOK_FOR_OTHERS_MS;
    const lasts = () => clock.now() < end || looking.waits?.() === true;
    while (lasts() && !looking.done(collect()) && !dropped()) await sleep(clock, interval);
    await sleep(clock, SETTLE_MS);
    const all = collect();
    const other = address === probe.source ? probe.destination : probe.source;
    const state = place ? stateOf(host, place, other, before) : null;
    return {
      end: state,
      exposed: bridgeAddresses(host).some((cidr) => cidr.address === address),
      seen: all,
      drops: describeDrops(drops),
      unfiltered: typeof trace === "string" ? trace : null,
      policies: isolation(address),
      forward: forwarding(host, state?.neighbour?.mac ?? undefined),
    };
  } finally {
    for (const each of captures) each.capture.close();
    if (typeof trace !== "string") trace.close();
  }
}

/** Return null if the container has gone meanwhile. */
function stateOf(...args: Parameters<typeof endState>): Side["end"] {
  try {
    return endState(...args);
  } catch (error) {
    if (error instanceof Error && error.name === "NetnsError") return null;
    throw error;
  }
}

/** Return a function that maps links of the host to points of the path. */
function hostPoints(host: NetlinkSocket, place: Place | undefined): (sighting: Sighting) => Seen {
  const points = new Map<number, { point: Point; link: string }>();
  for (const { index, name } of overlayLinks(host)) points.set(index, { point: "overlay", link: name });
  const bridge = linkByName(host, BRIDGE);
  if (bridge) points.set(bridge.index, { point: "bridge", link: bridge.name });
  if (place) points.set(place.port.index, { point: "port", link: place.port.name });
  return ({ link, sign, out }) => {
    const { point, link: name } = points.get(link) ?? { point: "elsewhere", link: String(link) };
    return { point, sign, out, link: name };
  };
}

function inside({ container }: Place): (sighting: Sighting) => Seen {
  return ({ link, sign, out }) => ({
    point: link === container.link.index ? "inside" : "elsewhere",
    sign,
    out,
    link: link === container.link.index ? container.link.name : String(link),
  });
}
