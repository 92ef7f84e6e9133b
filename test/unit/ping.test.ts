// Probes without a network: the frame, one run of them, and what is made of its result.
import { describe, expect, test } from "bun:test";
import { ETHERNET_HEADER } from "../../lib/address/mac.ts";
import type { Pings, Shape } from "../../lib/api/shapes.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { hasPingProblem, pingText } from "../../lib/doctor/pingtext.ts";
import { parsePeerName } from "../../lib/mesh/name.ts";
import { decodeProbe, encodeProbe, MIN_PROBE, type ProbeFrame } from "../../lib/overlay/probe/frame.ts";
import { ProbeRun, type RunResult } from "../../lib/overlay/probe/run.ts";
import { wayOf } from "../../lib/router/pingresult.ts";

const FRAME: ProbeFrame = {
  from: parsePeerName("02:00:00:00:00:01"),
  to: parsePeerName("02:00:00:00:00:02"),
  kind: "probe",
  way: "sleeve",
  session: 0x0102030405060708n,
  sequence: 9,
  size: 64,
  dwell: 1_000,
};

describe("the frame", () => {
  test("on the wire", () => {
    expect(Buffer.from(encodeProbe(FRAME)).toString("hex", 0, 40)).toBe(
      "020000000002" +
        "020000000001" +
        "88b5" +
        "01000200" +
        "0102030405060708" +
        "00000009" +
        "0040" +
        "0000" +
        "000003e8" +
        "0000",
    );
    expect(decodeProbe(encodeProbe(FRAME))).toEqual(FRAME);
    expect(decodeProbe(encodeProbe({ ...FRAME, dwell: 1e12 }))?.dwell).toBe(0xffff_ffff);
  });

  test("what is none, or was cut or lengthened on the way", () => {
    const whole = encodeProbe(FRAME);
    expect(decodeProbe(whole.subarray(0, 63))).toBeUndefined();
    expect(decodeProbe(Buffer.concat([whole, Buffer.alloc(1)]))).toBeUndefined();
    for (const at of [12, 14, 15, 16]) {
      const other = whole.slice();
      other[at] = 0xff;
      expect(decodeProbe(other)).toBeUndefined();
    }
    expect(decodeProbe(new Uint8Array(0))).toBeUndefined();
    expect(() => encodeProbe({ ...FRAME, size: MIN_PROBE - 1 })).toThrow(RangeError);
  });
});

/** A run over a path; `answers` decides which probes come back. The peer reads nothing while it is `stalled`. */
function run(
  count: number,
  mtu: number,
  answers: (sequence: number, size: number) => boolean,
  { errno = 0, stalled = { from: 0, to: 0 } } = {},
): RunResult {
  const clock = new SimulatedClock();
  let result: RunResult | undefined;
  const now = () => BigInt(Math.round(clock.now() * 1e6));
  const answer = (then: () => void) => {
    const isStalled = clock.now() >= stalled.from && clock.now() < stalled.to;
    clock.after(isStalled ? stalled.to - clock.now() : 3, then);
  };
  const probes = new ProbeRun({
    clock,
    count,
    mtu,
    now,
    send: (sequence, size) => {
      // There and back in 3 ms, of which the peer had it for 1.
      if (errno === 0 && answers(sequence, size)) answer(() => probes.echo(sequence, size, now(), 1e6));
      return errno;
    },
    settle: answer,
    done: (given) => {
      result = given;
    },
  });
  probes.start();
  clock.advance(20_000);
  if (!result) throw new Error("it has no end");
  return result;
}

describe("a run", () => {
  test("where all is well", () => {
    expect(run(5, 1376, () => true)).toEqual({
      sent: 5,
      received: 5,
      roundTrips: [2, 2, 2, 2, 2],
      mtu: 1376,
      errno: 0,
    });
  });

  test("some are lost, all are lost, none can be sent", () => {
    const some = run(10, 1376, (sequence) => sequence !== 3 && sequence !== 9);
    expect(some).toMatchObject({ sent: 10, received: 8, mtu: 1376 });
    expect(run(10, 1376, () => false)).toEqual({
      sent: 10,
      received: 0,
      roundTrips: [],
      mtu: undefined,
      errno: 0,
    });
    expect(run(10, 1376, () => true, { errno: 100 })).toMatchObject({ received: 0, errno: 100 });
  });

  test.each([552, 553, 1000, 1249, 1375])("large ones are lost over %d bytes", (limit) => {
    expect(run(3, 1376, (_, size) => size <= limit + ETHERNET_HEADER).mtu).toBe(limit);
  });

  test.each([
    ["the short probes", 10, 4_000],
    ["the search for the MTU", 90, 4_000],
    ["the first of both", 0, 5_000],
  ])("a peer that reads %s late loses none", (_, from, to) => {
    const stalled = { from, to };
    expect(run(5, 1376, () => true, { stalled })).toMatchObject({ received: 5, mtu: 1376 });
    const lossy = (sequence: number, size: number) => sequence !== 3 && size <= 1200 + ETHERNET_HEADER;
    expect(run(5, 1376, lossy, { stalled })).toMatchObject({ received: 4, mtu: 1200 });
  });

  test("an echo counts once, and no longer than it took", () => {
    const clock = new SimulatedClock();
    let result: RunResult | undefined;
    const probes = new ProbeRun({
      clock,
      count: 1,
      mtu: 600,
      now: () => BigInt(Math.round(clock.now() * 1e6)),
      send: () => 0,
      settle: (then) => then(),
      done: (given) => {
        result = given;
      },
    });
    probes.start();
    clock.advance(5);
    // A clock that was set, at the other end and at ours.
    probes.echo(0, MIN_PROBE, 10n ** 18n, 0);
    probes.echo(0, MIN_PROBE, 10n ** 18n, 0);
    clock.advance(20_000);
    expect(result).toMatchObject({ sent: 1, received: 1, roundTrips: [5] });
  });
});

