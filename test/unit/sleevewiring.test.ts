// Sleeve between the mesh and its engine: the messages between them, and the datagrams that the kernel's filter allows.
import { afterEach, beforeEach, describe, expect, type Mock, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import * as unexpected from "../../lib/log/unexpected.ts";
import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { CandidateParams } from "../../lib/overlay/candidate.ts";
import * as filters from "../../lib/overlay/sleeve/filter.ts";
import { AEGIS } from "../../lib/overlay/sleeve/format.ts";
import type { EngineSetup, FromEngine, ToEngine } from "../../lib/overlay/sleeve/messages.ts";
import { SleeveOverlay } from "../../lib/overlay/sleeve/overlay.ts";
import * as sockets from "../../lib/overlay/sleeve/socket.ts";

const OWN = nameFromNumber(1n);
const OTHER = nameFromNumber(2n);
const KEY = new Uint8Array(32).fill(7);
const UDP = 77;
const nothing = () => {};

let close: Mock<typeof fs.closeSync>;
let open: Mock<typeof sockets.openSleeveSocket>;
let filter: Mock<() => unknown>;
/** Calls of the filter in the kernel. */
let filtered: unknown[][];
beforeEach(() => {
  filtered = [];
  const note =
    (what: string) =>
    (...rest: unknown[]) =>
      filtered.push([what, ...rest]);
  const made = { allow: note("allow"), remove: note("remove"), clear: note("clear"), close: note("close") };
  close = spyOn(fs, "closeSync").mockImplementation(nothing);
  open = spyOn(sockets, "openSleeveSocket").mockImplementation(() => UDP);
  filter = spyOn(filters, "StrangerFilter").mockImplementation((() => ({ ...made, dropped: 9 })) as never);
});
afterEach(() => {
  for (const spy of [close, open, filter]) spy.mockRestore();
});

/** Return a sleeve overlay whose engine records its messages; `ends` tells whether the engine releases its files. */
function sleeve({ aegis = false, ends = true }: { aegis?: boolean; ends?: boolean } = {}) {
  const clock = new SimulatedClock(1_000);
  const engines: {
    setup: Omit<EngineSetup, "readFd" | "writeFd">;
    told: ToEngine[];
    say(message: FromEngine): void;
    fail(): void;
  }[] = [];
  const calls: string[] = [];
  const logged: string[] = [];
  const overlay = new SleeveOverlay(
    { name: OWN, host: "127.0.0.1", port: 6_783, tapFd: 5, macsFd: 6, aegis },
    clock,
    { ...silentLog, error: (text) => logged.push(text), warning: (text) => logged.push(text) },
    () => calls.push("changed"),
    () => calls.push("TAP removed"),
    () => calls.push("restarted"),
    (setup, _clock, { received, failed }) => {
      const told: ToEngine[] = [];
      engines.push({ setup, told, say: received, fail: () => failed("out of memory") });
      return { flush: () => {}, post: (message) => told.push(message), stop: async () => ends, waiting: 3 };
    },
  );
  overlay.start((peer) => (peer.name === OTHER ? 2 : undefined));
  const failed: string[] = [];
  const connect = (change: Partial<CandidateParams> = {}) =>
    overlay.prepare({
      ...{ remotePeer: Peer.placeholder(OTHER), localIp: "127.0.0.1", remoteIp: "127.0.0.2" },
      ...{ remotePort: 6_783, outbound: true, connectionUid: 8n, sessionKey: undefined },
      ...{ features: new Map(), sendControl: nothing, established: nothing, restart: nothing },
      ...{ health: nothing, preferred: () => true, failed: ({ message }) => failed.push(message) },
      ...change,
    });
  const engine = () => engines.at(-1) ?? expect.unreachable();
  const told = () => engine().told.splice(0);
  return { overlay, clock, connect, engine, engines, told, calls, logged, failed };
}

const REMOTE = { address: parseIPv4("127.0.0.2"), port: 6_783 };

test("the engine gets its descriptors, our name, and whether to load AEGIS", () => {
  for (const aegis of [false, true]) {
    const { engine, overlay } = sleeve({ aegis });
    expect(engine().setup).toEqual({
      ...{
        tapFd: 5,
        udpFd: UDP,
        macsFd: 6,
        aegis,
        name: nameToBytes(OWN),
        counters: overlay.counters.memory,
      },
    } as never);
  }
  expect(open.mock.calls).toEqual([
    [parseIPv4("127.0.0.1"), 6_783],
    [parseIPv4("127.0.0.1"), 6_783],
  ]);
});

describe("a connection", () => {
  test("is a link of the engine, with datagrams from the peer's address allowed, until it stops", () => {
    const { connect, told, calls } = sleeve();
    const connection = connect();
    const name = nameToBytes(OTHER);
    const sealing = { key: undefined, outbound: true };
    expect(told().slice(0, 1)).toEqual([
      { type: "add", params: { kind: "sleeve", index: 0, peer: 2, name, ...sealing } },
    ]);
    expect(filtered).toEqual([
      ["allow", OTHER, 0],
      ["allow", OTHER, 0, undefined],
    ]);
    expect(connection.route).toBeUndefined();
    connection.confirm();
    expect(filtered.at(-1)).toEqual(["allow", OTHER, 0, REMOTE.address]);
    expect([connection.route, calls.includes("changed")]).toEqual([{ kind: "sleeve", link: 0 }, true]);
    expect(told().find(({ type }) => type === "special")).toMatchObject({ index: 0, df: true, uid: 8n });
    filtered.length = 0;
    connection.stop();
    expect(told().at(-1)).toEqual({ type: "remove", index: 0 });
    expect([filtered.at(-1), connection.route]).toEqual([["remove", OTHER, 0], undefined]);
  });

  test("that is inbound has no remote address before the first datagram", () => {
    const { connect, engine, told } = sleeve();
    const connection = connect({ outbound: false });
    connection.confirm();
    expect(filtered.map(([, , , address]) => address)).toEqual(filtered.map(() => undefined));
    expect(connection.route).toBeUndefined();
    const from = { address: parseIPv4("127.0.0.9"), port: 4_000 };
    // A heartbeat: its frame has the connection's uid.
    engine().say({ type: "special", index: 0, frame: { length: 22, from, uid: 8n, zeros: false } });
    expect(filtered.at(-1)).toEqual(["allow", OTHER, 0, from.address]);
    expect(told().findLast(({ type }) => type === "set")).toMatchObject({ settings: { remote: from } });
  });

  test.each<[string, boolean, boolean, string | undefined]>([
    ["both ends have it", true, true, AEGIS.value],
    ["the peer lacks it", true, false, "secretbox"],
    ["this host lacks it", false, true, "secretbox"],
  ])("is sealed by AEGIS where %s", (_where, aegis, theirs, cipher) => {
    const { connect, overlay, told } = sleeve({ aegis });
    const features = new Map(theirs ? [[AEGIS.feature, AEGIS.value]] : []);
    connect({ sessionKey: KEY, features });
    expect(told()[0]).toMatchObject({ params: { key: KEY, cipher } });
    connect({ features });
    expect(told()[0]).not.toMatchObject({ params: { cipher: expect.anything() } });
    expect(overlay.features()).toEqual(aegis ? { [AEGIS.feature]: AEGIS.value } : {});
  });

  test("does not use AEGIS if the engine could not load it", () => {
    const { connect, overlay, engine, told } = sleeve({ aegis: true });
    engine().say({ type: "ready", crypto: "wasm", aegis: true });
    expect(overlay.features()).toEqual({ [AEGIS.feature]: AEGIS.value });
    engine().say({ type: "ready", crypto: "wasm", aegis: false });
    expect([overlay.features(), overlay.crypto]).toEqual([{}, "wasm"]);
    connect({ sessionKey: KEY, features: new Map([[AEGIS.feature, AEGIS.value]]) });
    expect(told()[0]).toMatchObject({ params: { cipher: "secretbox" } });
  });

  test("is refused if its peer has no number", () => {
    const { connect } = sleeve();
    expect(() => connect({ remotePeer: Peer.placeholder(nameFromNumber(3n)) })).toThrow(
      "too many peers for the link numbers of sleeve",
    );
  });
});

test("link numbers are reused last, with new counters; VXLAN links do not allow datagrams", () => {
  const { overlay, told } = sleeve();
  expect(["a", "b"].map(() => overlay.addLink("vxlan", 2, OTHER))).toEqual([0, 1]);
  expect(filtered).toEqual([]);
  overlay.counters.noteHeard(2, 500);
  overlay.removeLink(1);
  expect([overlay.addLink("vxlan", 2, OTHER), overlay.counters.lastHeard(2)]).toEqual([2, 0]);
  overlay.setLink(2, { remote: REMOTE, local: 0, mtu: 1_000, fragments: true });
  overlay.removeLink(2);
  expect(filtered).toEqual([]);
  expect(told().map(({ type }) => type)).toEqual(["add", "add", "remove", "add", "set", "remove"]);
  expect(overlay.limits()).toEqual([
    { name: "sleeve-links", value: 1, max: 4_096 },
    { name: "sleeve-engine-messages", value: 3, max: expect.any(Number) },
  ]);
});

test("tables, frames and TAP events go to the engine unchanged; diagnostics add the kernel's counters to its own", () => {
  const { overlay, told, engine, calls } = sleeve();
  const tables = { self: 1 } as never;
  overlay.configure(tables);
  overlay.sendFrame(4, KEY);
  overlay.tapRestored();
  expect(told()).toEqual([
    { type: "tables", tables },
    { type: "frame", index: 4, frame: KEY },
    { type: "tapRestored" },
  ]);
  engine().say({ type: "tapRemoved" });
  expect(calls).toEqual(["TAP removed"]);
  expect(overlay.diagnostics()).toMatchObject({ crypto: "", sent: 0, strangers: 9 });
});

test("an error of the engine is recorded with its stack, and logged once", () => {
  const { engine, logged } = sleeve();
  using noted = spyOn(unexpected, "noteFailure").mockImplementation(nothing);
  engine().say({ type: "error", reason: "out of range", stack: "at x" });
  engine().say({ type: "error", reason: "out of range" });
  expect(noted.mock.calls.map(([what, error]) => [what, (error as Error).stack])).toEqual([
    ["the sleeve engine", "at x"],
  ]);
  expect(logged).toEqual(["sleeve lost a frame: out of range"]);
});

test("all links end with the engine, also in the filter; another engine starts without links, unless sleeve has stopped", async () => {
  const { connect, engine, engines, failed, overlay, clock, calls } = sleeve();
  connect();
  const second = connect();
  second.stop();
  filtered.length = 0;
  engine().fail();
  expect(filtered).toEqual([["clear"]]);
  expect(failed).toEqual(["the sleeve engine has ended: out of memory"]);
  expect(() => connect()).toThrow("the sleeve engine has ended: out of memory");
  await Bun.sleep(0);
  clock.advance(60_000);
  expect([engines.length, calls.filter((call) => call === "restarted").length]).toEqual([2, 1]);
  connect();
  engine().fail();
  await overlay.stop();
  clock.advance(600_000);
  await Bun.sleep(0);
  clock.advance(600_000);
  expect(engines.length).toBe(2);
});

test.each([[true], [false]])("the socket is closed only if the engine has released it: %p", async (ends) => {
  const { overlay } = sleeve({ ends });
  expect(await overlay.stop()).toBe(ends);
  expect(close.mock.calls).toEqual(ends ? [[UDP]] : []);
  expect(filtered).toEqual([["close"]]);
});

test("a warning says that without the filter all datagrams wake the engine", () => {
  filter.mockImplementation(() => {
    throw new Error("not permitted");
  });
  const { logged, overlay, connect } = sleeve();
  expect(logged).toEqual([
    "cannot filter datagrams of unknown peers, so they wake the sleeve engine: not permitted",
  ]);
  connect().stop();
  expect(overlay.diagnostics()).toMatchObject({ strangers: 0 });
});
