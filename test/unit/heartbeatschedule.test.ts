// When heartbeats of the fast datapath are due.
import { describe, expect, test } from "bun:test";
import { HeartbeatSchedule, type PathState } from "../../lib/overlay/fastdp/schedule.ts";

const NEW: PathState = { established: false, troubled: false, active: false };
const IDLE: PathState = { ...NEW, established: true };
const ACTIVE: PathState = { ...IDLE, active: true };
const TROUBLED: PathState = { ...IDLE, troubled: true };

/** Times of the first heartbeats of a schedule that was just asked for one, in ms. */
function times(schedule: HeartbeatSchedule, path: PathState, until: number): number[] {
  schedule.hurry();
  const due: number[] = [];
  for (let now = 0; now <= until; now += 100) if (schedule.next(now, path)) due.push(now);
  return due;
}

const made = (acknowledges: boolean, change: Partial<HeartbeatSchedule> = {}) =>
  Object.assign(new HeartbeatSchedule(acknowledges), { acknowledged: true }, change);

describe("heartbeats are due", () => {
  test.each<[string, HeartbeatSchedule, PathState, number[]]>([
    ["fast until the first is acknowledged", new HeartbeatSchedule(true), NEW, [0, 500, 1_000]],
    ["slowly on an idle path", made(true), IDLE, [0, 10_000]],
    ["each second while frames come", made(true), ACTIVE, [0, 1_000, 2_000]],
    ["each second in trouble", made(true), TROUBLED, [0, 1_000, 2_000]],
    ["slowly to the original, also in trouble", made(false), TROUBLED, [0, 10_000]],
    ["fast while our kernel refuses them", made(false, { refusals: 1 }), ACTIVE, [0, 500, 1_000]],
    ["slower once that is trouble", made(false, { refusals: 3 }), TROUBLED, [0, 1_000, 2_000]],
    ["late for the first that is missing", made(true, { unacknowledged: 1 }), IDLE, [0, 1_500, 3_000]],
    ["fast for more that are missing", made(true, { unacknowledged: 2 }), IDLE, [0, 500, 1_000]],
    [
      "fast for one that is missing on a busy path",
      made(true, { unacknowledged: 1 }),
      ACTIVE,
      [0, 500, 1_000],
    ],
  ])("%s", (_, schedule, path, expected) => {
    expect(times(schedule, path, 20_000).slice(0, expected.length)).toEqual(expected);
    expect(times(schedule, path, (expected.at(-1) ?? 0) - 100).length).toBe(expected.length - 1);
  });
});

test("one of full length goes every 30 s on an idle path, always on others; close ones follow within 3 s", () => {
  const schedule = made(true);
  const sent = Array.from({ length: 5 }, (_, i) => schedule.next(10_000 * i, IDLE));
  expect(sent.map((each) => each?.whole)).toEqual([true, false, false, true, false]);
  expect(sent.map((each) => each?.close)).toEqual([false, false, false, false, false]);
  expect(schedule.next(41_000, ACTIVE)).toEqual({ whole: true, close: true });
  expect(schedule.next(44_000, ACTIVE)).toEqual({ whole: true, close: false });
});

test("the peer is asked after three heartbeats without an acknowledgement, and one ends that", () => {
  const schedule = made(true, { unacknowledged: 2 });
  expect([schedule.isMissing, schedule.hasToAsk]).toEqual([true, false]);
  schedule.unacknowledged++;
  expect(schedule.hasToAsk).toBe(true);
  schedule.acknowledge();
  expect([schedule.isMissing, schedule.hasToAsk]).toEqual([false, false]);
});
