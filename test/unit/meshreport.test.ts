// The mesh as status, report and doctor show it: each state of a target, each kind of peer that is missing, word for word.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Target } from "../../lib/mesh/dial/target.ts";
import {
  CollisionError,
  DialError,
  HandshakeError,
  peerTrouble,
  RefusedError,
  SelfConnectionError,
} from "../../lib/mesh/errors.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { nullOverlay, type Overlay } from "../../lib/mesh/overlay.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { type ConnectionReport, connectionReport, targetReport } from "../../lib/mesh/report/connections.ts";
import { countsOf, meshCounts } from "../../lib/mesh/report/counts.ts";
import { lostReports, refusedReports, vitalsReport } from "../../lib/mesh/report/peers.ts";
import { peerProblems } from "../../lib/mesh/report/problems.ts";
import { type MeshReport, meshReport } from "../../lib/mesh/report/report.ts";
import { targetState } from "../../lib/mesh/report/targets.ts";
import type { MeshRouter } from "../../lib/mesh/router.ts";
import { Simulation } from "../support/simulation.ts";

const name = (i: number) => nameFromNumber(BigInt(i));
const peer = (i: number) => new Peer({ ...Peer.placeholder(name(i)), nickName: `h${i}`, uid: BigInt(i) });
const ADDRESS = "10.0.0.2:6783";
const DIAL = new DialError(ADDRESS, "refused", "connection refused", "connect");

const target = (state: Target["state"], error?: Error, tryAfter: number | undefined = 65_500): Target => ({
  ...{ state, lastError: error, trouble: error && peerTrouble(error, ADDRESS), tryAfter, giveUp: undefined },
});

describe("a target", () => {
  const clock = new SimulatedClock(60_000);
  clock.wallOffset = 1_700_000_000_000;
  const RETRY = { RetryAt: "2023-11-14T22:14:25.500Z" };
  const WHEN = "2023-11-14 22:14:25.500 +0000 UTC";
  const TROUBLE = {
    Trouble: { Cause: "refused", Reason: "connection refused", Remedy: expect.stringContaining("TCP 6783") },
  };

  test.each<[string, Target, object | undefined]>([
    ["that is dialled", target("attempting"), { State: "connecting", Info: "" }],
    [
      "that is dialled again",
      target("attempting", DIAL),
      { State: "retrying", Info: DIAL.message, ...TROUBLE },
    ],
    ["that waits for its turn", target("waiting"), { State: "waiting", Info: `until: ${WHEN}`, ...RETRY }],
    [
      "that failed",
      target("waiting", DIAL),
      { State: "failed", Info: `${DIAL.message}, retry: ${WHEN}`, ...TROUBLE, ...RETRY },
    ],
    [
      "that is ourself",
      { ...target("waiting", new SelfConnectionError()), tryAfter: undefined },
      {
        State: "failed",
        Info: "cannot connect to ourself, retry: never",
        Trouble: { Cause: "self", Reason: "cannot connect to ourself", Remedy: expect.any(String) },
      },
    ],
    ["that is connected", target("connected", DIAL), undefined],
  ])("%s", (_what, of, expected) => {
    expect(targetReport(clock, ADDRESS, of)).toEqual(
      expected ? [{ Address: ADDRESS, Outbound: true, Attrs: null, ...expected } as ConnectionReport] : [],
    );
  });

  const connection = (established: boolean, known = true) =>
    ({ established, knownRemote: known ? peer(2) : undefined }) as never;
  const named = {
    name: "h2",
    address: ADDRESS,
    unresolved: undefined,
    connection: undefined,
    target: undefined,
  };
  const shown = (State: string, error?: Error, more = {}) => ({
    ...{ Target: "h2", Address: ADDRESS, State },
    ...{
      Reason: error ? peerTrouble(error, ADDRESS).reason : "",
      Advice: error ? peerTrouble(error, ADDRESS).remedy : "",
    },
    ...more,
  });
  const PEER = { Peer: { Name: name(2), NickName: "h2" } };
  const refused = new RefusedError("another ring", "reset", "division");
  const handshake = new HandshakeError("password", "passwords differ", "use one");
  const collision = new CollisionError(peer(1), peer(1), ADDRESS);

  test.each<[string, Partial<Parameters<typeof targetState>[0]>, object]>([
    [
      "connected",
      { connection: connection(true), target: target("connected") },
      shown("connected", undefined, PEER),
    ],
    ["not known yet", {}, shown("connecting")],
    [
      "shaking hands",
      { connection: connection(false, false), target: target("connected", DIAL) },
      shown("connecting"),
    ],
    ["failed", { target: target("waiting", DIAL) }, shown("failed", DIAL)],
    ["refused", { target: target("waiting", refused) }, shown("refused", refused)],
    ["refused by its handshake", { target: target("waiting", handshake) }, shown("refused", handshake)],
    ["of our name", { target: target("waiting", collision) }, shown("refused", collision)],
    ["ourself", { target: target("waiting", new SelfConnectionError()) }, shown("self")],
    [
      "unresolved",
      { address: undefined, unresolved: peerTrouble(DIAL, "h2") },
      { ...shown("unresolved", DIAL), Address: "", Advice: peerTrouble(DIAL, "h2").remedy },
    ],
  ])("that the user named: %s", (_what, of, expected) =>
    expect(targetState({ ...named, ...of })).toEqual(expected as never),
  );
});

