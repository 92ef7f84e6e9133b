// The fast datapath between mesh, kernel and forwarders: parameters of each forwarder, its heartbeats and polls.
import { afterEach, beforeEach, describe, expect, type Mock, spyOn, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { CandidateParams } from "../../lib/overlay/candidate.ts";
import * as forwarders from "../../lib/overlay/fastdp/forwarder.ts";
import { encodeHeartbeat, HeartbeatSender } from "../../lib/overlay/fastdp/heartbeat.ts";
import { FastdpOverlay } from "../../lib/overlay/fastdp/overlay.ts";
import { ACKNOWLEDGES, type ForwarderParams, TESTS_PATHS } from "../../lib/overlay/fastdp/protocol.ts";
import * as kernel from "../../lib/overlay/kernelmtu.ts";
import { networkIdentifier } from "../../lib/overlay/vxlan.ts";
import * as clocks from "../../lib/sys/clocks.ts";

const [HERE, THERE] = [parseIPv4("127.0.0.1"), parseIPv4("127.0.0.2")];
const KEY = new Uint8Array(32);
const nothing = () => {};
const peer = (n: number) =>
  Object.assign(Peer.placeholder(nameFromNumber(BigInt(n))), { shortId: n, hasShortId: true });

const OTHER = peer(2);
const VNI = networkIdentifier(1, 2);

/** A forwarder that records its calls. */
interface Noted {
  readonly params: ForwarderParams;
  readonly told: unknown[];
  usable: boolean;
  established: boolean;
  watched: boolean;
}

let made: Noted[];
let sent: unknown[][];
let monotonic: bigint;
let spies: Mock<never>[];
beforeEach(() => {
  made = [];
  sent = [];
  monotonic = 5_000_000_000n;
  const forwarder = (params: ForwarderParams) => {
    const told: unknown[] = [];
    const noted = {
      ...{ params, told, usable: false, established: false, watched: false },
      ...{ remoteAddress: params.remoteAddress, connectionUid: params.connectionUid },
      ...{ pathMtu: 1_400, tick: () => told.push("tick"), mtuChanged: () => told.push("mtu") },
      ...{ heard: () => told.push("heard"), heartbeat: (each: object) => told.push(each) },
      counted: (received: bigint, out: bigint) => told.push([received, out]),
    };
    made.push(noted);
    return noted;
  };
  spies = [
    spyOn(forwarders, "Forwarder").mockImplementation(forwarder as never),
    spyOn(HeartbeatSender.prototype, "send").mockImplementation((...given) => {
      sent.push(given);
      return 11;
    }),
    spyOn(clocks, "monotonicNow").mockImplementation(() => monotonic),
    spyOn(kernel, "pathMtuTo").mockImplementation(() => 1_500),
  ] as never;
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
});

function fastdp({ flowCache = false, measures = true } = {}) {
  const clock = new SimulatedClock(1_000);
  const calls: unknown[][] = [];
  const note =
    (what: string) =>
    (...rest: unknown[]) =>
      calls.push([what, ...rest]);
  const state = {
    heartbeat: undefined as { at: bigint } | undefined,
    neighbour: { seen: 0n, received: 0n, sent: 0n },
    trouble: { datapath: undefined as string | undefined, esp: undefined as string | undefined },
  };
  const datapath = {
    withoutFastdp: undefined,
    expectHeartbeats: note("expect"),
    forgetHeartbeats: note("forget"),
    heartbeat: () => state.heartbeat,
    neighbour: () => state.neighbour,
    get fastdpTrouble() {
      return state.trouble.datapath;
    },
  };
  const esp = {
    settle: note("settle"),
    end: note("end"),
    get trouble() {
      return state.trouble.esp;
    },
  };
  const config = { mtu: () => 1_376, measures, port: 6_784, flowCache };
  const overlay = new FastdpOverlay(
    datapath as never,
    esp as never,
    config,
    () => ({ ourself: peer(1) }) as never,
    clock,
    note("changed"),
    note("measured"),
  );
  const prepare = (change: Partial<CandidateParams> = {}) => {
    overlay.prepare({
      ...{ remotePeer: OTHER, localIp: "127.0.0.1", remoteIp: "127.0.0.2", remotePort: 6_783 },
      ...{ outbound: true, connectionUid: 8n, sessionKey: undefined, features: new Map() },
      ...{ sendControl: nothing, established: nothing, restart: nothing, health: nothing },
      ...{ failed: nothing, preferred: () => true },
      ...change,
    });
    return made.at(-1) ?? expect.unreachable();
  };
  return { overlay, clock, calls, state, prepare };
}

describe("a forwarder", () => {
  test("receives the heartbeats of its connection until it stops", () => {
    const { prepare, calls, state } = fastdp();
    const { params } = prepare();
    expect(calls).toEqual([["expect", 8n]]);
    expect([params.connectionUid, params.remoteAddress]).toEqual([8n, THERE]);
    expect(params.heartbeatMs()).toBeUndefined();
    state.heartbeat = { at: monotonic - 70_000_000n };
    params.look();
    expect(params.heartbeatMs()).toBe(70);
    params.stopped();
    expect(calls.at(-1)).toEqual(["forget", 8n]);
  });

  test("sends heartbeats of the MTU's size, or short ones", () => {
    const { prepare } = fastdp();
    const { params } = prepare();
    expect([params.sendHeartbeat(THERE, true), params.sendHeartbeat(HERE, false)]).toEqual([11, 11]);
    expect(sent).toEqual([
      [encodeHeartbeat(VNI, 8n, 1_376), THERE, 6_784],
      [encodeHeartbeat(VNI, 8n, 10), HERE, 6_784],
    ]);
  });

  test.each<[string, [string, string][], boolean, boolean]>([
    ["nothing", [], false, false],
    ["acknowledgements", [[ACKNOWLEDGES.feature, ACKNOWLEDGES.value]], true, false],
    ["acknowledgements of another kind", [[ACKNOWLEDGES.feature, "later"]], false, false],
    ["tests", [[TESTS_PATHS.feature, TESTS_PATHS.value]], false, true],
    ["tests of another kind", [[TESTS_PATHS.feature, "later"]], false, false],
  ])("reads the features of the peer: %s", (_what, features, acknowledges, tests) => {
    const { params } = fastdp({ flowCache: true }).prepare({ features: new Map(features) });
    expect([params.acknowledges, params.tests !== undefined, params.flowCache]).toEqual([
      ...[acknowledges, tests, true],
    ]);
  });

  test("tests paths up to the kernel's path MTU less the headers; not with a fixed MTU", () => {
    const features = new Map([[TESTS_PATHS.feature, TESTS_PATHS.value]]);
    const { prepare, calls } = fastdp();
    const { tests } = prepare({ features }).params;
    expect(tests?.limit(THERE)).toBe(1_450);
    spies[3]?.mockImplementation((() => 100_000) as never);
    expect(tests?.limit(THERE)).toBe(65_000);
    spies[3]?.mockImplementation((() => undefined) as never);
    expect(tests?.limit(THERE)).toBeUndefined();
    tests?.send(THERE, 0xfe01, 1_400);
    expect(sent).toEqual([[encodeHeartbeat(VNI, 8n, 1_400, 0xfe01), THERE, 6_784, true]]);
    tests?.changed();
    expect(calls.at(-1)).toEqual(["measured"]);
    spies[3]?.mockImplementation((() => 1_500) as never);
    expect(fastdp({ measures: false }).prepare({ features }).params.tests?.limit(THERE)).toBeUndefined();
  });

  test("reports trouble with ESP only if it encrypts", () => {
    const { prepare, state } = fastdp();
    const [clear, sealed] = [prepare(), prepare({ sessionKey: KEY })];
    const troubles = () => [clear, sealed].map(({ params }) => params.linkTrouble() || undefined);
    expect(troubles()).toEqual([undefined, undefined]);
    state.trouble.esp = "no ESP";
    expect(troubles()).toEqual([undefined, "no ESP"]);
    state.trouble.datapath = "no link";
    expect(troubles()).toEqual(["no link", "no link"]);
  });

  test("to another port is refused if we have connected: only then is the remote port the peer's own", () => {
    const { prepare } = fastdp();
    const error = () => {
      try {
        prepare({ remotePort: 7_000 });
        return undefined;
      } catch (refused) {
        return String(refused);
      }
    };
    expect(error()).toContain("the peer's fast datapath uses UDP port 7001, ours 6784");
    expect(prepare({ remotePort: 7_000, outbound: false }).params.remoteAddress).toBe(THERE);
  });
});

describe("polls", () => {
  const usable = (forwarder: Noted) => {
    forwarder.usable = true;
    forwarder.params.changed();
    forwarder.told.length = 0;
  };
  const ticks = (forwarder: Noted) => forwarder.told.filter((each) => each === "tick").length;

  test("run after 5 ms, then ever less often until a forwarder is established; every 200 ms while one is watched, else every second", () => {
    const { prepare, clock } = fastdp();
    const forwarder = prepare();
    usable(forwarder);
    clock.advance(20);
    expect(ticks(forwarder)).toBe(4);
    clock.advance(180);
    expect(ticks(forwarder)).toBe(15);
    clock.advance(1_800);
    const within = (ms: number) => {
      clock.advance(2_000);
      forwarder.told.length = 0;
      clock.advance(ms);
      return ticks(forwarder);
    };
    expect(within(4_000)).toBe(4);
    const other = prepare({ remotePeer: peer(3), remoteIp: "127.0.0.3" });
    usable(other);
    other.watched = true;
    clock.advance(2_000);
    expect(within(4_000)).toBe(20);
    forwarder.params.changed();
    forwarder.established = true;
    other.established = true;
    clock.advance(10);
    forwarder.told.length = 0;
    clock.advance(1_000);
    expect(ticks(forwarder)).toBe(5);
  });

  test("of a new forwarder leave out established ones", () => {
    const { prepare, clock } = fastdp();
    const [old, other] = [prepare(), prepare({ remotePeer: peer(3), remoteIp: "127.0.0.3" })];
    usable(old);
    old.established = true;
    clock.advance(5_000);
    usable(other);
    old.told.length = 0;
    clock.advance(190);
    expect([ticks(old), ticks(other)]).toEqual([0, 14]);
    clock.advance(20);
    expect([ticks(old), ticks(other)]).toEqual([1, 15]);
  });

  test("end with the last forwarder", () => {
    const { prepare, clock, overlay } = fastdp();
    const forwarder = prepare();
    usable(forwarder);
    clock.advance(10);
    expect(overlay.sources()).toEqual(new Set([THERE]));
    forwarder.usable = false;
    forwarder.params.changed();
    using after = spyOn(clock, "after");
    clock.advance(10_000);
    expect([overlay.sources().size, after.mock.calls.length]).toEqual([0, 0]);
  });

  test("report new heartbeats, and frames once it is established", () => {
    const { prepare, state } = fastdp();
    const forwarder = prepare();
    const look = () => {
      forwarder.told.length = 0;
      forwarder.params.look();
      return forwarder.told;
    };
    state.neighbour = { seen: 0n, received: 3n, sent: 4n };
    expect(look()).toEqual([[3n, 4n]]);
    const first = { at: 10n };
    state.heartbeat = first;
    expect(look()).toEqual([[3n, 4n], first]);
    // The same heartbeat is not reported again.
    expect(look()).toEqual([[3n, 4n]]);
    state.neighbour = { ...state.neighbour, seen: 20n };
    expect(look()).toEqual([[3n, 4n]]);
    forwarder.established = true;
    state.neighbour = { ...state.neighbour, seen: 30n };
    expect(look()).toEqual([[3n, 4n], "heard"]);
    const second = { at: 40n };
    state.heartbeat = second;
    expect(look()).toEqual([[3n, 4n], second]);
    expect(look()).toEqual([[3n, 4n]]);
  });
});

test("a forwarder that ends leaves its successor to the same peer in use", () => {
  const { prepare, overlay } = fastdp();
  const [first, second] = [prepare(), prepare({ remoteIp: "127.0.0.3" })];
  for (const each of [first, second]) {
    each.usable = true;
    each.params.changed();
  }
  expect([...overlay.sources()]).toEqual([parseIPv4("127.0.0.3")]);
  first.usable = false;
  first.params.changed();
  expect([...overlay.sources()]).toEqual([parseIPv4("127.0.0.3")]);
});

test("ESP associations are not settled after a graceful restart if the router has stopped", () => {
  const [stopped, running] = [fastdp(), fastdp()];
  stopped.overlay.freeze();
  for (const { clock } of [stopped, running]) clock.advance(600_000);
  const settled = ({ calls }: typeof running) => calls.some(([what]) => what === "settle");
  expect([settled(stopped), settled(running)]).toEqual([false, true]);
});
