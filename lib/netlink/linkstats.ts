// Counters of links by rtnetlink(7): RTM_GETSTATS and struct rtnl_link_stats64 (linux/if_link.h), since Linux 4.7.
import { viewOf } from "../bytes/view.ts";
import { decodeAttributes } from "./attributes.ts";
import type { NetlinkSocket } from "./socket.ts";

const RTM_GETSTATS = 94;
/** struct if_stats_msg: family (1 byte), padding (3), ifindex (4), filter mask (4). */
const HEADER = 12;
const IFINDEX = 4;
const FILTER_MASK = 8;
const IFLA_STATS_LINK_64 = 1;

/** Counters of a link since it was made, from its own point of view. */
export interface LinkCounters {
  readonly receivedPackets: number;
  readonly sentPackets: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly receivedDropped: number;
  readonly sentDropped: number;
}

/** Offsets in struct rtnl_link_stats64, in 64-bit words. */
const WORDS = {
  receivedPackets: 0,
  sentPackets: 1,
  receivedBytes: 2,
  sentBytes: 3,
  receivedDropped: 6,
  sentDropped: 7,
} as const;
const NEEDED = 8 * 8;

/** Return the counters of all links of the namespace, by ifindex. The answer has about 250 bytes a link. */
export function linkCounters(nl: NetlinkSocket): Map<number, LinkCounters> {
  const body = new Uint8Array(HEADER);
  new DataView(body.buffer).setUint32(FILTER_MASK, 1 << (IFLA_STATS_LINK_64 - 1), true);
  const found = new Map<number, LinkCounters>();
  for (const message of nl.dump({ operation: "link counters", type: RTM_GETSTATS, body })) {
    const counters = decodeCounters(message.body);
    if (counters) found.set(counters.index, counters.counters);
  }
  return found;
}

/** Read the body of an RTM_NEWSTATS; undefined where it has no counters. */
function decodeCounters(body: Uint8Array): { index: number; counters: LinkCounters } | undefined {
  if (body.length < HEADER) return undefined;
  const index = viewOf(body).getUint32(IFINDEX, true);
  const payload = decodeAttributes(body.subarray(HEADER)).get(IFLA_STATS_LINK_64)?.payload;
  if (!payload || payload.length < NEEDED) return undefined;
  const view = viewOf(payload);
  // Exact up to 2^53: 9 petabytes.
  const word = (place: number) => Number(view.getBigUint64(place * 8, true));
  return {
    index,
    counters: {
      receivedPackets: word(WORDS.receivedPackets),
      sentPackets: word(WORDS.sentPackets),
      receivedBytes: word(WORDS.receivedBytes),
      sentBytes: word(WORDS.sentBytes),
      receivedDropped: word(WORDS.receivedDropped),
      sentDropped: word(WORDS.sentDropped),
    },
  };
}
