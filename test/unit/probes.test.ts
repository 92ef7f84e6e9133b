// Probes between routers: who is answered, how often, and when the socket is open.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { decodeProbe, encodeProbe, MIN_PROBE, type ProbeFrame } from "../../lib/overlay/probe/frame.ts";
import { Probes } from "../../lib/overlay/probe/probes.ts";
import { ProbeRun, type RunResult } from "../../lib/overlay/probe/run.ts";
import { realtimeNow } from "../../lib/sys/clocks.ts";

const A = nameFromNumber(1n);
const B = nameFromNumber(2n);
const C = nameFromNumber(3n);
const settled = async () => {};

function probes() {
  const clock = new SimulatedClock(1_000_000);
  const arriving: { frame: Uint8Array; at: bigint }[] = [];
  const seen = {
    opened: [] as number[],
    closed: 0,
    polls: [] as number[],
    sent: [] as { way: string; peer: string; frame: ProbeFrame | undefined }[],
    warned: [] as string[],
  };
  const world = { bridge: 5, errno: 0, failing: false };
  const note = (way: string, peer: string, frame: Uint8Array) => {
    seen.sent.push({ way, peer, frame: decodeProbe(frame) });
    return world.errno;
  };
  const subject = new Probes(
    {
      clock,
      random: { u32: () => 7 } as never,
      log: { ...silentLog, warning: (text: string) => seen.warned.push(text) },
      name: A,
      mtu: () => 1_376,
      bridge() {
        if (world.bridge === 0) throw new Error("no bridge");
        return world.bridge;
      },
      sendBy: (overlay, peer, frame) => note(overlay, peer, frame),
    },
    (ifindex) => {
      seen.opened.push(ifindex);
      return {
        ifindex,
        send: (frame: Uint8Array) => note("route", "", frame),
        receive() {
          if (seen.polls.at(-1) !== clock.now()) seen.polls.push(clock.now());
          if (world.failing) throw new Error("ENETDOWN");
          return arriving.shift();
        },
        close: () => seen.closed++,
      };
    },
  );
  const probe = (change: Partial<ProbeFrame> = {}) => {
    const frame = {
      from: B,
      to: A,
      kind: "probe",
      way: "route",
      session: 1n,
      sequence: 3,
      size: MIN_PROBE,
      dwell: 0,
      ...change,
    } as const;
    arriving.push({ frame: encodeProbe(frame as ProbeFrame), at: realtimeNow() });
  };
  const take = () => seen.sent.splice(0);
  return { clock, seen, world, subject, probe, take, arriving };
}

test("only probes of a session are echoed, to the peer that has it, by the way they came", () => {
  const { clock, subject, probe, take, seen } = probes();
  expect(seen.opened).toEqual([]);
  subject.admit(1n, B);
  expect(seen.opened).toEqual([5]);
  probe();
  probe({ way: "sleeve", size: 1_000 });
  probe({ session: 2n });
  probe({ from: C });
  probe({ to: C });
  probe({ kind: "echo" });
  clock.advance(25);
  const sent = take();
  expect(
    sent.map(({ way, frame }) => [way, frame?.kind, frame?.from, frame?.to, frame?.sequence, frame?.size]),
  ).toEqual([
    ["route", "echo", A, B, 3, MIN_PROBE],
    ["sleeve", "echo", A, B, 3, 1_000],
  ]);
  for (const { frame } of sent) {
    expect(frame?.dwell).toBeGreaterThanOrEqual(0);
    expect(frame?.dwell).toBeLessThan(60e9);
  }
  expect(subject.arrived(1n, C)).toBeUndefined();
  expect(subject.settle(1n, C)).toBeUndefined();
  // What waits to be read is read first, and echoed.
  probe({ sequence: 4 });
  expect(subject.arrived(1n, B)?.get("route")?.probes).toBe(2);
  expect(take().map(({ frame }) => frame?.sequence)).toEqual([4]);
  probe({ sequence: 5 });
  expect([...(subject.settle(1n, B) ?? [])]).toEqual([
    ["route", { probes: 3, largest: MIN_PROBE }],
    // Longer ones belong to the search for the MTU.
    ["sleeve", { probes: 0, largest: 1_000 }],
  ]);
  expect(subject.settle(1n, B)).toBeUndefined();
});

