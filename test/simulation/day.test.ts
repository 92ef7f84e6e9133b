// A day of single links on a simulated clock.
import { expect, test } from "bun:test";
import { formatIPv4 } from "../../lib/address/ipv4.ts";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import type { Esp } from "../../lib/overlay/fastdp/esp.ts";
import { FastdpOverlay } from "../../lib/overlay/fastdp/overlay.ts";
import { CONTROL as FASTDP } from "../../lib/overlay/fastdp/protocol.ts";
import { overhead } from "../../lib/overlay/sleeve/format.ts";
import { SleeveForwarder } from "../../lib/overlay/sleeve/forwarder.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const LINK_MTU = 1_500;
const ENDS = [1, 2].map((n) => ({ address: 0x0a630000 + n, port: 6783 }));

/** Two ends of a sleeve link over a path that takes packets of so many bytes. */
function sleeveLink() {
  const clock = new SimulatedClock(1_000);
  const path = { mtu: LINK_MTU, delayMs: 3, up: true };
  const ends = ENDS.map((local, i) => {
    const state = {
      health: [] as (string | undefined)[],
      specials: 0,
      control: 0,
      settings: 0,
      established: 0,
      heard: 0,
      carried: 0,
    };
    const remote = ENDS[1 - i] ?? expect.unreachable();
    const later = (what: (other: SleeveForwarder) => void) =>
      clock.after(path.delayMs, () => {
        const other = ends[1 - i];
        if (!path.up || !other) return;
        other.state.heard = clock.now();
        what(other.forwarder);
      });
    const forwarder: SleeveForwarder = new SleeveForwarder({
      clock,
      connectionUid: 7n,
      cipher: undefined,
      remote,
      local: local.address,
      port: 6783,
      sendSpecial(df, size, uid) {
        state.specials++;
        const packet = size - 14 + overhead();
        // Of its own link the kernel tells; of the rest of the path nobody does.
        if (df && packet > LINK_MTU) return void clock.after(0, () => forwarder.tooBig(LINK_MTU));
        if (df && packet > path.mtu) return;
        later((other) =>
          other.special({ length: size, from: local, uid: uid ?? 0n, zeros: uid === undefined }),
        );
      },
      sendControl(tag, message) {
        state.control++;
        // By the control connection, whatever becomes of datagrams.
        clock.after(path.delayMs, () => ends[1 - i]?.forwarder.control(tag, message));
      },
      established: () => state.established++,
      health: (trouble) => state.health.push(trouble?.reason),
      changed: () => state.settings++,
      log() {},
      preferred: () => true,
      outgrown() {},
      heard: () => state.heard,
      carried: () => state.carried,
      frames: () => ({ received: 0, sent: 0 }),
      refusal: () => 0,
    });
    return { state, forwarder };
  });
  every(clock, 500, () => {
    for (const { forwarder } of ends) forwarder.tick();
  });
  for (const { forwarder } of ends) forwarder.confirm();
  const mtus = () => ends.map(({ forwarder }) => forwarder.attributes()["mtu"]);
  return { clock, path, ends, mtus };
}

test.each([
  ["idle", false],
  ["with traffic", true],
])(
  "24 hours of a sleeve link, %s: it stays, is tested as often each hour, and nothing flaps",
  (_what, traffic) => {
    const { clock, ends, mtus } = sleeveLink();
    if (traffic)
      every(clock, 1_000, () => {
        for (const { state } of ends) state.carried = clock.now();
      });
    clock.advance(MINUTE);
    const found = mtus();
    expect(found).toEqual([1_438, 1_438]);
    clock.advance(HOUR);
    let usual: number[] | undefined;
    const settings = ends.map(({ state }) => state.settings);
    for (let hour = 2; hour <= 24; hour++) {
      const before = ends.map(({ state }) => state.specials + state.control);
      clock.advance(HOUR);
      const sent = ends.map(({ state }, i) => state.specials + state.control - (before[i] ?? 0));
      usual ??= sent;
      for (const [i, count] of sent.entries())
        expect(Math.abs(count / (usual[i] ?? 1) - 1)).toBeLessThan(0.05);
      // Below one a second, whatever is carried.
      for (const count of sent) expect(count).toBeLessThan(3_600 * 2);
    }
    expect(mtus()).toEqual(found);
    expect(ends.map(({ state }) => [state.health, state.established])).toEqual([
      [[], 1],
      [[], 1],
    ]);
    expect(ends.map(({ state }) => state.settings)).toEqual(settings);
  },
);

