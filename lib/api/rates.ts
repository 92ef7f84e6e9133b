// Rates of containers' links: two samples of their counters and the time between them. Pure.
import type { Shape, Top } from "./shapes.ts";
import type { TrafficSample } from "./traffic.ts";

type Link = TrafficSample["links"][number];
type Row = Shape<typeof Top>["containers"][number];

/** Names of containers by their ids. */
export type Names = ReadonlyMap<string, string>;

const RATES = {
  receivedBytesPerS: "receivedBytes",
  sentBytesPerS: "sentBytes",
  receivedPacketsPerS: "receivedPackets",
  sentPacketsPerS: "sentPackets",
} as const;

/** Containers, those with the most traffic first; `seconds` have gone by since the sample `before`. */
export function topOf(
  now: TrafficSample,
  before: TrafficSample,
  seconds: number,
  names: Names,
): Shape<typeof Top> {
  const old = new Map(before.links.map((link) => [keyOf(link), link]));
  const containers = now.links.map((link) => rowOf(link, old.get(keyOf(link)), seconds, names));
  const traffic = ({ receivedBytesPerS, sentBytesPerS }: Row) => receivedBytesPerS + sentBytesPerS;
  const total = ({ receivedBytes, sentBytes }: Row) => receivedBytes + sentBytes;
  containers.sort((a, b) => traffic(b) - traffic(a) || total(b) - total(a) || a.name.localeCompare(b.name));
  const { name, nickname, peers } = now;
  return { name, nickname, peers, containers };
}

/** A container that was restarted has another link. */
const keyOf = ({ port, index, id }: Link) => `${id} ${port} ${index}`;

function rowOf(link: Link, before: Link | undefined, seconds: number, names: Names): Row {
  const { port: _port, index: _index, ...counters } = link;
  const rate = (counter: (typeof RATES)[keyof typeof RATES]) => {
    const grown = link[counter] - (before?.[counter] ?? 0);
    // A link made anew under the same number begins at 0.
    return before && grown > 0 && seconds > 0 ? Math.round(grown / seconds) : 0;
  };
  return {
    ...counters,
    name: names.get(link.id) ?? (link.id.slice(0, ID_SHOWN) || link.port),
    receivedBytesPerS: rate(RATES.receivedBytesPerS),
    sentBytesPerS: rate(RATES.sentBytesPerS),
    receivedPacketsPerS: rate(RATES.receivedPacketsPerS),
    sentPacketsPerS: rate(RATES.sentPacketsPerS),
    newlyDropped: Math.max(0, dropped(link) - (before ? dropped(before) : 0)) * Number(before !== undefined),
  };
}

const ID_SHOWN = 12;
const dropped = ({ receivedDropped, sentDropped }: Link) => receivedDropped + sentDropped;
