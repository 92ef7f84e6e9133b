// Names of exposed addresses that are not in force.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import { namesStore } from "../../lib/dns/saved.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { silentLog } from "../../lib/log/log.ts";
import { parsePeerName } from "../../lib/mesh/name.ts";
import { ExposedNames, type ExposedState, WithdrawnSchema } from "../../lib/router/exposednames.ts";
import { Store } from "../../lib/store/store.ts";

const IP = parseIPv4("10.32.0.7");
const OTHER = parseIPv4("10.32.0.8");

test("a refused address loses its names until it is in force, across restarts; hidden for good, it loses them all", () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-names-"));
  const path = join(folder, "weave.db");
  const damaged = (what: string) => {
    throw new Error(what);
  };
  /** One run of a router with this state of its address; return what the names lead to. */
  const run = (state: ExposedState | undefined, act: (nameserver: Nameserver) => void = () => {}) => {
    using store = { store: Store.open(path), [Symbol.dispose]: () => store.store.close() };
    const nameserver = new Nameserver(
      {
        ourName: parsePeerName("01:00:00:00:00:00"),
        domain: "weave.local.",
        isKnownPeer: () => true,
      },
      { clock: new SimulatedClock(3_600_000), log: silentLog, store: namesStore(store.store, damaged) },
    );
    nameserver.start(() => ({ broadcast() {}, unicast() {} }) as never);
    act(nameserver);
    const rows = store.store.rows("withdrawn names", WithdrawnSchema);
    const names = new ExposedNames(nameserver, rows);
    for (let i = 0; i < 2; i++) names.follow((address) => (address === IP ? state : "in force"));
    nameserver.stop();
    return ["a.weave.local.", "b.weave.local.", "c.weave.local.", "d.weave.local."].map(
      (name) => nameserver.lookup(name).length,
    );
  };
  try {
    const named = run("in force", (nameserver) => {
      nameserver.add("a.weave.local.", EXPOSE_ID, IP);
      nameserver.add("b.weave.local.", EXPOSE_ID, IP);
      nameserver.add("c.weave.local.", EXPOSE_ID, OTHER);
      nameserver.add("d.weave.local.", "container", IP);
    });
    expect(named).toEqual([1, 1, 1, 1]);
    expect(run("claiming")).toEqual([1, 1, 1, 1]);
    expect(run("refused")).toEqual([0, 0, 1, 1]);
    expect(run("claiming")).toEqual([0, 0, 1, 1]);
    expect(run("in force")).toEqual([1, 1, 1, 1]);
    expect(run("refused")).toEqual([0, 0, 1, 1]);
    expect(run(undefined)).toEqual([0, 0, 1, 1]);
    expect(run("in force")).toEqual([0, 0, 1, 1]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
