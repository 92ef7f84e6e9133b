// What follows as a connection is introduced, added, established and ended.
import { beforeEach, expect, test } from "bun:test";
import type { ConnectionHost, LocalConnection } from "../../lib/mesh/connection.ts";
import { connectionHost } from "../../lib/mesh/connectionlife.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";

const NAME = nameFromNumber(2n);
const note =
  (what: string) =>
  (...args: unknown[]) =>
    void told.push([what, ...args.slice(1).map(String)].join(" ").trim());

let told: string[];
let routes: { unicastAll: Map<PeerName, PeerName>; reaches(name: PeerName): boolean };
let connections: Map<PeerName, LocalConnection>;
let host: ConnectionHost;

const connection = (more: object = {}) =>
  ({
    ...{ remote: { name: NAME }, knownRemote: { name: NAME }, remoteIp: "10.0.0.2", outbound: false },
    log: (text: string) => void told.push(text),
    shutdown: (error: Error) => void told.push(error.message),
    ...more,
  }) as unknown as LocalConnection;

beforeEach(() => {
  told = [];
  const unicastAll = new Map<PeerName, PeerName>();
  routes = { unicastAll, reaches: (name) => unicastAll.has(name) };
  connections = new Map();
  const admission = {
    ...{
      introduced: note("lift"),
      added: note("ask"),
      ended: note("remember"),
      settleDuplicate: note("settle"),
    },
    refusals: { connected: note("forget") },
  };
  const accepts = { succeeded: note("succeeded"), failed: note("failed") };
  const limit = { admit: (reachable: boolean) => void told.push(`admit ${reachable}`) };
  const parts = { routes, connections, admission, accepts, limit };
  host = connectionHost(parts as never, {
    added: (_connection, isNew) => void told.push(`added ${isNew}`),
    established: note("established"),
    removed: (_connection, { name }) => void told.push(`removed ${name}`),
    ended: (_connection, { message }) => void told.push(`ended ${message}`),
  });
});

test("the budget of handshakes and the memory of refusals hear of one that succeeded", () => {
  host.introduced(connection());
  expect(told).toEqual(["succeeded", "lift"]);
});

test.each([
  [false, false, ": new peer"],
  [true, false, ""],
  [true, true, ": restarted peer"],
])("to a peer that was reachable (%p) or restarted (%p) it is added%s", (reachable, restarted, what) => {
  if (reachable) routes.unicastAll.set(NAME, NAME);
  const subject = connection();
  host.add(subject, restarted);
  const isNew = restarted || !reachable;
  expect(told).toEqual([`admit ${reachable}`, `connection added${what}`, `added ${isNew}`, "ask"]);
  expect(connections.get(NAME)).toBe(subject);
});

test("one that is not ours is closed instead of established", () => {
  const subject = connection();
  host.established(subject);
  expect(told.splice(0)).toEqual(["Cannot set unknown connection active"]);
  connections.set(NAME, subject);
  host.established(subject);
  expect(told).toEqual(["connection fully established", "forget", "established"]);
});

test("its end takes it out unless another is in its place; that of a stranger counts as a failed handshake alone", () => {
  const subject = connection();
  connections.set(NAME, connection());
  host.ended(subject, new Error("x"));
  expect(told.splice(0)).toEqual(["remember Error: x", "ended x"]);
  connections.set(NAME, subject);
  host.ended(subject, new Error("x"));
  expect(told.splice(0)).toEqual(["remember Error: x", "connection deleted", `removed ${NAME}`, "ended x"]);
  expect(connections.size).toBe(0);
  host.ended(connection({ knownRemote: undefined }), new Error("x"));
  expect(told.splice(0)).toEqual(["remember Error: x", "failed Error: x"]);
  host.ended(connection({ knownRemote: undefined, outbound: true }), new Error("x"));
  expect(told).toEqual(["remember Error: x", "ended x"]);
});