describe("what is made of it", () => {
  const result = (given: Partial<RunResult>): RunResult => ({
    sent: 10,
    received: 10,
    roundTrips: [1, 2, 4],
    mtu: 1376,
    errno: 0,
    ...given,
  });
  const way = (
    given: Partial<RunResult>,
    arrived?: { probes: number; largest: number },
    via?: string,
    by: { overlay: string; back?: string } = { overlay: "fastdp" },
  ) =>
    wayOf({
      back: undefined,
      ...by,
      inUse: true,
      peer: "h2",
      here: "this host",
      via,
      result: result(given),
      arrived,
      mtu: 1376,
      port: 6784,
    });

  test.each<[Partial<RunResult>, { probes: number; largest: number } | undefined, string | null]>([
    [{}, { probes: 10, largest: 1390 }, null],
    [{ received: 0, errno: 100 }, { probes: 0, largest: 0 }, "this host cannot send: ENETDOWN"],
    [{ received: 0 }, { probes: 0, largest: 0 }, "no frame by fastdp arrives at h2"],
    [{ received: 0 }, { probes: 9, largest: 60 }, "frames by fastdp arrive at h2, and none comes back"],
    [{ received: 0 }, undefined, "no frame by fastdp is answered"],
    [
      { received: 9 },
      { probes: 10, largest: 1390 },
      "1 of 10 frames are lost: 0 on the way to h2, 1 on the way back",
    ],
    [
      { received: 9 },
      { probes: 9, largest: 1390 },
      "1 of 10 frames are lost: 1 on the way to h2, 0 on the way back",
    ],
    [{ mtu: 1250 }, { probes: 10, largest: 1264 }, "packets over 1250 bytes are lost on the way to h2"],
    [
      { mtu: 1250 },
      { probes: 10, largest: 1390 },
      "packets over 1250 bytes are lost on the way back from h2",
    ],
  ])("%j, %j: %s", (given, arrived, problem) => {
    const made = way(given, arrived);
    if (problem === null) expect(made.problem).toBeNull();
    else expect(made.problem).toStartWith(problem);
    expect(made.remedy === null).toBe(problem === null);
  });

  test("the remedy names the direction, and who passes frames on", () => {
    const none = { received: 0 };
    expect(way(none, { probes: 0, largest: 0 }).remedy).toStartWith("open UDP 6784 from this host to h2");
    expect(way(none, { probes: 9, largest: 60 }).remedy).toStartWith("open UDP 6784 from h2 to this host");
    expect(way(none, { probes: 0, largest: 0 }, "h3").remedy).toStartWith("'weave ping' on h3");
  });

  test("sleeve loses no larger packets, there or back", () => {
    const [here, there] = [
      { probes: 10, largest: 1264 },
      { probes: 10, largest: 1390 },
    ];
    const problemOf = (arrived: typeof here, overlay: string, back?: string) =>
      way({ mtu: 1250 }, arrived, undefined, { overlay, ...(back !== undefined && { back }) }).problem;
    expect(problemOf(here, "sleeve", "sleeve")).toBeNull();
    expect(problemOf(there, "fastdp", "sleeve")).toBeNull();
    // A peer of an older version does not say by which overlay it answers.
    expect(problemOf(there, "sleeve")).toBeNull();
    expect(problemOf(here, "fastdp", "sleeve")).toStartWith("packets over 1250 bytes are lost on the way to");
    expect(problemOf(there, "sleeve", "fastdp")).toStartWith(
      "packets over 1250 bytes are lost on the way back",
    );
  });

  test("times", () => {
    expect(way({}).roundTripMs).toEqual({ min: 1, median: 2, max: 4 });
    expect(way({ roundTrips: [1, 2] }).roundTripMs).toEqual({ min: 1, median: 1.5, max: 2 });
    expect(way({ received: 0, roundTrips: [] }).roundTripMs).toBeNull();
  });

  test("as text of 80 columns, whatever a peer calls itself", () => {
    const nickname = `${"long".repeat(20)}\u001b[31m`;
    const pings: Shape<typeof Pings> = [
      {
        peer: { name: "02:00:00:00:00:02", nickname },
        via: { name: "02:00:00:00:00:03", nickname },
        networkMtu: 1376,
        overlays: [way({ mtu: 1250, roundTrips: [100, 200, 3000] })],
        problem: null,
        remedy: null,
        note: null,
      },
    ];
    const text = pingText(pings);
    expect(text.split("\n")[0]).toBe(
      "PEER                 OVERLAY        LOST      ROUND TRIP (MS)      MTU",
    );
    expect(text.split("\n")[1]).toBe(
      "longlonglonglonglong via longlongl  0 of 10   100/200/3000         1250 of 1376",
    );
    expect(text).not.toContain("\u001b");
    expect(hasPingProblem(pings)).toBe(true);
    expect(pingText([])).toBe("no peer is connected: 'weave status connections' shows why\n");
  });
});
