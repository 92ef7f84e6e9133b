// The original's state in our state file: whole, also where the disk has refused part of it the first time.
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { allocatorStore } from "../../lib/ipam/saved.ts";
import { silentLog } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { importState, type Original } from "../../lib/migration/migration.ts";
import { identity } from "../../lib/router/identity.ts";
import { StoreError } from "../../lib/store/error.ts";
import { Store } from "../../lib/store/store.ts";

const PEER = nameFromNumber(7n);
const LEASE = parseCidr("10.32.0.5/12");
const RING = {
  peer: PEER,
  start: parseCidr("10.32.0.0/12").address,
  end: parseCidr("10.48.0.0/12").address,
  entries: [{ token: parseCidr("10.32.0.0/12").address, peer: PEER, version: 3, free: 9 }],
  seeds: [PEER],
};
const ORIGINAL: Original = {
  kernel: { links: [], rules: [], sets: [] },
  file: "/weavedata.db",
  state: {
    peer: PEER,
    ring: RING,
    holders: new Map([["c1", { isContainer: true, cidrs: [LEASE] }]]),
    targets: ["10.0.0.2"],
    listed: true,
  },
  error: undefined,
};

let path: string;
const before = process.env["WEAVE_STATE_DIR"];
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), "weave-import-"));
  process.env["WEAVE_STATE_DIR"] = folder;
  path = join(folder, "weave.db");
});
afterEach(() => {
  rmSync(process.env["WEAVE_STATE_DIR"] ?? "", { recursive: true });
  if (before === undefined) delete process.env["WEAVE_STATE_DIR"];
  else process.env["WEAVE_STATE_DIR"] = before;
});

/** What a router finds in the state file. */
function found() {
  const store = Store.open(path);
  try {
    const kept = identity(store, (what) => expect.unreachable(what));
    const addresses = allocatorStore(store);
    return {
      name: kept.name.get(),
      targets: kept.targets.get(),
      listed: kept.listed.get(),
      holders: [...addresses.loadHolders().keys()],
      entries: addresses.loadRing()?.entries,
    };
  } finally {
    store.close();
  }
}

const WHOLE = { name: PEER, targets: ["10.0.0.2"], listed: true, holders: ["c1"], entries: RING.entries };

test.each(["targets", "listed", "c1", "ring", "name"])(
  "is imported again where the disk has refused %s",
  (key) => {
    Store.open(path).close();
    const change = (sql: string) => {
      const database = new Database(path);
      database.run(sql);
      database.close();
    };
    change(
      `CREATE TRIGGER refuse BEFORE INSERT ON state WHEN NEW.key = '${key}' BEGIN SELECT RAISE(ABORT, 'full'); END`,
    );
    expect(() => importState(ORIGINAL, silentLog)).toThrow(StoreError);
    change("DROP TRIGGER refuse");
    importState(ORIGINAL, silentLog);
    expect(found()).toEqual(WHOLE);
  },
);

test("is not imported over the state of a router", () => {
  importState(ORIGINAL, silentLog);
  const store = Store.open(path);
  identity(store, () => {}).targets.set(["10.0.0.9"]);
  store.close();
  importState(ORIGINAL, silentLog);
  expect(found()).toEqual({ ...WHOLE, targets: ["10.0.0.9"] });
});
