// Silent, lost and refused peers: what is remembered, for how long, and how it is shown.
import { describe, expect, test } from "bun:test";
import { connectionsTable, connectionsText } from "../../lib/api/connections.ts";
import { healthText } from "../../lib/api/health.ts";
import { ageText, rateText, roundTripText } from "../../lib/api/quantities.ts";
import type { Report, RouterReport } from "../../lib/api/report.ts";
import { statusText } from "../../lib/api/status.ts";
import { connectionsSummary } from "../../lib/api/summary.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { IpamReport } from "../../lib/ipam/report.ts";
import { ClosedError, HandshakeError } from "../../lib/mesh/errors.ts";
import { LostPeers } from "../../lib/mesh/lostpeers.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { RefusedHandshakes } from "../../lib/mesh/refusedhandshakes.ts";
import { Meter } from "../../lib/overlay/meter.ts";

const MINUTE = 60_000;
const password = new HandshakeError("password", "the passwords differ", "use one", "Unable to decrypt");
const version = new HandshakeError("version", "it speaks another", "upgrade");

const called = (ip: string, port = 40_000) => ({ address: `${ip}:${port}`, remoteIp: ip, outbound: false });
const dialled = (ip: string) => ({ address: `${ip}:6783`, remoteIp: ip, outbound: true });

describe("refused handshakes", () => {
  test("a stranger has one entry, however often it calls, and from however many ports", () => {
    const clock = new SimulatedClock();
    const refused = new RefusedHandshakes(clock);
    const since = clock.now();
    for (let i = 0; i < 1_000; i++, clock.advance(10)) refused.note(called("10.0.0.9", 1_024 + i), password);
    expect(refused.standing()).toMatchObject([
      { address: "10.0.0.9", outbound: false, since, last: clock.now() - 10, attempts: 1_000 },
    ]);
    clock.advance(MINUTE);
    refused.note(called("10.0.0.9"), version);
    expect(refused.standing()).toMatchObject([{ error: version, since: clock.now(), attempts: 1 }]);
  });

  test("strangers from everywhere push out each other, and no target", () => {
    const refused = new RefusedHandshakes(new SimulatedClock());
    refused.note(dialled("10.0.0.1"), password);
    for (let i = 0; i < 10_000; i++) refused.note(called(`10.1.${i >> 8}.${i & 255}`), password);
    const standing = refused.standing();
    expect(standing[0]?.address).toBe("10.0.0.1:6783");
    expect(standing).toHaveLength(1 + 32);
    for (let i = 0; i < 10_000; i++) refused.note(dialled(`10.2.${i >> 8}.${i & 255}`), password);
    expect(refused.standing()).toHaveLength(64 + 32);
  });

  test("what calls and is no router is not listed; what is dialled is", () => {
    const refused = new RefusedHandshakes(new SimulatedClock());
    const scan = new HandshakeError("no router", "it is none", "look");
    refused.note(called("10.0.0.9"), scan);
    expect(refused.standing()).toEqual([]);
    refused.note(dialled("10.0.0.9"), scan);
    expect(refused.standing()).toHaveLength(1);
  });

  test("both ways are one line; it goes when a handshake succeeds, or after ten minutes", () => {
    const clock = new SimulatedClock();
    const refused = new RefusedHandshakes(clock);
    for (const connection of [called("10.0.0.1"), dialled("10.0.0.1"), called("10.0.0.2")])
      refused.note(connection, password);
    expect(refused.standing().map(({ address }) => address)).toEqual(["10.0.0.1:6783", "10.0.0.2"]);
    refused.lift("10.0.0.1");
    expect(refused.standing().map(({ address }) => address)).toEqual(["10.0.0.2"]);
    clock.advance(10 * MINUTE - 1);
    expect(refused.standing()).toHaveLength(1);
    clock.advance(1);
    expect(refused.standing()).toEqual([]);
  });
});

