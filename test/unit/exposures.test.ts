// What is kept of exposures and targets is what was acknowledged, whichever write fails.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { type Cidr, formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import { systemClock } from "../../lib/clock/clock.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Exposed } from "../../lib/host/expose.ts";
import { logTo, silentLog } from "../../lib/log/log.ts";
import { Exposures } from "../../lib/router/exposures.ts";
import { identity } from "../../lib/router/identity.ts";
import { type ExposuresStore, exposuresStore, MAX_EXPOSURES } from "../../lib/router/savedexposures.ts";
import { initialTargets, noteLaunch } from "../../lib/router/targets.ts";
import { Store } from "../../lib/store/store.ts";

let folder: string;
let store: Store;
const damaged: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-given-"));
  store = Store.open(join(folder, "weave.db"));
  damaged.length = 0;
});

afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true });
});

const RANGE = parseCidr("10.32.0.0/12");
const saved = () => exposuresStore(store, (what) => damaged.push(what));

/** A kernel that keeps what it is told, and fails when it is told to. */
function memoryKernel() {
  const exposed = new Map<string, boolean>();
  let failing = false;
  const change = (act: () => void) => {
    if (failing) throw new Error("EPERM");
    act();
  };
  return {
    exposed,
    fail: (now: boolean) => {
      failing = now;
    },
    start: (all: readonly Exposed[]) => {
      for (const { cidr, masquerade } of all) exposed.set(formatCidr(cidr), masquerade);
    },
    expose: (cidr: Cidr, masquerade: boolean) => change(() => exposed.set(formatCidr(cidr), masquerade)),
    hide: (cidr: Cidr) => {
      const known = exposed.has(formatCidr(cidr));
      change(() => exposed.delete(formatCidr(cidr)));
      return known;
    },
  };
}

const exposuresOf = (store: ExposuresStore, kernel: ReturnType<typeof memoryKernel>) =>
  new Exposures({ store, kernel, range: RANGE, clock: systemClock, log: silentLog });

/** Makes every n-th write fail, before anything of it is done. */
function failing(store: ExposuresStore, n: number): ExposuresStore {
  let writes = 0;
  const counted = (act: () => void) => {
    if (++writes % n === 0) throw new Error("disk");
    act();
  };
  return {
    load: () => store.load(),
    save: (exposure) => counted(() => store.save(exposure)),
    remove: (cidr) => counted(() => store.remove(cidr)),
  };
}

const kept = () =>
  new Map(
    saved()
      .load()
      .map(({ cidr, masquerade }) => [formatCidr(cidr), masquerade]),
  );

test.each([1, 2, 3, 5, 1_000])("every write number n × %d fails: nothing is half done", (n) => {
  const random = seededRandom(BigInt(n));
  const kernel = memoryKernel();
  const exposures = exposuresOf(failing(saved(), n), kernel);
  exposures.start([]);
  const acknowledged = new Map<string, boolean>();
  for (let i = 0; i < 300; i++) {
    const key = `10.32.0.${below(random, 6)}/12`;
    const masquerade = below(random, 2) === 0;
    const hide = below(random, 3) === 0;
    try {
      if (hide) exposures.hide(parseCidr(key));
      else exposures.expose(parseCidr(key), masquerade);
      if (hide) acknowledged.delete(key);
      else acknowledged.set(key, masquerade);
    } catch (error) {
      expect(String(error)).toContain("disk");
    }
    expect(kernel.exposed).toEqual(acknowledged);
    expect(kept()).toEqual(acknowledged);
  }
  expect(acknowledged.size > 0).toBe(n > 1);
});

test("what the kernel refuses is not kept, and what it does not let go of is", () => {
  const kernel = memoryKernel();
  const exposures = exposuresOf(saved(), kernel);
  exposures.start([]);
  const [a, b] = [parseCidr("10.32.0.1/12"), parseCidr("10.32.0.2/12")];
  exposures.expose(a, false);
  kernel.fail(true);
  expect(() => exposures.expose(b, true)).toThrow("EPERM");
  expect(() => exposures.expose(a, true)).toThrow("EPERM");
  expect(() => exposures.hide(a)).toThrow("EPERM");
  expect(kept()).toEqual(new Map([["10.32.0.1/12", false]]));
});