test("4 sessions of a peer, 128 in all, each once, for 60 s", () => {
  const { clock, subject, seen } = probes();
  for (let i = 1n; i <= 4n; i++) subject.admit(i, B);
  expect(() => subject.admit(5n, B)).toThrow("too many sessions");
  expect(() => subject.admit(1n, C)).toThrow("too many sessions");
  for (let i = 0; i < 124; i++) subject.admit(BigInt(100 + i), nameFromNumber(BigInt(100 + i)));
  expect(() => subject.admit(5n, C)).toThrow("too many sessions");
  clock.advance(59_999);
  expect(() => subject.admit(5n, C)).toThrow();
  clock.advance(1);
  subject.admit(5n, C);
  expect([seen.opened, seen.closed]).toEqual([[5], 0]);
});

test("256 echoes at once, 400 a second", () => {
  const { clock, subject, probe, take } = probes();
  subject.admit(1n, B);
  for (let i = 0; i < 300; i++) probe();
  clock.advance(25);
  clock.advance(2);
  expect(take().length).toBe(256);
  clock.advance(500);
  for (let i = 0; i < 300; i++) probe();
  clock.advance(30);
  // 400 a second, for a little more than half of one.
  expect(Math.floor(take().length / 20)).toBe(10);
});

test("the socket is looked at every 25 ms, every 2 ms for 1 s after a frame, and closed 3 s after the last session", () => {
  const { clock, subject, probe, seen } = probes();
  subject.admit(1n, B);
  clock.advance(100);
  expect(seen.polls.splice(0).map((at) => at - 1_000_000)).toEqual([25, 50, 75, 100]);
  probe();
  clock.advance(25);
  seen.polls.length = 0;
  clock.advance(1_000);
  expect(seen.polls.length).toBe(500);
  seen.polls.length = 0;
  clock.advance(100);
  expect(seen.polls.length).toBe(4);
  subject.settle(1n, B);
  clock.advance(2_999);
  expect(seen.closed).toBe(0);
  subject.admit(2n, B);
  clock.advance(10_000);
  expect([seen.closed, seen.opened]).toEqual([0, [5]]);
  subject.settle(2n, B);
  clock.advance(3_000);
  expect(seen.closed).toBe(1);
  seen.polls.length = 0;
  clock.advance(10_000);
  expect(seen.polls).toEqual([]);
});

test("another bridge gets another socket; one that fails is warned of, and the next session has a new one", () => {
  const { clock, subject, world, seen } = probes();
  subject.admit(1n, B);
  world.bridge = 6;
  subject.admit(2n, B);
  expect([seen.opened, seen.closed]).toEqual([[5, 6], 1]);
  world.failing = true;
  clock.advance(25);
  expect([seen.closed, seen.warned]).toEqual([
    2,
    [expect.stringContaining("cannot receive probes: ENETDOWN")],
  ]);
  world.failing = false;
  subject.admit(3n, B);
  expect(seen.opened).toEqual([5, 6, 6]);
  world.bridge = 0;
  expect(() => subject.admit(4n, C)).toThrow("no bridge");
  subject.stop();
  expect(seen.closed).toBe(3);
});

test("an echo that cannot be sent is warned of, unless it is only too long", () => {
  const { clock, subject, probe, world, seen } = probes();
  subject.admit(1n, B);
  world.errno = 90;
  probe();
  clock.advance(25);
  expect(seen.warned).toEqual([]);
  world.errno = 1;
  probe();
  clock.advance(25);
  expect(seen.warned).toEqual([expect.stringContaining("cannot answer probes: errno 1")]);
});