describe("lost peers", () => {
  const connection = { address: "10.0.0.1:6783", outbound: true };
  const peer = (n: number, uid = 1n) => ({ name: nameFromNumber(BigInt(n)), nickName: `h${n}`, uid });

  test("are listed for ten minutes, the latest first, in plain words, and no longer once they are back", () => {
    const clock = new SimulatedClock();
    const lost = new LostPeers(clock);
    lost.add(connection, peer(1), new ClosedError());
    clock.advance(MINUTE);
    lost.add(connection, peer(2), new Error(`nothing heard for 60 s ${"x".repeat(1_000)}`));
    lost.add(connection, peer(3), new Error("connection reset by peer"));
    expect([lost.back(peer(3)), lost.back(peer(3))]).toEqual([true, false]);
    lost.add(connection, peer(4), new ClosedError());
    // It has restarted.
    expect(lost.back(peer(4, 2n))).toBe(false);
    const [latest, first] = lost.recent();
    expect(latest).toMatchObject({ nickName: "h2", at: clock.now() });
    expect(latest?.reason).toHaveLength(300);
    expect(first).toMatchObject({ nickName: "h1", at: clock.now() - MINUTE });
    expect(first?.reason).toContain("was stopped or killed");
    clock.advance(9 * MINUTE);
    expect(lost.recent().map(({ nickName }) => nickName)).toEqual(["h2"]);
  });

  test("are bounded", () => {
    const lost = new LostPeers(new SimulatedClock());
    for (let i = 1; i <= 1_000; i++) lost.add(connection, peer(i), new ClosedError());
    expect(lost.recent()).toHaveLength(64);
    expect(lost.recent()[0]?.nickName).toBe("h1000");
  });
});

describe("a meter", () => {
  test("tells the rate of the last seconds, however often it is looked at", () => {
    for (const everyMs of [10, 1_000, 2_500]) {
      const meter = new Meter(0, 5_000_000);
      let count = 5_000_000;
      const run = (perSecond: number, from: number, to: number) => {
        for (let now = from + everyMs; now <= to; now += everyMs) {
          count += (perSecond * everyMs) / 1_000;
          meter.sample(now, count);
        }
      };
      run(1_000, 0, 60_000);
      expect(meter.traffic(60_000, count)).toEqual({ bytes: 60_000, perSecond: 1_000 });
      run(0, 60_000, 70_000);
      expect(meter.traffic(70_000, count)).toEqual({ bytes: 60_000, perSecond: 0 });
    }
  });

  test("a counter that begins anew goes on", () => {
    const meter = new Meter(0, 100);
    meter.sample(1_000, 1_100);
    expect(meter.traffic(2_000, 1_100).bytes).toBe(1_000);
    meter.sample(6_000, 1_100);
    meter.sample(7_000, 500);
    expect(meter.traffic(7_000, 500).bytes).toBe(1_500);
    expect(meter.traffic(12_000, 1_500)).toMatchObject({ bytes: 2_500 });
    expect(meter.traffic(12_000, 1_500).perSecond).toBeGreaterThan(0);
  });
});

test.each([
  [0, "0 B/s"],
  [999, "999 B/s"],
  [999.6, "1.0 kB/s"],
  [1_234, "1.2 kB/s"],
  [12_345, "12 kB/s"],
  [999_900, "1.0 MB/s"],
  [118_000_000, "118 MB/s"],
  [2e12, "2000 GB/s"],
])("%d bytes a second are %p", (rate, text) => expect(rateText(rate)).toBe(text));

test.each([
  [-1, "0 s"],
  [99_999, "99 s"],
  [100_000, "1 min"],
  [5_999_999, "99 min"],
  [6_000_000, "1 h"],
  [3 * 3_600_000 - 1, "2 h"],
  [3 * 3_600_000, "3 h"],
  [48 * 3_600_000 - 1, "47 h"],
  [48 * 3_600_000, "2 d"],
  [3 * 86_400_000 - 1, "2 d"],
])("%d ms are %p", (ms, text) => expect(ageText(ms)).toBe(text));

