// Troubles of connections and overlays: every cause has a reason and a remedy, and status, doctor and launch show the same.
import { describe, expect, test } from "bun:test";
import { connectionsTable } from "../../lib/api/connections.ts";
import type { Report } from "../../lib/api/report.ts";
import { connectionsSummary } from "../../lib/api/summary.ts";
import { connectionFindings } from "../../lib/doctor/peers.ts";
import { differentRange, differentSeeds } from "../../lib/ipam/announcement.ts";
import { addressObstacle, OBSTACLE_CAUSES } from "../../lib/ipam/obstacle.ts";
import type { Target } from "../../lib/mesh/dial/target.ts";
import {
  CollisionError,
  ConnectionLimitError,
  DialError,
  DuplicateNameError,
  HandshakeError,
  peerTrouble,
  SelfConnectionError,
} from "../../lib/mesh/errors.ts";
import { ProtocolError } from "../../lib/mesh/framing.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { ConnectionReport } from "../../lib/mesh/report/connections.ts";
import { targetState } from "../../lib/mesh/report/targets.ts";
import { CONNECTION_CAUSES, connectionCause, connectionTrouble } from "../../lib/mesh/trouble.ts";
import { refusal } from "../../lib/overlay/refusal.ts";
import { OVERLAY_CAUSES, overlayTrouble } from "../../lib/overlay/trouble.ts";
import { launchedShape } from "../../lib/router/launched.ts";
import { causeOfErrno } from "../../lib/sys/cause.ts";
import { type Trouble, troubleReport } from "../../lib/sys/trouble.ts";

const ADDRESS = "10.0.0.2:7000";