describe("a network of three", () => {
  async function three() {
    const simulation = new Simulation(3n);
    const [a, b, c] = [1, 2, 3].map((i) => simulation.add(i));
    if (!a || !b || !c) throw new Error("no peers");
    // In a row: a - b - c.
    await simulation.connect(a, b);
    await simulation.connect(b, c);
    return { simulation, a: a.router, b: b.router, c: c.router };
  }

  test("is reported with the original's fields, each peer by its name", async () => {
    const simulation = new Simulation(3n);
    const [a, b] = [1, 2].map((i) => simulation.add(i, { discovery: i === 1 }));
    if (!a || !b) throw new Error("no peers");
    await simulation.connect(a, b);
    simulation.until(() => simulation.meshed(), 10_000);
    simulation.clock.advance(1_000);
    const router = a.router;
    const report = meshReport(router, new Set());
    const link = (remote: MeshRouter, Outbound: boolean, Address: string) => ({
      ...{
        Name: remote.ourself.name,
        NickName: remote.ourself.nickName,
        Address,
        Outbound,
        Established: true,
      },
    });
    const [inbound] = b.router.connections.values();
    const own = ({ ourself }: MeshRouter, Connections: object[]) => ({
      ...{ Name: ourself.name, NickName: ourself.nickName, UID: ourself.uid },
      ...{ ShortID: ourself.shortId, Version: ourself.version, Connections },
    });
    const Peer2 = { Name: name(2), NickName: "h2" };
    expect({ ...report }).toEqual({
      ...{
        Protocol: "weave",
        ProtocolMinVersion: 1,
        ProtocolMaxVersion: 2,
        Encryption: false,
        PeerDiscovery: true,
      },
      Counts: {
        ...{ Connections: { established: 1 }, Slow: 0, Peers: 2 },
        PeerConnections: { Established: 2, Pending: 0 },
      },
      ...{ Name: name(1), NickName: "h1", Port: 6783, TerminationCount: 0, Targets: ["10.0.0.2"] },
      Peers: [
        own(router, [link(b.router, true, "10.0.0.2:6783")]),
        own(b.router, [link(router, false, inbound?.address ?? "")]),
      ],
      UnicastRoutes: [
        { Dest: name(1), Via: "00:00:00:00:00:00" },
        { Dest: name(2), Via: name(2) },
      ],
      BroadcastRoutes: [
        { Source: name(1), Via: [name(2)] },
        { Source: name(2), Via: null },
      ],
      Connections: [
        {
          ...{
            Address: "10.0.0.2:6783",
            Outbound: true,
            State: "established",
            Info: `none   ${name(2)}(h2)`,
          },
          ...{
            Attrs: { name: "none" },
            Peer: Peer2,
            Vitals: expect.objectContaining({ Silent: false, RoundTripMs: null }),
          },
        },
      ],
      Lost: [],
      Refused: [],
      GossipBytes: { Received: router.gossipBytes.received, Sent: router.gossipBytes.sent },
      TargetStates: [
        {
          Target: "10.0.0.2",
          Address: "10.0.0.2:6783",
          State: "connected",
          Reason: "",
          Advice: "",
          Peer: Peer2,
        },
      ],
    } as unknown as MeshReport);
    expect([router.gossipBytes.received > 50, router.gossipBytes.sent > 50]).toEqual([true, true]);
    expect(meshReport(b.router, new Set()).PeerDiscovery).toBe(false);
    expect(peerProblems(router, report)).toEqual([]);
    expect(countsOf(report)).toEqual(meshCounts(router));
  });

  test("a peer that goes is lost: reachable or not, missed where it owns addresses; and back when it comes again", async () => {
    const { simulation, a, b } = await three();
    simulation.until(() => simulation.meshed(), 10_000);
    simulation.clock.advance(5_000);
    const at = () =>
      lostReports(a, new Set([name(3)])).map(({ Name, Reachable, OwnsAddresses }) => [
        Name,
        Reachable,
        OwnsAddresses,
      ]);
    const third = simulation.peers[2];
    if (!third) throw new Error("no peer");
    simulation.network.cut("10.0.0.1", "10.0.0.3");
    simulation.clock.advance(200);
    expect(at()).toEqual([[name(3), true, true]]);
    expect(
      peerProblems(a, meshReport(a, new Set([name(3)]))).filter(({ Found }) => Found.includes("lost")),
    ).toEqual([]);
    simulation.kill(third);
    simulation.until(() => a.peers.size === 2, 30_000);
    expect(at()).toEqual([[name(3), false, true]]);
    const [lost] = lostReports(a, new Set([name(3)]));
    expect(structuredClone(lost)).toMatchObject({
      ...{ NickName: "h3", Address: expect.stringContaining("10.0.0.3:"), Reason: expect.any(String) },
      Remedy: `start its router again, or 'weave rmpeer ${name(3)}' if it is gone for good`,
    });
    const problems = (owners: Set<string>) =>
      peerProblems(a, meshReport(a, owners)).filter(({ Found }) => Found.includes("was lost"));
    expect(problems(new Set())).toEqual([]);
    expect(problems(new Set([name(3)]))).toEqual([
      {
        ...{ Check: "peers", Address: lost?.Address ?? "", Advice: lost?.Remedy ?? "" },
        Found: `peer ${name(3)}(h3) at ${lost?.Address} was lost at ${lost?.At.replace(/\.\d+/, "")}: ${lost?.Reason}`,
      },
    ]);
    expect(lostReports(b, new Set()).map(({ Name, OwnsAddresses }) => [Name, OwnsAddresses])).toEqual([
      [name(3), false],
    ]);
    simulation.network.cut("10.0.0.1", "10.0.0.3", false);
    simulation.add(3);
    simulation.until(
      () => a.connections.size === 2 && [...a.connections.values()].every((c) => c.established),
      60_000,
    );
    expect(at()).toEqual([]);
  });

  test("of a peer that was lost as this host lost its address, the remedy is here", async () => {
    const { simulation, a } = await three();
    simulation.until(() => simulation.meshed(), 10_000);
    a.underlayChanged(
      () => "this host has no address 10.0.0.1 any more",
      () => undefined,
    );
    expect(lostReports(a, new Set()).map(({ Reason, Remedy }) => [Reason, Remedy])[0]).toEqual([
      "this host has no address 10.0.0.1 any more",
      "give this host an address again, in the network of its peers: see 'ip address'",
    ]);
  });

  test("a peer that no overlay reaches is a problem after some seconds, unless frames go by another", async () => {
    const reason = "fastdp: heartbeats do not get through";
    /** No overlay works between peers 1 and 2. */
    const blocked = (self: number): Overlay => ({
      ...nullOverlay,
      prepare: (params) =>
        params.remotePeer.name === name(3 - self)
          ? {
              ...{ confirm() {}, control() {}, stop() {}, attributes: () => ({ name: "sleeve" }) },
              slowness: () => ({ cause: "silent", reason, remedy: "" }),
            }
          : nullOverlay.prepare(params),
    });
    const simulation = new Simulation(1n);
    const [one, two] = [1, 2].map((i) => simulation.add(i, {}, undefined, blocked(i)));
    if (!one || !two) throw new Error("no peers");
    await simulation.connect(one, two);
    const problems = ({ router }: typeof one) => peerProblems(router, meshReport(router, new Set()));
    simulation.clock.advance(8_000);
    expect([problems(one), problems(two)]).toEqual([[], []]);
    simulation.clock.advance(5_000);
    expect(problems(one)).toEqual([
      {
        Check: "peers",
        Address: "10.0.0.2:6783",
        Found: `no frames get to peer ${name(2)}(h2) at 10.0.0.2:6783: no overlay works; ${reason}`,
        Advice: "open UDP 6783 and the UDP port above it between this host and 10.0.0.2",
      },
    ]);
    expect(problems(two).map(({ Advice }) => Advice)).toEqual([
      "open UDP 6783 and the UDP port above it between this host and 10.0.0.1",
    ]);
    const three = simulation.add(3);
    await simulation.connect(three, one, two);
    simulation.clock.advance(5_000);
    expect([problems(one), problems(two)]).toEqual([[], []]);
  });

  test("a peer that can be reached by a silent one alone is not reachable", async () => {
    const { simulation, a } = await three();
    simulation.until(() => simulation.meshed(), 10_000);
    const lost = [...a.connections.values()].find(({ remote }) => remote.name === name(3));
    simulation.network.cut("10.0.0.1", "10.0.0.3");
    simulation.clock.advance(500);
    expect(lost?.ended).toBe(true);
    simulation.network.mute("10.0.0.2");
    simulation.clock.advance(40_000);
    expect(lostReports(a, new Set()).map(({ Reachable }) => Reachable)).toEqual([false]);
    const [problem] = peerProblems(a, meshReport(a, new Set()));
    expect(problem).toEqual({
      Check: "peers",
      Found: expect.stringMatching(/^peer 00:00:00:00:00:02\(h2\) at 10\.0\.0\.2:6783 is silent for \d\d s$/),
      Advice: "its router hangs, or the path to its host is cut: 'weave doctor' there",
    });
  });
});

