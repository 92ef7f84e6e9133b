// One host's part of a path: its end (a container, its link, the bridge port), its forwarding maps, and what
// was captured of the probe. Routers exchange it, so the schema is bounded.
import * as v from "valibot";
import { SIGNS } from "./probe.ts";

const text = (length: number) => v.pipe(v.string(), v.maxLength(length));
const nullable = <T extends v.GenericSchema>(schema: T) => v.nullable(schema);
const address = v.pipe(v.string(), v.ipv4());
const mac = v.pipe(v.string(), v.mac48());
const mtu = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff_ffff));

/** A link, inside a container or the host's end of it. */
const LinkState = v.object({
  name: text(15),
  up: v.boolean(),
  /** Both ends are up. */
  carrier: v.boolean(),
  /** Bytes. */
  mtu,
});

/** The container that has the address. */
export const EndState = v.object({
  /** ID of the container; "" if unknown. */
  id: text(256),
  inside: v.object({
    ...LinkState.entries,
    mac: nullable(mac),
    addresses: v.pipe(v.array(text(18)), v.maxLength(256)),
  }),
  /** The host's end; `bridge` is the one it is a port of; `bound` by anti-spoofing to the container's addresses. */
  port: v.object({ ...LinkState.entries, bridge: nullable(text(15)), bound: v.boolean() }),
  /** Inside, to the other end; null where there is no route. */
  route: nullable(v.object({ link: text(15), gateway: nullable(address), source: nullable(address) })),
  /** ARP entry of the next hop. */
  neighbour: nullable(v.object({ address, mac: nullable(mac), failed: v.boolean() })),
  /** Frames of the container that its port has dropped since the probe began. */
  dropped: v.object({ spoofed: v.number(), protocol: v.number(), flood: v.number() }),
});
export type EndState = v.InferOutput<typeof EndState>;

const POINTS = ["inside", "port", "overlay", "bridge", "elsewhere"] as const;
export type Point = (typeof POINTS)[number];

/** A frame of the probe, and where it was captured. */
export const Seen = v.object({
  point: v.picklist(POINTS),
  sign: v.picklist(SIGNS),
  out: v.boolean(),
  /** The link's name. */
  link: text(15),
});
export type Seen = v.InferOutput<typeof Seen>;

/** A rule of nftables, or the policy of a chain, that dropped something of the probe. */
export const Drop = v.object({
  family: text(16),
  table: text(256),
  chain: text(256),
  handle: nullable(text(20)),
  comment: nullable(text(256)),
  /** The probe; else its answer. */
  forth: v.boolean(),
});
export type Drop = v.InferOutput<typeof Drop>;

export const Side = v.object({
  /** Null where no container of this host has the address. */
  end: nullable(EndState),
  /** The address is the host's own on the network. */
  exposed: v.boolean(),
  seen: v.pipe(v.array(Seen), v.maxLength(64)),
  drops: v.pipe(v.array(Drop), v.maxLength(16)),
  /** Why rules could not be followed; null where they were. */
  unfiltered: nullable(text(256)),
  /** weave-npc's tables: whether they isolate the container, by direction, or all containers that wait for policies. */
  policies: nullable(v.object({ ingress: v.boolean(), egress: v.boolean(), defaultDeny: v.boolean() })),
  /** What the kernel forwards frames to the other end by; null where there are no maps. */
  forward: nullable(
    v.object({
      /** Short id of the peer that has the other end's Ethernet address. */
      peer: nullable(v.number()),
      /** Address of the next hop, or "sleeve". */
      hop: nullable(text(15)),
    }),
  ),
});
export type Side = v.InferOutput<typeof Side>;

/** Whether something was seen at a point, going out of it or coming in. */
export function hasSeen(seen: readonly Seen[], point: Point, sign: Seen["sign"], out: boolean): boolean {
  return seen.some((each) => each.point === point && each.sign === sign && each.out === out);
}

/** The same on a host; false where it was not looked at. */
export function saw(side: Side | undefined, point: Point, sign: Seen["sign"], out: boolean): boolean {
  return side !== undefined && hasSeen(side.seen, point, sign, out);
}

/** Whether the probe was answered, or refused, at a point. */
export function hasAnswer(seen: readonly Seen[], point: Point, out: boolean): boolean {
  return hasSeen(seen, point, "answer", out) || hasSeen(seen, point, "refused", out);
}
