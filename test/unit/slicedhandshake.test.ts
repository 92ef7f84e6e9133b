// Handshakes of many strangers at once: a few in each turn of the event loop, and none of those that have gone.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Slices } from "../../lib/clock/slices.ts";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { silentLog } from "../../lib/log/log.ts";
import { type Agreement, Handshake } from "../../lib/mesh/handshake.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { nullOverlay } from "../../lib/mesh/overlay.ts";
import { BLOCK } from "../../lib/mesh/receivebuffer.ts";
import { MeshRouter } from "../../lib/mesh/router.ts";
import { SlicedHandshake } from "../../lib/mesh/slicedhandshake.ts";
import type { Stream } from "../../lib/mesh/transport.ts";

const nacl = await loadNacl();
const password = new TextEncoder().encode("s3cr3t");
const STRANGERS = 100;
/** Keys that a turn may make, where each takes 1 ms. */
const A_TURN = 3;

/** A router for which making a key takes 1 ms of work; `turns` are the keys made in each turn of its event loop. */
function subject() {
  const clock = new SimulatedClock(1_000_000);
  const turns = [0];
  /** Streams that we dial, to be opened. */
  const dials: (() => void)[] = [];
  let worked = 0;
  const router = new MeshRouter(
    {
      name: nameFromNumber(1n),
      nickName: "h1",
      encryption: {
        password,
        nacl: {
          ...nacl,
          generateKeyPair() {
            worked++;
            turns.push((turns.pop() ?? 0) + 1);
            return nacl.generateKeyPair();
          },
        },
      },
    },
    {
      clock: {
        now: () => clock.now(),
        wall: () => clock.wall(),
        worked: () => worked,
        after: (ms, fn) =>
          clock.after(ms, () => {
            turns.push(0);
            fn();
          }),
      },
      random: seededRandom(1n),
      transport: {
        connect(address, opened) {
          dials.push(() => opened(stream(address)));
          return () => {};
        },
        resolve: async (host) => host,
      },
      overlay: nullOverlay,
      log: silentLog,
    },
  );
  const streams: { written: number; paused: boolean; closed: boolean }[] = [];
  function stream(ip: string): Stream {
    const state = { written: 0, paused: false, closed: false };
    streams.push(state);
    return {
      remoteAddress: `${ip}:50000`,
      localAddress: "10.0.0.1:6783",
      unsent: 0,
      write: () => Boolean(++state.written),
      pause() {
        state.paused = true;
      },
      resume() {
        state.paused = false;
      },
      unacknowledgedMs: () => 0,
      roundTripMs: () => undefined,
      close() {
        state.closed = true;
      },
    };
  }
  const header = Uint8Array.of(...new TextEncoder().encode("weave"), 2, 2);
  const strangers = Array.from({ length: STRANGERS }, (_, i) => router.accept(stream(`10.0.1.${i}`)));
  for (const stranger of strangers) stranger?.data(header);
  return { clock, router, turns, dials, streams, stream, strangers, header };
}

test("handshakes of strangers that come in one turn take a few ms of it and of the next ones", () => {
  const { clock, turns, streams } = subject();
  expect(turns).toEqual([A_TURN]);
  expect(streams.filter(({ paused }) => paused)).toHaveLength(STRANGERS - A_TURN);
  clock.advance(0);
  expect(Math.max(...turns)).toBe(A_TURN);
  expect(turns.reduce((a, b) => a + b)).toBe(STRANGERS);
  // Our header and our key.
  expect(streams).toEqual(Array(STRANGERS).fill({ written: 2, paused: false, closed: false }));
});

test("strangers that go before their turn cost nothing", () => {
  const { clock, turns, strangers, streams } = subject();
  for (const stranger of strangers) stranger?.closed(new Error("EOF"));
  clock.advance(0);
  expect(turns.reduce((a, b) => a + b)).toBe(A_TURN);
  expect(streams.filter(({ closed }) => closed)).toHaveLength(STRANGERS);
});

test("strangers whose last handshake failed wait for each other alone", () => {
  const { clock, router, turns, streams, stream, strangers, header } = subject();
  clock.advance(0);
  for (const stranger of strangers) stranger?.closed(new Error("EOF"));
  clock.advance(1000);
  turns.push(0);
  for (const i of strangers.keys()) router.accept(stream(`10.0.1.${i}`))?.data(header);
  expect(turns.at(-1)).toBe(1);
  router.accept(stream("10.0.2.1"))?.data(header);
  expect(turns.at(-1)).toBe(2);
  expect(streams.at(-1)).toEqual({ written: 2, paused: false, closed: false });
});

test("a connection that we dial does not wait for strangers", async () => {
  const { clock, router, dials, streams, stream, header } = subject();
  await router.maker.connect(["10.0.0.2"], false);
  clock.advance(1000);
  for (let i = 0; i < STRANGERS; i++) router.accept(stream(`10.0.2.${i}`))?.data(header);
  for (const open of dials) open();
  expect(streams.at(-1)).toEqual({ written: 1, paused: false, closed: false });
});

test("what comes while a handshake waits is taken in order, and the rest of it is for the receiver", () => {
  const clock = new SimulatedClock();
  let worked = 0;
  const slices = new Slices({
    now: () => clock.now(),
    wall: () => 0,
    after: (ms, fn) => clock.after(ms, fn),
    worked: () => worked,
  });
  const features = new Map([["Name", "a"]]);
  const agreements: Agreement[] = [];
  const said: Uint8Array[] = [];
  const answers: Uint8Array[] = [];
  const stream: string[] = [];
  const held: number[] = [];
  const sliced = new SlicedHandshake(
    { pause: () => stream.push("pause"), resume: () => stream.push("resume") },
    {
      slices,
      buffered: (bytes) => held.push(bytes),
      begin: () => new Handshake({ outbound: false, features }, (bytes) => answers.push(bytes)),
      agreed: (agreement) => agreements.push(agreement),
      failed: (error) => expect(error).toBeUndefined(),
    },
  );
  sliced.start();
  const other = new Handshake({ outbound: true, features }, (bytes) => said.push(bytes));
  for (const bytes of said.splice(0)) sliced.data(bytes);
  for (const bytes of answers) other.receive(bytes);
  slices.run(
    (function* () {
      worked += 10;
      yield;
    })(),
    () => {},
  );
  // A transport uses its buffer again.
  const reused = new Uint8Array(3);
  for (const bytes of said.splice(0)) sliced.data(bytes);
  for (const byte of [7, 8]) {
    reused.fill(byte);
    sliced.data(reused);
  }
  reused.fill(0);
  expect(agreements).toHaveLength(0);
  clock.advance(0);
  expect(agreements.map(({ rest }) => [...rest])).toEqual([[7, 7, 7, 8, 8, 8]]);
  expect(stream).toEqual(["pause", "resume"]);
  // The header, whose block is kept; then a flag, the features and two pieces, which wait; then all but the consumed flag.
  const waiting = held.splice(3).map((bytes, _, [first = 0]) => bytes - first);
  expect(held).toEqual([7, BLOCK, BLOCK + 1]);
  expect(waiting).toEqual([0, 3, 6, 5]);
});