test.each([
  [0.042, "0.042 ms"],
  [0.351, "0.35 ms"],
  [12.4, "12 ms"],
])("a round trip of %d ms is %p", (ms, text) => expect(roundTripText(ms)).toBe(text));

/** A report with these parts of the router's. */
function report(router: Partial<RouterReport>, others: Partial<Report> = {}): Report {
  return {
    Ready: true,
    Problems: [],
    IPAM: { Entries: null, Paxos: null, PendingAllocates: null },
    Router: { Encryption: false, Connections: [], ...router },
    ...others,
  } as unknown as Report;
}

const Vitals = {
  Since: "2026-11-26T03:00:00.000Z",
  LastHeardMs: 1_900,
  Silent: false,
  LastFrameMs: null,
  RoundTripMs: 0.4,
  ReceivedBytes: 10,
  SentBytes: 20,
  ReceivedBytesPerS: 1_234,
  SentBytesPerS: 0,
};
const connection: RouterReport["Connections"][number] = {
  Address: "10.0.0.2:6783",
  Outbound: true,
  State: "established",
  Info: "sleeve n(b)",
  Trouble: {
    Cause: "silent",
    Reason: "fastdp: heartbeats do not get through",
    Remedy: "open UDP 6784 both ways between the hosts; if it is open, 'weave ping' finds the MTU",
  },
  Attrs: { name: "sleeve", mtu: 1438, reason: "fastdp: heartbeats do not get through" },
  Peer: { Name: "n", NickName: "b" },
  Vitals,
};
const { Trouble: _, ...fast } = { ...connection, Attrs: { name: "fastdp" } };
const LINE =
  "-> 10.0.0.2:6783         established sleeve n(b) mtu=1438 (fastdp: heartbeats do not get through)";
const refusedTarget = {
  Address: "10.0.0.3:6783",
  Outbound: true,
  Peer: null,
  Cause: "password",
  Reason: "the passwords differ",
  Remedy: "use one",
  Since: "2026-11-26T03:00:00.123Z",
  Last: "2026-11-26T03:01:00.123Z",
  Attempts: 3,
};
const absent: Partial<RouterReport> = {
  Lost: [
    {
      Name: "m",
      NickName: "c\u001b[2J",
      Address: "10.0.0.4:40000",
      Outbound: false,
      At: "2026-11-26T03:00:00.123Z",
      Reason: "nothing heard for 60 s",
      Remedy: "start it",
      Reachable: false,
      OwnsAddresses: true,
    },
  ],
  Refused: [refusedTarget, { ...refusedTarget, Address: "10.0.0.5", Outbound: false }],
};
const failed: RouterReport["Connections"][number] = {
  ...connection,
  Address: "10.0.0.3:6783",
  State: "failed",
  Info: "Unable to decrypt TCP msg: the passwords differ; use one, retry: 2026",
  Attrs: null,
  Trouble: { Cause: "password", Reason: "the passwords differ", Remedy: "use one" },
  RetryAt: "2026-11-26T04:08:10.764Z",
};
delete failed.Peer;
delete failed.Vitals;

test("scripts read the original's lines; what is new is behind them, or a line of another state", () => {
  const silent = { ...connection, Vitals: { ...Vitals, Silent: true, LastHeardMs: 14_100 } };
  expect(connectionsText(report({ Connections: [connection] }))).toBe(`${LINE}\n`);
  expect(connectionsText(report({ Connections: [silent] }))).toBe(`${LINE} silent for 14 s\n`);
  expect(connectionsText(report({ Connections: [failed], ...absent })).split("\n")).toEqual([
    `-> 10.0.0.3:6783         failed      ${failed.Info} `,
    "<- 10.0.0.4:40000        lost        m(c\\x1b[2J) at 2026-11-26T03:00:00Z: nothing heard for 60 s",
    "<- 10.0.0.5              refused     since 2026-11-26T03:00:00Z: the passwords differ; use one",
    "",
  ]);
});

