// What a router keeps of itself: its name by order of sources, values that do not change, and bounds of what is read back.

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { nameFromNumber, parsePeerName } from "../../lib/mesh/name.ts";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import { encodeKind, encodeSettings, ifinfomsg } from "../../lib/netlink/link/message.ts";
import { identity } from "../../lib/router/identity.ts";
import { deriveName, findName } from "../../lib/router/peername.ts";
import { attachmentsStore } from "../../lib/router/savedattachments.ts";
import { exposuresStore } from "../../lib/router/savedexposures.ts";
import { Store } from "../../lib/store/store.ts";
import { scriptedSocket } from "../support/rtsocket.ts";

let folder: string;
let path: string;
let store: Store;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-kept-"));
  path = join(folder, "weave.db");
  store = Store.open(path);
});
afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true });
});

describe("the name of a peer", () => {
  const BRIDGE = "02:00:00:00:00:07";
  const host = (bridge: boolean) => {
    const encoder = new AttributeEncoder().raw(ifinfomsg(7));
    encodeSettings(encoder, { name: "weave", address: BRIDGE });
    const body = encodeKind(encoder, "bridge").done();
    return scriptedSocket(() => (bridge ? [body] : [])).nl;
  };
  const find = (told: bigint | undefined, keptName: bigint | undefined, bridge: boolean, id?: string) => {
    let kept = keptName === undefined ? undefined : nameFromNumber(keptName);
    const name = findName(
      told === undefined ? undefined : nameFromNumber(told),
      {
        get: () => kept,
        set: (value) => {
          kept = value;
        },
      },
      host(bridge),
      id,
    );
    expect(kept).toBe(name);
    return name;
  };

  test("is the one that was told, else that of before, else the bridge's, else made of the id; and is kept", () => {
    expect(find(1n, 2n, true, "x")).toBe(nameFromNumber(1n));
    expect(find(undefined, 2n, true, "x")).toBe(nameFromNumber(2n));
    expect(find(undefined, undefined, true, "x")).toBe(parsePeerName(BRIDGE));
    expect(find(undefined, undefined, false, "x")).toBe(deriveName(["x"]));
  });

  test("of hosts without an id is made of what they are, the same each time", () => {
    const name = find(undefined, undefined, false);
    expect(find(undefined, undefined, false, "")).toBe(name);
    expect(name).not.toBe(deriveName([]));
  });

  test("is a unicast address, locally administered, as the original makes it", () => {
    for (const id of ["a", "b", "c", "d"]) {
      const first = Number.parseInt(deriveName([id]).slice(0, 2), 16);
      expect(first & 3).toBe(2);
    }
    expect(deriveName(["a", "b"])).toBe(deriveName(["a\nb"]));
    expect(deriveName(["a"])).not.toBe(deriveName(["b"]));
  });
});

test("a value that stays as it is is not written, whatever the disk does", () => {
  const id = identity(store, () => {});
  id.targets.set(["a", "b"]);
  store.close();
  const database = new Database(path);
  database.run("CREATE TRIGGER refuse BEFORE INSERT ON state BEGIN SELECT RAISE(ABORT, 'no'); END");
  database.close();
  store = Store.open(path);
  const again = identity(store, () => {});
  expect(() => again.targets.set(["a", "b"])).not.toThrow();
  expect(() => again.targets.set(["b", "a"])).toThrow("cannot save");
});

test.each([
  ["the least address", 0, 0, true],
  ["the greatest", 2 ** 32 - 1, 32, true],
  ["one beyond", 2 ** 32, 32, false],
  ["one below", -1, 32, false],
  ["a prefix beyond", 1, 33, false],
  ["half an address", 1.5, 32, false],
])("%s is read back as it was saved, or is damaged", (_what, address, prefix, sound) => {
  const damaged: string[] = [];
  const rows = (room: string) => store.rows(room, v.any());
  rows("attachments").set("c", {
    addresses: [{ address, prefix, asked: true }],
    names: [],
    multicastRoute: true,
  });
  rows("exposures").set("x", { cidr: { address, prefix }, masquerade: true });
  const attachments = attachmentsStore(store, (what) => damaged.push(what)).load();
  const exposures = exposuresStore(store, (what) => damaged.push(what)).load();
  expect([attachments.size, exposures.length, damaged.length]).toEqual(sound ? [1, 1, 0] : [0, 0, 2]);
});