test("a path that takes less at noon and more again in the evening is followed both ways, within minutes", () => {
  const { clock, path, mtus } = sleeveLink();
  clock.advance(12 * HOUR);
  expect(mtus()).toEqual([1_438, 1_438]);
  path.mtu = 1_280;
  clock.advance(2 * MINUTE);
  expect(mtus()).toEqual([1_218, 1_218]);
  clock.advance(6 * HOUR);
  expect(mtus()).toEqual([1_218, 1_218]);
  path.mtu = LINK_MTU;
  clock.advance(6 * MINUTE);
  expect(mtus()).toEqual([1_438, 1_438]);
});

test("a path that is down for an hour is trouble after a minute, once, and over at once when it is up", () => {
  const { clock, path, ends } = sleeveLink();
  clock.advance(HOUR);
  path.up = false;
  clock.advance(45_000);
  expect(ends.map(({ state }) => state.health)).toEqual([[], []]);
  clock.advance(HOUR);
  expect(ends.map(({ state }) => state.health)).toEqual([[expect.any(String)], [expect.any(String)]]);
  path.up = true;
  clock.advance(30_000);
  expect(ends.map(({ state }) => state.health)).toEqual([
    [expect.any(String), undefined],
    [expect.any(String), undefined],
  ]);
});

/** Of the connection whose heartbeats come. */
const UID = 7n;

/** The fast datapath to a peer of the original: it acknowledges only the first heartbeat. */
function fastdpLink() {
  const clock = new SimulatedClock();
  const peer = Peer.placeholder(nameFromNumber(2n));
  const kernel = { heartbeat: undefined as object | undefined, frame: 0n };
  const health: (string | undefined)[] = [];
  const seen = { established: 0 };
  const overlay = new FastdpOverlay(
    {
      links: { withoutFastdp: undefined },
      heartbeat: (uid: bigint) => (uid === UID ? kernel.heartbeat : undefined),
      expectHeartbeats: () => {},
      forgetHeartbeats: () => {},
      neighbour: () => ({ seen: kernel.frame, received: 0n, sent: 0n }),
    } as unknown as Datapath,
    { unavailable: undefined, settle() {}, allowClear() {}, end() {} } as unknown as Esp,
    { mtu: () => 1_376, measures: false, port: 6_784 },
    () => undefined,
    clock,
    () => {},
    () => {},
  );
  /** Another connection to that peer, from `remoteIp`. */
  const connect = (remoteIp: string, connectionUid: bigint) =>
    overlay.prepare({
      remotePeer: peer,
      localIp: "10.99.0.1",
      remoteIp,
      remotePort: 6_783,
      outbound: true,
      connectionUid,
      sessionKey: undefined,
      features: new Map(),
      sendControl() {},
      established: () => seen.established++,
      failed: (error: Error) => health.push(error.message),
      restart: () => {},
      health: (trouble: { reason: string } | undefined) => health.push(trouble?.reason),
      preferred: () => true,
    });
  const connection = connect("10.99.0.2", UID);
  const at = () => BigInt(clock.now() + 1) * 1_000_000n;
  const heartbeat = () => {
    kernel.heartbeat = { size: 1_390, length: 1_390, sender: 0x0a630002, at: at() };
  };
  const frame = () => {
    kernel.frame = at();
  };
  connection.confirm();
  heartbeat();
  clock.advance(10);
  connection.control(FASTDP.heartbeatAck, new Uint8Array());
  clock.advance(1_000);
  expect(seen.established).toBe(1);
  return { clock, overlay, connect, connection, health, heartbeat, frame };
}

test("24 hours of the fast datapath with frames alone: each is a sign of life, and without any it falls back within 40 s", () => {
  const { clock, overlay, health, frame, heartbeat, connection } = fastdpLink();
  for (let s = 0; s < 24 * 3_600; s += 20) {
    frame();
    clock.advance(20_000);
  }
  expect(health).toEqual([]);
  clock.advance(40_000);
  expect(health).toEqual([expect.stringContaining("UDP 6784")]);
  clock.advance(HOUR);
  expect(health.length).toBe(1);
  heartbeat();
  clock.advance(2_000);
  expect(health).toEqual([expect.anything(), undefined]);
  connection.stop();
  overlay.stop();
});

test("the end of a connection leaves what the peer's next one is given, and that one's end nothing", () => {
  const { overlay, connect, connection, clock } = fastdpLink();
  const from = () => [...overlay.sources()].map(formatIPv4);
  expect(from()).toEqual(["10.99.0.2"]);
  const next = connect("10.99.0.3", 8n);
  expect(from()).toEqual(["10.99.0.2"]);
  next.confirm();
  expect(from()).toEqual(["10.99.0.3"]);
  connection.stop();
  expect(from()).toEqual(["10.99.0.3"]);
  clock.advance(1_000);
  expect(from()).toEqual(["10.99.0.3"]);
  next.stop();
  expect(from()).toEqual([]);
  overlay.stop();
});