test("what the bridge has is taken up and kept; what is kept is not in force before it is claimed", async () => {
  const [a, b] = [parseCidr("10.32.0.1/12"), parseCidr("10.32.0.2/12")];
  const first = exposuresOf(saved(), memoryKernel());
  first.start([{ cidr: a, masquerade: true }]);
  first.expose(b, false);
  const kernel = memoryKernel();
  const second = exposuresOf(saved(), kernel);
  second.start([]);
  expect(kernel.exposed).toEqual(new Map());
  const { promise, resolve } = Promise.withResolvers<void>();
  const changed: string[][] = [];
  await second.claim(
    (cidr) => (formatCidr(cidr) === "10.32.0.1/12" ? Promise.resolve() : promise),
    async () => void changed.push([...kernel.exposed.keys()]),
  );
  expect(kernel.exposed).toEqual(new Map([["10.32.0.1/12", true]]));
  expect(second.problems().map(({ Found }) => Found)).toEqual([
    expect.stringContaining("10.32.0.2/12 is not in force: being claimed"),
  ]);
  resolve();
  await Bun.sleep(0);
  expect(kernel.exposed.get("10.32.0.2/12")).toBe(false);
  expect(changed.at(-1)).toEqual(["10.32.0.1/12", "10.32.0.2/12"]);
  expect(second.problems()).toEqual([]);
  second.stop();
});

test.each<[string, (exposures: Exposures, cidr: Cidr) => unknown, string[]]>([
  ["it is hidden", (exposures, cidr) => exposures.hide(cidr), []],
  ["it is exposed without masquerading", (exposures, cidr) => exposures.expose(cidr, false), ["false"]],
  ["the router stops", (exposures) => exposures.stop(), []],
])(
  "an address that is being claimed when %s is not put in force by the claim",
  async (_what, meanwhile, inForce) => {
    const cidr = parseCidr("10.32.0.2/12");
    saved().save({ cidr, masquerade: true, range: undefined });
    for (const refused of [false, true]) {
      const kernel = memoryKernel();
      const exposures = exposuresOf(saved(), kernel);
      exposures.start([]);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      await exposures.claim(
        () => promise,
        async () => {},
      );
      meanwhile(exposures, cidr);
      if (refused) reject(new Error("owned by another"));
      else resolve();
      await Bun.sleep(0);
      expect([...kernel.exposed.values()].map(String)).toEqual(inForce);
      expect(exposures.problems().filter(({ Found }) => Found.includes("owned by another"))).toEqual([]);
      exposures.stop();
      saved().save({ cidr, masquerade: true, range: undefined });
    }
  },
);

describe("an address that is refused", () => {
  /** A router that claims what it has saved: refused so often, then granted. */
  async function claiming(refusals: number) {
    const cidr = parseCidr("10.32.0.2/12");
    saved().save({ cidr, masquerade: true, range: undefined });
    const clock = new SimulatedClock();
    const kernel = memoryKernel();
    const lines: string[] = [];
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    const exposures = new Exposures({ store: saved(), kernel, range: RANGE, clock, log });
    exposures.start([]);
    const told = { claims: 0, changes: 0 };
    await exposures.claim(
      async () => {
        if (++told.claims <= refusals) throw new Error("owned by host2");
      },
      async () => void told.changes++,
    );
    const pass = async (ms: number) => {
      clock.advance(ms);
      await Bun.sleep(0);
    };
    await pass(0);
    return { cidr, kernel, exposures, told, lines, pass };
  }
  const refused = (cidr: string) => ({
    Check: "expose",
    Found: `exposed address ${cidr} is not in force: owned by host2`,
    Advice: `'weave hide ${cidr}' forgets it`,
  });

  test("is claimed again every 10 s until it is granted, and the reason is told once", async () => {
    const { cidr, kernel, exposures, told, lines, pass } = await claiming(2);
    expect(exposures.problems()).toEqual([refused("10.32.0.2/12")]);
    expect([exposures.stateOf(cidr.address), told]).toEqual(["refused", { claims: 1, changes: 1 }]);
    await pass(9_999);
    expect(told.claims).toBe(1);
    await pass(1);
    expect(told).toEqual({ claims: 2, changes: 1 });
    await pass(10_000);
    expect([exposures.stateOf(cidr.address), exposures.problems(), told]).toEqual([
      "in force",
      [],
      { claims: 3, changes: 2 },
    ]);
    expect(kernel.exposed).toEqual(new Map([["10.32.0.2/12", true]]));
    await pass(60_000);
    expect(told.claims).toBe(3);
    expect(lines).toEqual(["warning: cannot claim an exposed address: owned by host2; trying again"]);
    exposures.stop();
  });

  test("and then exposed is in force, and no problem any more", async () => {
    const { cidr, exposures, told, pass } = await claiming(9);
    exposures.expose(cidr, false);
    expect([exposures.stateOf(cidr.address), exposures.problems()]).toEqual(["in force", []]);
    await pass(60_000);
    expect(told.claims).toBe(1);
    exposures.stop();
  });

  test("and then hidden is unknown, and not claimed again", async () => {
    const { cidr, exposures, told, pass } = await claiming(9);
    expect(exposures.hide(cidr)).toBe(true);
    expect([exposures.stateOf(cidr.address), exposures.problems()]).toEqual([undefined, []]);
    // A later exposure is claimed by its own request, and has no old reason.
    await pass(60_000);
    expect(told.claims).toBe(1);
    expect(exposures.hide(cidr)).toBe(false);
    exposures.stop();
  });

  test("is not claimed again after the end", async () => {
    const { exposures, told, pass } = await claiming(9);
    exposures.stop();
    await pass(60_000);
    expect(told.claims).toBe(1);
  });

  test("on the bridge already stays in force, and the reason is told", async () => {
    const cidr = parseCidr("10.32.0.2/12");
    const exposures = new Exposures({
      ...{ store: saved(), kernel: memoryKernel(), range: RANGE },
      ...{ clock: new SimulatedClock(), log: silentLog },
    });
    exposures.start([{ cidr, masquerade: true }]);
    await exposures.claim(
      () => Promise.reject(new Error("owned by host2")),
      async () => {},
    );
    expect(exposures.stateOf(cidr.address)).toBe("in force");
    expect(exposures.problems().map(({ Found }) => Found)).toEqual([
      "exposed address 10.32.0.2/12 is in force nevertheless: owned by host2",
    ]);
    exposures.stop();
  });

  test("of the range of another network is not claimed", async () => {
    const cidr = parseCidr("10.40.0.2/16");
    saved().save({ cidr, masquerade: true, range: parseCidr("10.40.0.0/16") });
    const exposures = new Exposures({
      ...{ store: saved(), kernel: memoryKernel(), range: parseCidr("10.32.0.0/13") },
      ...{ clock: new SimulatedClock(), log: silentLog },
    });
    exposures.start([]);
    await exposures.claim(
      () => expect.unreachable(),
      async () => {},
    );
    expect(exposures.problems().map(({ Found }) => Found)).toEqual([
      "exposed address 10.40.0.2/16 is not in force: it belongs to range 10.40.0.0/16; the range of the network is now 10.32.0.0/13",
    ]);
    exposures.stop();
  });
});

