// The state file as a whole: no two things that are kept share a room, or a row where a part keeps several in one room.
import { expect, test } from "bun:test";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { dockerBooks } from "../../lib/container/plugin/books.ts";
import { namesStore } from "../../lib/dns/saved.ts";
import { KeptSettings } from "../../lib/host/ports/settings.ts";
import { allocatorStore } from "../../lib/ipam/saved.ts";
import { nameFromNumber, parsePeerName } from "../../lib/mesh/name.ts";
import { identity } from "../../lib/router/identity.ts";
import { attachmentsStore, detachedStore, MAX_ATTACHMENTS } from "../../lib/router/savedattachments.ts";
import { exposuresStore } from "../../lib/router/savedexposures.ts";
import { hostPortStore } from "../../lib/router/savedhostports.ts";
import type { Store } from "../../lib/store/store.ts";

const damaged = (what: string) => expect.unreachable(what);
const cidr = parseCidr("10.32.0.1/12");
const name = nameFromNumber(1n);

/** Each thing, and how it is saved; with a key of its own where it may have one. */
const SAVED: Readonly<Record<string, readonly [part: string, save: (store: Store) => void]>> = {
  name: ["router", (store) => identity(store, damaged).name.set(parsePeerName("02:00:00:00:00:01"))],
  shortId: ["router", (store) => identity(store, damaged).shortId.set(7)],
  mtu: ["router", (store) => identity(store, damaged).mtu.set(1_400)],
  targets: ["router", (store) => identity(store, damaged).targets.set(["a"])],
  launched: ["router", (store) => identity(store, damaged).launched.set(["a"])],
  stopped: ["router", (store) => identity(store, damaged).stopped.set(true)],
  listed: ["router", (store) => identity(store, damaged).listed.set(true)],
  ring: [
    "ipam",
    (store) =>
      allocatorStore(store).saveRing({ peer: name, start: 0, end: 0, entries: [], seeds: [] } as never),
  ],
  vote: ["ipam", (store) => allocatorStore(store).saveVote({} as never)],
  gateways: ["ipam", (store) => allocatorStore(store).saveGateways([])],
  holders: ["holders", (store) => allocatorStore(store).saveHolder("x", { isContainer: true, cidrs: [] })],
  exposures: [
    "exposures",
    (store) => exposuresStore(store, damaged).save({ cidr, masquerade: true, range: undefined }),
  ],
  attachments: [
    "attachments",
    (store) =>
      attachmentsStore(store, damaged).save("x", {
        addresses: [],
        names: [],
        multicastRoute: true,
        socket: undefined,
      }),
  ],
  detached: ["detached", (store) => detachedStore(store, damaged).add("x")],
  "host ports": ["host ports", (store) => hostPortStore(store, damaged).save("x", [])],
  names: [
    "names",
    (store) =>
      namesStore(store, damaged).save(
        { hostname: "a.", containerId: "x", address: parseIPv4("10.32.0.1"), origin: name } as never,
        1,
      ),
  ],
  "ports of the bridge": [
    "ports",
    (store) => new KeptSettings(store, damaged).save({ index: 1, name: "x", mtu: 1_500 } as never),
  ],
  networks: ["docker networks", (store) => dockerBooks(store, damaged).networks.set("x", {} as never)],
  endpoints: ["docker endpoints", (store) => dockerBooks(store, damaged).endpoints.set("x", {} as never)],
  reserved: ["docker reserved", (store) => dockerBooks(store, damaged).reserved.set("x", 1)],
};

test("as many containers as may be attached are known to be detached, and no more: the oldest is forgotten", () => {
  const rows = new Map<string, unknown>();
  const store = detachedStore(
    {
      rows: () => ({
        all: () => new Map(rows),
        set: (key: string, value: unknown) => rows.set(key, value),
        delete: (key: string) => rows.delete(key),
      }),
    } as never,
    damaged,
  );
  for (let i = 0; i < MAX_ATTACHMENTS; i++) store.add(`c${i}`);
  expect([rows.size, store.has("c0")]).toEqual([MAX_ATTACHMENTS, true]);
  store.add("one more");
  expect([rows.size, store.has("c0"), rows.has("c0"), store.has("c1"), store.has("one more")]).toEqual([
    ...[MAX_ATTACHMENTS, false, false, true, true],
  ]);
  store.delete("c1");
  store.delete("c1");
  store.add("another");
  expect([rows.size, store.has("c1"), store.has("c2")]).toEqual([MAX_ATTACHMENTS, false, true]);
});

test("each thing that is kept has a room of its own, or a row of its own in its part's", () => {
  const parts = new Map<string, string>();
  const rows = new Map<string, string>();
  for (const [thing, [part, save]] of Object.entries(SAVED)) {
    const written: [room: string, key: string][] = [];
    save({
      rows: (room: string) => ({
        get: () => undefined,
        all: () => new Map(),
        set: (key: string) => written.push([room, key]),
      }),
      durably: (change: () => void) => change(),
    } as never);
    expect(written.length).toBe(1);
    for (const [room, key] of written) {
      expect([thing, room, parts.get(room) ?? part]).toEqual([thing, room, part]);
      parts.set(room, part);
      expect([thing, rows.get(`${room}/${key}`)]).toEqual([thing, undefined]);
      rows.set(`${room}/${key}`, thing);
    }
  }
});