test("a connection: encrypted or not, with the overlay's name, trouble and counters", () => {
  const clock = new SimulatedClock(10_000);
  const mesh = (encryption: unknown) => ({ encryption, clock }) as unknown as MeshRouter;
  const connection = (more: object) =>
    ({
      ...{ address: ADDRESS, outbound: false, established: true, trusted: false, remote: peer(2) },
      attributes: () => ({ name: "sleeve", mtu: 1_438 }),
      slowness: () => undefined,
      vitals: () => ({
        ...{ since: 4_000, heardMs: 1.6, silent: true, framesMs: 0, roundTripMs: 0 },
        received: { bytes: 0, perSecond: 1.6 },
        sent: { bytes: 9, perSecond: 2.4 },
        byOverlay: [{ overlay: "sleeve", received: 1, sent: 2 }],
      }),
      ...more,
    }) as unknown as Parameters<typeof connectionReport>[1];
  const info = (encryption: unknown, more: object) =>
    connectionReport(mesh(encryption), connection(more)).Info;
  expect([info({}, {}), info({}, { trusted: true }), info(undefined, {})]).toEqual([
    `encrypted   sleeve ${peer(2)}`,
    `unencrypted sleeve ${peer(2)}`,
    `sleeve ${peer(2)}`,
  ]);
  expect(info(undefined, { attributes: () => undefined })).toBe(`none   ${peer(2)}`);
  const attributes = (encryption: unknown, trusted: boolean) =>
    connectionReport(mesh(encryption), connection({ trusted })).Attrs;
  expect(attributes({}, false)).toEqual({ name: "sleeve", mtu: 1_438, encrypted: true });
  expect([attributes({}, true), attributes(undefined, false)]).toEqual(
    Array(2).fill({ name: "sleeve", mtu: 1_438 }),
  );
  expect(
    connectionReport(
      mesh(undefined),
      connection({ established: false, slowness: () => ({ cause: "c", reason: "r", remedy: "m" }) }),
    ),
  ).toMatchObject({ State: "pending", Outbound: false, Trouble: { Cause: "c", Reason: "r", Remedy: "m" } });
  expect(vitalsReport(clock, connection({}))).toEqual({
    ...{ Since: "2023-11-14T22:13:14.000Z", LastHeardMs: 2, Silent: true, LastFrameMs: 0, RoundTripMs: 0 },
    ...{ ReceivedBytes: 0, SentBytes: 9, ReceivedBytesPerS: 2, SentBytesPerS: 2 },
    ByOverlay: [{ Overlay: "sleeve", ReceivedBytes: 1, SentBytes: 2 }],
  });
  const nothing = { since: undefined, heardMs: 0, silent: false, byOverlay: [] };
  expect(vitalsReport(clock, connection({ vitals: () => nothing }))).toEqual({
    ...{ Since: null, LastHeardMs: 0, Silent: false, LastFrameMs: null, RoundTripMs: null },
    ...{ ReceivedBytes: null, SentBytes: null, ReceivedBytesPerS: null, SentBytesPerS: null, ByOverlay: [] },
  });
});

