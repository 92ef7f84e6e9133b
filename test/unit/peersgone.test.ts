// Log lines on peers that became unreachable: a crowd, which a liar can make up, is counted.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import type { Peer } from "../../lib/mesh/peer.ts";
import { peersGoneLog } from "../../lib/mesh/peersgonelog.ts";

test("50 peers are named within a minute, the others counted, and then 50 again", () => {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const counted: string[] = [];
  const named = peersGoneLog(
    clock,
    logTo((_level, _text, fields) => lines.push(String(fields["peer"]))),
    (_kind, text) => counted.push(text),
  );
  const gone = (crowd: readonly Peer[]) => [...named(crowd)];
  const peers = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => `peer ${from + i}` as unknown as Peer);
  gone(peers(0, 30));
  clock.advance(60_000);
  gone(peers(30, 60));
  expect([lines.length, lines.at(-1), counted]).toEqual([
    50,
    "peer 49",
    ["removed 10 more unreachable peers"],
  ]);
  gone(peers(60, 61));
  expect([lines.length, counted.length]).toEqual([50, 2]);
  clock.advance(1);
  gone(peers(61, 112));
  expect([lines.length, lines.at(-1), counted.at(-1)]).toEqual([
    ...[100, "peer 110", "removed 1 more unreachable peers"],
  ]);
});
