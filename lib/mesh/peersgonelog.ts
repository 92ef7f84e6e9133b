// Log lines on peers that became unreachable: a few are named; crowds, which a liar can make up, are counted.
import type { Clock } from "../clock/clock.ts";
import type { Work } from "../clock/slices.ts";
import type { Log } from "../log/log.ts";
import type { Peer } from "./peer.ts";

const MAX_NAMED = 50;
const INTERVAL_MS = 60_000;

/** Return a function whose work logs MAX_NAMED peers within INTERVAL_MS, and the number of others by `warn`. */
export function peersGoneLog(clock: Clock, log: Log, warn: (kind: string, text: string) => void) {
  let since = Number.NEGATIVE_INFINITY;
  let count = 0;
  return function* (peers: readonly Peer[]): Work {
    if (clock.now() - since > INTERVAL_MS) {
      since = clock.now();
      count = 0;
    }
    const named = peers.slice(0, MAX_NAMED - count);
    count += named.length;
    const others = peers.length - named.length;
    // To find a crowd has taken this turn of the event loop.
    if (others > 0) yield 0;
    for (const peer of named) {
      log.info("removed an unreachable peer", { peer: `${peer}` });
      yield;
    }
    if (others > 0) warn("gone", `removed ${others} more unreachable peers`);
  };
}