test("problems: the worst first; what has a line of its own is not told twice; of strangers five", async () => {
  const simulation = new Simulation(5n);
  const { router } = simulation.add(1, {}, 1n, nullOverlay);
  await router.maker.connect(["10.0.0.50", "10.0.0.51"], false);
  simulation.clock.advance(30_000);
  const refusal = new RefusedError("another ring", "reset it", "division");
  router.admission.refusals.add(peer(7), { address: "10.0.0.7:6783", outbound: true }, refusal, true);
  const handshake = new HandshakeError("password", "passwords differ", "use one");
  const stranger = (i: number, outbound = false) => ({
    address: `10.0.1.${i}:6783`,
    remoteIp: `10.0.1.${i}`,
    outbound,
  });
  for (let i = 0; i < 7; i++) router.admission.refusedHandshakes.note(stranger(i), handshake);
  router.admission.refusedHandshakes.note(stranger(99), new HandshakeError("name", "our name", "reset"));
  const report = meshReport(router, new Set());
  expect(refusedReports(router).map(({ Peer: by, Cause }) => [by?.NickName, Cause])).toEqual([
    ["h7", "division"],
    ...Array(7).fill([undefined, "password"]),
    [undefined, "name"],
  ]);
  const found = (of: MeshReport) => peerProblems(router, of).map(({ Found, Address }) => [Found, Address]);
  expect(found(report)).toEqual([
    [
      expect.stringMatching(/^named peer 10\.0\.0\.50 at 10\.0\.0\.50:6783 cannot be reached: /),
      "10.0.0.50:6783",
    ],
    [
      expect.stringMatching(/^named peer 10\.0\.0\.51 at 10\.0\.0\.51:6783 cannot be reached: /),
      "10.0.0.51:6783",
    ],
    [
      `peer ${name(7)}(h7) at 10.0.0.7:6783 is refused since 2023-11-14T22:13:50Z: another ring`,
      "10.0.0.7:6783",
    ],
    ...[0, 1, 2, 3, 4].map((i) => [
      `the host at 10.0.1.${i} is refused since 2023-11-14T22:13:50Z: passwords differ`,
      `10.0.1.${i}`,
    ]),
    ["2 more hosts are refused", undefined],
  ] as never);
  // A named peer that refuses us has that line alone.
  const refused = refusedReports(router).map((each) => ({
    ...each,
    Address: "10.0.0.50:6783",
    Outbound: true,
  }));
  expect(found({ ...report, Refused: refused.slice(0, 1) }).map(([text]) => text?.slice(0, 20))).toEqual([
    "named peer 10.0.0.51",
    `peer ${name(7)}`.slice(0, 20),
  ]);
  const lost = {
    ...{
      Name: "n",
      NickName: "b",
      Address: "10.0.0.51:6783",
      Outbound: true,
      At: "",
      Reason: "",
      Remedy: "",
    },
  };
  const missed = { ...lost, Reachable: false, OwnsAddresses: true };
  const of = (Lost: MeshReport["Lost"]) =>
    found({ ...report, Lost: Lost ?? [], Refused: [] }).filter(([text]) => text?.includes("0.51")).length;
  expect([
    of([missed]),
    of([{ ...missed, Reachable: true }]),
    of([{ ...missed, OwnsAddresses: false }]),
  ]).toEqual([1, 1, 1]);
  expect(found({ ...report, Lost: [missed], Refused: [] })[0]?.[0]).toStartWith(
    "peer n(b) at 10.0.0.51:6783 was lost",
  );
});
