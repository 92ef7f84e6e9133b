// Edges of what is reported: states of the ring, dead names, figures that are not known, and what a silent peer still does.
import { describe, expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import { metricsText } from "../../lib/api/metrics.ts";
import { makeReport, type Report } from "../../lib/api/report.ts";
import { connectionsSummary, namesSummary, ownersSummary } from "../../lib/api/summary.ts";
import { fillTemplate } from "../../lib/api/template/evaluate.ts";
import { eventLoopReport, noteLag, timedCall } from "../../lib/clock/eventloop.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import * as ipam from "../../lib/ipam/report.ts";
import { logfmt } from "../../lib/log/fields.ts";
import { MUTE } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import * as peers from "../../lib/mesh/report/problems.ts";
import * as mesh from "../../lib/mesh/report/report.ts";
import { connectionCause } from "../../lib/mesh/trouble.ts";

const file = join(import.meta.dir, "../vectors/original/templates.json");
const { report: original } = (await Bun.file(file).json()) as { report: Report };

describe("the ring is", () => {
  const entry = (Size: number, IsKnownPeer: boolean) => ({ Size, IsKnownPeer });
  const paxos = { Elector: true, Quorum: 2, KnownNodes: 1 };
  test.each<[string, object]>([
    ["ready", { Entries: [entry(0, false), entry(1, true)], PendingAllocates: null }],
    ["waiting for IP(s) to become available", { Entries: [entry(1, true)], PendingAllocates: ["c"] }],
    [
      "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead",
      { Entries: [entry(0, true), entry(1, false)], PendingAllocates: ["c"] },
    ],
    ["idle", { Entries: null }],
    ["priming", { Entries: null, Paxos: { ...paxos, Elector: false }, WaitsFor: ["host2"] }],
    [
      "waiting for host2, host3, which may know the ring - use 'forget' for peers that are gone",
      { Entries: null, Paxos: paxos, WaitsFor: ["host2", "host3"] },
    ],
    ["awaiting consensus (quorum: 2, known: 1)", { Entries: null, Paxos: paxos }],
  ])("%s", (text, state) => {
    expect(ipam.ipamStatus(state as never)).toBe(text);
  });
});

test("names that were removed are not listed", () => {
  const name = (Hostname: string, Tombstone: number) => ({
    ...{ Hostname, Tombstone, Origin: "o", ContainerID: "c", Address: "10.32.0.1", Version: 1 },
  });
  const report = { DNS: { Entries: [name("a.", 0), name("b.", 7)] } } as unknown as Report;
  expect(namesSummary(report).length).toBe(1);
  expect(namesSummary({} as Report)).toEqual([]);
});

test("a peer that owns several ranges is listed once, with the sum of them, and we first", () => {
  const range = (Peer: string, Size: number, IsKnownPeer = true) => ({
    ...{ Token: "10.32.0.0", Size, Peer, Nickname: `host ${Peer}`, IsKnownPeer, Version: 1 },
    ...(IsKnownPeer ? {} : { UnreachableSince: "2026-11-26T11:00:00Z" }),
  });
  const Entries = [range("a", 1), range("us", 2), range("a", 4), range("gone", 8, false), range("us", 16)];
  Entries.push(range("a", 32));
  const report = { Router: { Name: "us" }, IPAM: { Entries } } as unknown as Report;
  const reachable = { reachable: true, unreachableSince: null };
  expect(ownersSummary(report)).toEqual([
    { name: "us", nickname: "host us", addresses: 18, ...reachable },
    { name: "a", nickname: "host a", addresses: 37, ...reachable },
    {
      ...{ name: "gone", nickname: "host gone", addresses: 8 },
      ...{ reachable: false, unreachableSince: "2026-11-26T11:00:00Z" },
    },
  ]);
  expect(ownersSummary({ ...report, IPAM: undefined } as never)).toEqual([]);
});

test("what is not known of a connection is null, not 0", () => {
  const Connections = [
    { Address: "10.0.0.1:6783", Outbound: true, State: "connecting", Info: "", Attrs: {} },
  ];
  const report = {
    ...original,
    Router: { ...original.Router, Connections, Targets: [], TargetStates: [], Lost: [], Refused: [] },
  } as unknown as Report;
  const [connection] = connectionsSummary(report);
  expect(connection).toMatchObject({
    ...{ since: null, lastHeardMs: null, silent: false, roundTripMs: null },
    ...{ receivedBytes: null, sentBytes: null, receivedBytesPerS: null, sentBytesPerS: null },
  });
});

test("an Ethernet address was last seen at a date of the wall clock", () => {
  const clock = new SimulatedClock(60_000);
  clock.wallOffset = Date.UTC(2026, 10, 26) - 60_000;
  using _mesh = spyOn(mesh, "meshReport").mockImplementation(() => ({}) as never);
  using _peers = spyOn(peers, "peerProblems").mockImplementation(() => []);
  using _ipam = spyOn(ipam, "ipamProblems").mockImplementation(() => []);
  const none = { links: [], notes: [], cni: [], requests: [], silences: [], limits: [], problems: [] };
  const { Router } = makeReport({
    ...{ ...none, trustedSubnets: [], mesh: { clock }, overlay: { Port: "p", Kind: "k" }, allocates: false },
    allocator: { ring: { peerNames: () => new Set() }, problems: () => ({}) },
    macs: () => [{ mac: "02:00:00:00:00:02", peer: { name: "n", nickName: "h" }, seenAgoMs: 1_500 }],
  } as never);
  expect(Router.MACs).toEqual([
    { Mac: "02:00:00:00:00:02", Name: "n", NickName: "h", LastSeen: "2026-11-25T23:59:58.500Z" },
  ]);
});

test("the kernel's maps are read only if a format names them, and once", () => {
  using _mesh = spyOn(mesh, "meshReport").mockImplementation(() => ({}) as never);
  using _peers = spyOn(peers, "peerProblems").mockImplementation(() => []);
  using _ipam = spyOn(ipam, "ipamProblems").mockImplementation(() => []);
  const reads: string[] = [];
  const read = (what: string, value: unknown) => () => {
    reads.push(what);
    return value;
  };
  const none = { links: [], notes: [], cni: [], requests: [], silences: [], limits: [], problems: [] };
  const report = makeReport({
    ...{ ...none, trustedSubnets: [], mesh: {}, overlay: { Port: "p", Kind: "k" }, allocates: false },
    allocator: { ring: { peerNames: () => new Set() }, problems: () => ({}) },
    macs: read("MACs", []),
    diagnostics: read("diagnostics", { fastdp: null }),
    dropped: read("drops", { flood: 1 }),
  } as never);
  expect(reads).toEqual([]);
  const names = "{{$x := .Router.MACs}}{{$y := .Router.OverlayDiagnostics}}{{$z := .Dropped}}";
  fillTemplate(names.repeat(3), report, JSON.stringify);
  expect(reads).toEqual(["MACs", "diagnostics", "drops"]);
  expect(report.Dropped).toEqual({ flood: 1 });
});

test("the MTU of the network is measured where there is one", async () => {
  const of = (Mtu: unknown) =>
    metricsText({ ...original, Notes: [], Containers: [], Router: { ...original.Router, Mtu } } as never);
  expect(await of({ Network: 1_376, Auto: false })).toContain("\nweave_mtu_bytes 1376\n");
  expect(await of(undefined)).not.toContain("weave_mtu_bytes");
});

describe("the event loop", () => {
  test("tells the longest call so far in seconds, the first of equal ones", () => {
    let now = 0;
    const clock = spyOn(performance, "now").mockImplementation(() => now);
    const taking = (ms: number, operation: string) =>
      timedCall(operation, () => {
        now += ms;
        return operation;
      });
    try {
      // Longer than any call of another test.
      expect(taking(7_000_000, "long")).toBe("long");
      taking(6_000_000, "shorter");
      taking(7_000_000, "as long");
      expect(eventLoopReport().LongestCall).toEqual({ Operation: "long", Seconds: 7_000 });
      expect(() =>
        timedCall("failing", () => {
          now += 8_000_000;
          throw new Error("no");
        }),
      ).toThrow("no");
      expect(eventLoopReport().LongestCall).toEqual({ Operation: "failing", Seconds: 8_000 });
    } finally {
      clock.mockRestore();
    }
  });

  test("counts how late timers are, in seconds; an early one is on time", () => {
    const before = eventLoopReport().Lag;
    noteLag(2_500);
    noteLag(-1_000);
    const after = eventLoopReport().Lag;
    expect(after.count - before.count).toBe(2);
    // The sum before is of other tests.
    expect(after.sum - before.sum).toBeCloseTo(2.5, 9);
  });
});

test("fields of a line are those that are known, without the code, quoted where that is needed", () => {
  expect(logfmt({ a: 1, code: "dialling", b: undefined, c: "x y", d: "", e: ["p", "q"] } as never)).toBe(
    ' a=1 c="x y" d="" e=p,q',
  );
});

test("a channel without other users reaches nobody", () => {
  expect(MUTE.unicast(nameFromNumber(2n), new Uint8Array())).toBe(false);
});

test.each([
  ["ECONNREFUSED", "refused"],
  ["EHOSTUNREACH", "no route"],
  ["EAI_AGAIN", "name servers"],
  ["EWHATEVER", "other"],
  [undefined, "other"],
] as const)("%p has the cause %s", (code, cause) => {
  expect(connectionCause(code)).toBe(cause);
});

test("a peer is silent for whole seconds, and forwards frames where one came after the last heartbeat", () => {
  const router = {
    admission: { collisions: { problems: () => [] }, refusals: { problems: () => [] } },
    ourself: { name: nameFromNumber(1n) },
    maker: { namedTargets: () => [] },
  };
  const found = (heardMs: number, framesMs: number | undefined, silent = true) => {
    const vitals = () => ({ silent, heardMs, framesMs, byOverlay: [] });
    const connections = [{ remote: "n(host2)", address: "10.0.0.2:6783", silent, vitals }];
    const maker = { ...router.maker, connections };
    return peers.peerProblems({ ...router, maker } as never, {} as never).map(({ Found }) => Found);
  };
  const silent = "peer n(host2) at 10.0.0.2:6783 is silent for 12 s";
  expect(found(12_999, undefined)).toEqual([silent]);
  expect(found(12_000, 12_000)).toEqual([silent]);
  expect(found(12_000, 11_999)).toEqual([`${silent}; its kernel still forwards frames of its containers`]);
  expect(found(12_000, undefined, false)).toEqual([]);
});
