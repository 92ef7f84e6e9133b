// What others can make grow: each bound that a room tells is in the manual, in the report, the metrics and the status.
import { describe, expect, test } from "bun:test";
import { metricsText } from "../../lib/api/metrics.ts";
import type { Report } from "../../lib/api/report.ts";
import { statusText } from "../../lib/api/status.ts";
import { statusSummary } from "../../lib/api/summary.ts";
import { LatestMap } from "../../lib/clock/latestmap.ts";
import { TOPICS } from "../../lib/help/topics.ts";
import { forgetting } from "../../lib/sys/limit.ts";
import { onePeer } from "../support/onepeer.ts";
import { Simulation } from "../support/simulation.ts";

const NAMED = Array.from((TOPICS["limits"] ?? "").matchAll(/^\| `([a-z-]+)` \|/gm), ([, name]) => name);

const router = () => new Simulation(1n).add(1).router;

describe("limits", () => {
  test("of the mesh and of addresses are in the manual, each once, below their bounds", () => {
    expect(NAMED.length).toBe(new Set(NAMED).size);
    const all = [...router().limits(), ...onePeer().allocator.limits()];
    expect(all.length).toBeGreaterThan(25);
    for (const { name, value, max } of all) {
      expect(NAMED).toContain(name);
      expect(value).toBeLessThan(max);
    }
  });

  test("that are reached are lines of the status, but for those at which the oldest is forgotten", () => {
    const report = {
      Ready: true,
      Version: "1",
      Router: { Peers: [], Connections: [], Targets: [], TrustedSubnets: [] },
      Notes: [],
      Limits: [
        { Name: "peers", Value: 4096, Max: 4096, Refused: 3 },
        { Name: "names", Value: 10, Max: 11 },
        { Name: "lost-peers", Value: 64, Max: 64, Forgets: true },
      ],
    } as unknown as Report;
    const lines = statusText(report)
      .split("\n")
      .filter((line) => line.includes("Limit:"));
    expect(lines).toEqual(["          Limit: peers: 4096 of 4096, 3 refused; see 'weave help limits'"]);
  });

  test("a status counts, and reads no list that peers can make long", () => {
    const forbidden = (...names: string[]) =>
      Object.defineProperties(
        {},
        Object.fromEntries(
          names.map((name) => [
            name,
            {
              enumerable: true,
              get() {
                throw new Error(`${name} was read`);
              },
            },
          ]),
        ),
      );
    const lists = forbidden("Peers", "Connections", "UnicastRoutes", "BroadcastRoutes", "MACs");
    const counts = {
      ...{ Connections: { established: 2, failed: 1 }, Slow: 1, Peers: 4 },
      PeerConnections: { Established: 6, Pending: 1 },
    };
    const report = {
      ...{ Ready: true, Version: "1", Notes: [], Problems: [] },
      Router: Object.assign(lists, { Counts: counts, Targets: [], TrustedSubnets: [] }),
      IPAM: Object.assign(forbidden("Entries"), { Status: "ready" }),
      DNS: Object.assign(forbidden("Entries"), { Names: 7 }),
    } as unknown as Report;
    const text = statusText(report);
    expect(text).toContain("all is well, but 1 of 2 connections by sleeve");
    expect(text).toContain("    Connections: 3 (2 established, 1 failed)\n");
    expect(text).toContain("          Peers: 4 (with 6 established, 1 pending connections)\n");
    expect(text).toContain("         Status: ready\n");
    expect(text).toContain("        Entries: 7\n");
    expect(statusSummary(report)).toMatchObject({ peers: 4, dns: { names: 7 }, ipam: { status: "ready" } });
  });

  test("are metrics", async () => {
    const report = {
      Ready: true,
      Router: { Connections: [], MACs: [], TerminationCount: 0 },
      Notes: [],
      Limits: [{ Name: "peers", Value: 7, Max: 4096, Refused: 2 }],
    } as unknown as Report;
    const text = await metricsText(report);
    expect(text).toContain('weave_limit_value{limit="peers"} 7');
    expect(text).toContain('weave_limit_max{limit="peers"} 4096');
    expect(text).toContain('weave_limit_refused_total{limit="peers"} 2');
  });

  test("of maps that forget tell so", () => {
    const map = new LatestMap<number, number>(2);
    for (let i = 0; i < 5; i++) map.set(i, i);
    expect(forgetting("x", map)).toEqual({ name: "x", value: 2, max: 2, forgets: true });
  });
});