test("a run of ours takes echoes of its peer and way alone; stop ends it", async () => {
  const { clock, subject, probe, take, seen } = probes();
  const result = subject.run(9n, B, "fastdp", 1, settled);
  expect(take().map(({ way, peer, frame }) => [way, peer, frame?.kind, frame?.session])).toEqual([
    ["fastdp", B, "probe", 9n],
  ]);
  for (const change of [{ from: C }, { way: "sleeve" as const }, { session: 8n }])
    probe({ kind: "echo", way: "fastdp", session: 9n, sequence: 0, ...change });
  clock.advance(25);
  expect(take()).toEqual([]);
  probe({ kind: "echo", way: "fastdp", session: 9n, sequence: 0 });
  clock.advance(2);
  // Answered: now the MTU is searched.
  expect(take().map(({ frame }) => frame?.size)).toEqual([1_390]);
  clock.advance(20_000);
  await Bun.sleep(0);
  clock.advance(0);
  expect(await result).toMatchObject({ sent: 1, received: 1, mtu: 552 });
  clock.advance(3_000);
  expect(seen.closed).toBe(1);
  take();
  void subject.run(10n, B, "route", 5, settled);
  const { length } = take();
  subject.stop();
  clock.advance(10_000);
  expect([length, take(), seen.closed]).toEqual([1, [], 2]);
});

test("echoes that wait to be read once the peer has settled are none that are lost", async () => {
  const { clock, subject, probe, take } = probes();
  const peer = Promise.withResolvers<void>();
  const result = subject.run(9n, B, "fastdp", 1, () => peer.promise);
  clock.advance(10_000);
  probe({ kind: "echo", way: "fastdp", session: 9n, sequence: 0 });
  peer.reject(new Error("not asked"));
  await Bun.sleep(0);
  clock.advance(0);
  const size = take().at(-1)?.frame?.size ?? 0;
  expect(size).toBe(1_390);
  probe({ kind: "echo", way: "fastdp", session: 9n, sequence: 1, size });
  clock.advance(25);
  expect(await result).toMatchObject({ sent: 1, received: 1, mtu: 1_376 });
});

test("a run: short probes 20 ms apart, lost after 1 s, round trips without the other end's dwell, in order", () => {
  const clock = new SimulatedClock();
  const sent: [number, number, number][] = [];
  const results: RunResult[] = [];
  let errno = 0;
  const ms = (value: number) => BigInt(Math.round(value * 1e6));
  const run = new ProbeRun({
    clock,
    count: 3,
    mtu: 1_376,
    now: () => ms(clock.now()),
    send: (sequence, size) => {
      sent.push([clock.now(), sequence, size]);
      return errno;
    },
    settle: (then) => then(),
    done: (result) => results.push(result),
  });
  run.start();
  errno = 11;
  clock.advance(20);
  errno = 0;
  clock.advance(20);
  expect(sent).toEqual([
    [0, 0, MIN_PROBE],
    [20, 1, MIN_PROBE],
    [40, 2, MIN_PROBE],
  ]);
  clock.advance(10);
  run.echo(1, MIN_PROBE, ms(50), 2e6);
  run.echo(1, MIN_PROBE, ms(50), 2e6);
  run.echo(0, MIN_PROBE, ms(45), 0);
  run.echo(9, MIN_PROBE, ms(45), 0);
  // Clocks that were set back or forth give no negative times, and none longer than they can have been.
  clock.advance(979);
  expect(sent.length).toBe(3);
  run.echo(2, MIN_PROBE, ms(10), 0);
  expect(sent.at(-1)).toEqual([1_029, 3, 1_390]);
  run.echo(3, 1_390, ms(60), 0);
  expect(results).toEqual([{ sent: 3, received: 3, roundTrips: [0, 28, 45], mtu: 1_376, errno: 11 }]);
  const none: RunResult[] = [];
  const silent = new ProbeRun({
    clock,
    count: 2,
    mtu: 1_376,
    now: () => ms(clock.now()),
    send: () => 0,
    settle: (then) => then(),
    done: (result) => none.push(result),
  });
  silent.start();
  clock.advance(1_019);
  expect(none).toEqual([]);
  clock.advance(1);
  expect(none).toEqual([{ sent: 2, received: 0, roundTrips: [], mtu: undefined, errno: 0 }]);
});