test("a terminal has a heading, and what is known of each in lines of its own", () => {
  const router = { Connections: [connection, failed], ...absent };
  expect(connectionsTable(report(router)).split("\n")).toEqual([
    "   ADDRESS               STATE       BY     PEER",
    "-> 10.0.0.2:6783         established sleeve n(b) mtu=1438",
    "     round trip 0.40 ms, heard 1 s ago, in 1.2 kB/s, out 0 B/s",
    "     fastdp: heartbeats do not get through",
    "     remedy: open UDP 6784 both ways between the hosts; if it is open, 'weave",
    "     ping' finds the MTU",
    "-> 10.0.0.3:6783         failed",
    "     the passwords differ",
    "     remedy: use one",
    "     retried at 2026-11-26T04:08:10Z",
    "<- 10.0.0.4:40000        lost        m(c\\x1b[2J)",
    "     at 2026-11-26T03:00:00Z: nothing heard for 60 s",
    "     remedy: start it",
    "<- 10.0.0.5              refused",
    "     since 2026-11-26T03:00:00Z: the passwords differ",
    "     remedy: use one",
    "",
  ]);
});

test("in JSON lost and refused are states, and a refused target is one", () => {
  const rows = connectionsSummary(report({ Connections: [connection, failed], ...absent }));
  expect(rows.map(({ address, state, outbound }) => [address, state, outbound])).toEqual([
    ["10.0.0.2:6783", "established", true],
    ["10.0.0.4:40000", "lost", false],
    ["10.0.0.3:6783", "refused", true],
    ["10.0.0.5", "refused", false],
  ]);
  expect(rows[0]).toMatchObject({ remedy: expect.stringContaining("UDP 6784"), receivedBytesPerS: 1_234 });
  expect(connectionsSummary(report({ Connections: [failed] }))).toMatchObject([
    { state: "failed", reason: "the passwords differ", remedy: "use one", lastHeardMs: null },
  ]);
});

describe("the verdict", () => {
  const Problems = [{ Check: "peers", Found: "a", Advice: "b" }];
  const waiting = { Elector: true, KnownNodes: 1, Quorum: 2 };
  test.each<[string, Report]>([
    ["all is well", report({})],
    [
      "all is well, but 1 of 2 connections by sleeve; 'weave status connections' says why",
      report({ Connections: [connection, fast] }),
    ],
    ["1 problem", report({}, { Problems })],
    ["2 problems", report({}, { Problems: [...Problems, ...Problems] })],
    ["starting: not ready yet", report({}, { Ready: false })],
    [
      "no address can be given out: awaiting consensus (quorum: 2, known: 1)",
      report(
        {},
        { IPAM: { Entries: null, PendingAllocates: null, Paxos: waiting } as unknown as IpamReport },
      ),
    ],
  ])("%p", (text, made) => expect(healthText(made)).toBe(text));

  test("comes first, with the problems, and below it all that scripts look for", () => {
    const whole = report(
      { Peers: [], Targets: [], TrustedSubnets: [], ProtocolMinVersion: 2, ProtocolMaxVersion: 2 },
      { Version: "3", Notes: ["n"], Problems: Array.from({ length: 12 }, () => Problems[0]) as never },
    );
    const [head, ...rest] = statusText(whole).split("\n\n");
    expect(head?.split("\n").map((line) => line.trim())).toEqual([
      "Health: 12 problems",
      ...Array.from({ length: 10 }, () => "Problem: a; b"),
      "Problem: 2 more; 'weave report' has them all",
    ]);
    expect(rest.join("\n\n")).toStartWith("        Version: 3 ");
  });
});