/** Sentences as they are shown: clauses, without a hole that was left unfilled. */
function expectWhole({ cause, reason, remedy }: Trouble): void {
  expect(cause).not.toBe("");
  for (const text of [reason, remedy]) {
    expect(text).toMatch(/\S.*[^.\s]$/s);
    expect(text).not.toMatch(/undefined|NaN|\[object|\$\{/);
  }
}

describe("every cause has a reason and a remedy", () => {
  test.each([...CONNECTION_CAUSES])("of a connection: %s", (cause) => {
    expectWhole(connectionTrouble(cause, "why", ADDRESS));
    expectWhole(connectionTrouble(cause, "why", "host.example"));
  });

  test.each([...OVERLAY_CAUSES])("of an overlay: %s", (cause) =>
    expectWhole(overlayTrouble(cause, "why", 6784)),
  );

  test.each([...OBSTACLE_CAUSES])("of addresses: %s", (cause) => expectWhole(addressObstacle(cause, "why")));

  test("no two causes have one remedy", () => {
    const connections = CONNECTION_CAUSES.map((cause) => connectionTrouble(cause, "", ADDRESS).remedy);
    const overlays = OVERLAY_CAUSES.map((cause) => overlayTrouble(cause, "", 6784).remedy);
    expect(new Set([...connections, ...overlays]).size).toBe(connections.length + overlays.length);
  });

  test("the host and the port are those of the address", () => {
    expect(connectionTrouble("refused", "", ADDRESS).remedy).toStartWith(
      "10.0.0.2 is up and no router listens on TCP 7000: ",
    );
    expect(connectionTrouble("no answer", "", "h").remedy).toStartWith("open TCP 6783 in the firewalls");
  });
});

const peer = Peer.placeholder(nameFromNumber(2n));
/** Errors as they are thrown, and the cause that each has. */
const ERRORS: readonly (readonly [string, Error])[] = [
  ["refused", new DialError(ADDRESS, "refused", "connection refused", "connect")],
  ["self", new SelfConnectionError()],
  ["limit", new ConnectionLimitError(30)],
  ["duplicate name", new DuplicateNameError(peer, ADDRESS)],
  ["name", new CollisionError(peer, peer, ADDRESS)],
  ["range", differentRange("10.0.0.0/8", "10.32.0.0/12")],
  ["division", differentSeeds([], [], "/var/lib/weave")],
  ["password", new HandshakeError("password", "the passwords differ", "use one", "Unable to decrypt")],
  ["protocol", new ProtocolError("handshake too long")],
  ["other", new Error("what nobody foresaw")],
];

test.each(ERRORS)("an error whose cause is %p keeps it", (cause, error) => {
  const trouble = peerTrouble(error, ADDRESS);
  expect(trouble.cause as string).toBe(cause);
  expectWhole(trouble);
});

test.each([
  ["ECONNREFUSED", "refused"],
  ["EHOSTUNREACH", "no route"],
  ["ENETUNREACH", "no network"],
  ["ETIMEDOUT", "no answer"],
  ["EACCES", "prohibited"],
  ["EPERM", "blocked"],
  ["ECONNRESET", "closed"],
  ["ENOTFOUND", "unresolved"],
  ["EAI_AGAIN", "name servers"],
  ["constructor", "other"],
  [undefined, "other"],
])("code %p is the cause %p", (code, cause) => expect(connectionCause(code) as string).toBe(cause));

test.each([
  [1, "blocked"],
  [13, "prohibited"],
  [90, "too large"],
  [101, "cannot send"],
  [9_999, "cannot send"],
])("a datagram refused with errno %d: %s", (errno, cause) => {
  const trouble = refusal("heartbeats cannot be sent", errno, 6784);
  expect(trouble.cause as string).toBe(cause);
  expect(trouble.reason).toStartWith("heartbeats cannot be sent: ");
  expectWhole(trouble);
});

test("an errno that is in the table of causes has its code", () => {
  expect(causeOfErrno(111)?.code).toBe("ECONNREFUSED");
});

const shown = (trouble: Trouble, Attrs: ConnectionReport["Attrs"], State: ConnectionReport["State"]) => {
  const Connections = [
    { Address: ADDRESS, Outbound: true, State, Info: "reworded", Attrs, Trouble: troubleReport(trouble) },
  ];
  const report = { Router: { Encryption: false, Connections } } as unknown as Report;
  return {
    table: connectionsTable(report).replaceAll(/\s+/g, " "),
    status: connectionsSummary(report).map(({ reason, remedy }) => [reason, remedy]),
    doctor: connectionFindings(Connections, new Set()).map(({ found, advice }) => [found, advice]),
  };
};

describe("status, doctor and launch show the same", () => {
  test.each(ERRORS.filter(([cause]) => cause !== "self"))("of a peer: %s", (_cause, lastError) => {
    const trouble = peerTrouble(lastError, ADDRESS);
    const { reason, remedy } = trouble;
    const target: Target = {
      ...{ state: "waiting" as const, lastError, trouble, tryAfter: 0, giveUp: undefined },
    };
    const state = targetState({
      ...{ name: "h", address: ADDRESS, unresolved: undefined, connection: undefined, target },
    });
    const launched = launchedShape(
      { name: "n", nickname: "n", range: null, overlay: "", encryption: false, targets: [state] },
      { pid: 1, log: "", warnings: [] },
    );
    const { table, status, doctor } = shown(trouble, null, "failed");
    expect(launched.peers).toMatchObject([{ reason, advice: remedy }]);
    expect(status).toEqual([[reason, remedy]]);
    expect(doctor).toEqual([[`${ADDRESS} cannot be reached: ${reason}`, remedy]]);
    expect(table).toContain(`${reason} remedy: ${remedy} `);
  });

  test.each([...OVERLAY_CAUSES])("of an overlay: %s", (cause) => {
    const { reason, remedy } = overlayTrouble(cause, "reworded too", 6784);
    const { table, status, doctor } = shown({ cause, reason, remedy }, { name: "sleeve" }, "established");
    expect(status).toEqual([[reason, remedy]]);
    const advice = cause === "no encryption" ? "see 'ESP'" : remedy;
    expect(doctor).toEqual([[`${ADDRESS} is reached by sleeve only: ${reason}`, advice]]);
    expect(table).toContain(`${reason} remedy: ${remedy} `);
  });
});