test("damaged rows are reported and skipped, and no more are taken than a host may have", () => {
  const rows = store.rows("exposures", v.any());
  const sound = { cidr: { address: 1, prefix: 8 }, masquerade: true };
  for (const [i, value] of [7, null, {}, { ...sound, masquerade: 1 }, { ...sound, cidr: "x" }].entries())
    rows.set(`bad${i}`, value);
  rows.set("good", sound);
  expect(saved().load()).toEqual([{ ...sound, range: undefined }]);
  expect(damaged).toHaveLength(5);
  const exposures = exposuresOf(saved(), memoryKernel());
  for (let i = 0; i < MAX_EXPOSURES; i++) exposures.expose({ address: i, prefix: 32 }, true);
  expect(() => exposures.expose({ address: 1 << 20, prefix: 32 }, true)).toThrow("hide some first");
  for (let i = 0; i < 10; i++) rows.set(`0.1.0.${i}/32`, sound);
  expect(saved().load().length).toBeLessThanOrEqual(MAX_EXPOSURES);
  expect(damaged.some((what) => what.includes("more than 256 rows"))).toBe(true);
});

test("whom a router connects to when it starts", () => {
  const id = identity(store, (what) => damaged.push(what));
  const begin = (...peers: string[]) => initialTargets({ peers }, id, false);
  expect(begin("a", "b")).toEqual({ peers: ["a", "b"], remembered: false });
  noteLaunch(id, ["a", "b"], silentLog);
  id.targets.set(["a", "c"]);
  // A crash or a reboot; the order does not count.
  expect(begin("b", "a")).toEqual({ peers: ["a", "c"], remembered: true });
  expect(begin("b")).toEqual({ peers: ["b"], remembered: false });
  expect(begin()).toEqual({ peers: ["a", "c"], remembered: true });
  expect(initialTargets({ peers: ["a", "b"] }, id, true)).toEqual({ peers: ["a", "b"], remembered: false });
  expect(initialTargets({ peers: [] }, id, true)).toEqual({ peers: [], remembered: false });
  id.stopped.set(true);
  expect(begin("a", "b")).toEqual({ peers: ["a", "b"], remembered: false });
  noteLaunch(id, ["a", "b"], silentLog);
  expect(begin("a", "b").remembered).toBe(true);
  store.rows("router", v.any()).set("targets", [1]);
  expect(begin("a", "b")).toEqual({ peers: ["a", "b"], remembered: false });
  expect(damaged).toHaveLength(1);
});
