// Result of a run of probes as text: loss, round-trip time, MTU, the direction at fault, and the remedy. Pure.
import { ETHERNET_HEADER } from "../address/mac.ts";
import type { Pings, Shape } from "../api/shapes.ts";
import type { Arrived } from "../overlay/probe/probes.ts";
import type { RunResult } from "../overlay/probe/run.ts";
import { refusal } from "../overlay/refusal.ts";

export type Ping = Shape<typeof Pings>[number];
export type PingWay = Ping["overlays"][number];

export interface RunFacts {
  readonly overlay: string;
  /** The overlay that carries the echoes; undefined if the peer does not say. */
  readonly back: string | undefined;
  readonly inUse: boolean;
  /** Names of the peer and of this host in texts. */
  readonly peer: string;
  readonly here: string;
  /** Name of the peer that relays frames; undefined for a neighbour. */
  readonly via: string | undefined;
  readonly result: RunResult;
  /** What has arrived at the peer; undefined if it does not say. */
  readonly arrived: Arrived | undefined;
  /** Largest packet that was tried, in bytes. */
  readonly mtu: number;
  /** UDP port of the overlay. */
  readonly port: number;
}

/** Return the result of one overlay to one peer. */
export function wayOf(facts: RunFacts): PingWay {
  const { overlay, inUse, result } = facts;
  const { roundTrips } = result;
  const round = (ms: number | undefined) => Math.round((ms ?? 0) * 1000) / 1000;
  const trouble = troubleOf(facts);
  return {
    overlay,
    inUse,
    sent: result.sent,
    received: result.received,
    roundTripMs:
      roundTrips.length === 0
        ? null
        : { min: round(roundTrips[0]), median: round(median(roundTrips)), max: round(roundTrips.at(-1)) },
    mtu: result.mtu ?? null,
    problem: trouble?.problem ?? null,
    remedy: trouble?.remedy ?? null,
  };
}

/** Return the median of ascending numbers. */
function median(sorted: readonly number[]): number | undefined {
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  const lower = sorted[Math.ceil(middle) - 1];
  return upper === undefined || lower === undefined ? upper : (upper + lower) / 2;
}

interface Trouble {
  readonly problem: string;
  readonly remedy: string;
}

function troubleOf(facts: RunFacts): Trouble | undefined {
  const { result, mtu } = facts;
  if (result.received === 0) return silence(facts);
  if (result.received < result.sent) return loss(facts);
  return result.mtu !== undefined && result.mtu < mtu ? small(facts, result.mtu) : undefined;
}

function silence(facts: RunFacts): Trouble {
  const { overlay, peer, here, result, arrived, port } = facts;
  if (result.errno !== 0) {
    const { reason, remedy } = refusal(`${here} cannot send`, result.errno, port);
    return { problem: reason, remedy };
  }
  if (arrived?.probes === 0)
    return { problem: `no frame by ${overlay} arrives at ${peer}`, remedy: unblock(facts, here, peer) };
  if (arrived) {
    return {
      problem: `frames by ${overlay} arrive at ${peer}, and none comes back`,
      remedy: unblock(facts, peer, here),
    };
  }
  return { problem: `no frame by ${overlay} is answered`, remedy: unblock(facts, here, peer) };
}

/** Heartbeats of the fast datapath pass filters that drop the frames of VXLAN links. */
function unblock({ overlay, port, via }: RunFacts, from: string, to: string): string {
  if (via !== undefined) return `'weave ping' on ${via}, which passes the frames on, shows the part at fault`;
  const open = `open UDP ${port} from ${from} to ${to}, in the firewalls of both and on the way`;
  if (overlay !== "fastdp") return open;
  return `${open}; if it is open, find what drops VXLAN alone: 'nft list ruleset', 'tc filter show dev vxlan-${port} egress'`;
}

function loss({ peer, result, arrived }: RunFacts): Trouble {
  const lost = result.sent - result.received;
  const there = Math.max(0, result.sent - (arrived?.probes ?? 0));
  const back = Math.max(0, lost - there);
  const where = arrived === undefined ? "" : `: ${there} on the way to ${peer}, ${back} on the way back`;
  return {
    problem: `${lost} of ${result.sent} frames are lost${where}`,
    remedy: "look for errors, drops and full queues on the links between the hosts: 'ip -s link' on both",
  };
}

function small({ overlay, back, peer, arrived, mtu }: RunFacts, passes: number): Trouble | undefined {
  const isBack = arrived !== undefined && arrived.largest >= mtu + ETHERNET_HEADER;
  // Sleeve loses no larger packet: it fragments it, or answers 'fragmentation needed'.
  if ((isBack ? (back ?? overlay) : overlay) === "sleeve") return undefined;
  return {
    problem: `packets over ${passes} bytes are lost on the way ${isBack ? "back from" : "to"} ${peer}; the network's MTU is ${mtu}`,
    remedy: `launch all hosts with --mtu ${passes}, or raise the MTU of the links between them`,
  };
}

/** Return the result of a peer to which nothing was sent. */
export function unpinged(
  peer: { name: string; nickname: string },
  networkMtu: number,
  why: { problem: string; remedy: string } | { note: string },
): Ping {
  const wrong = "problem" in why ? why : { problem: null, remedy: null };
  const note = "note" in why ? why.note : null;
  return { peer, via: null, networkMtu, overlays: [], ...wrong, note };
}
