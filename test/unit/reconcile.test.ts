// What the reconciler does when others change what is kept: with a simulated clock, and a kernel that is a set of words.
import { beforeEach, describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Reconciler } from "../../lib/host/reconcile/reconciler.ts";
import { type Change, type Keeper, keeper, type Source } from "../../lib/host/reconcile/resource.ts";

const IP = { pid: 12, name: "ip" };

let clock: SimulatedClock;
let lines: string[];
let reconciler: Reconciler;
/** What is in the kernel; what was looked at, and what was made, in order. */
let kernel: Set<string>;
let looks: string[];
let made: string[];
/** Why a resource cannot be made. */
let refusals: Map<string, string>;
/** What was told of a resource last. */
let troubles: Map<string, string | undefined>;

function wants(
  name: string,
  sources: readonly Source[],
  objects: () => readonly string[] = () => [name],
): Keeper {
  return keeper<readonly string[], ReadonlySet<string>, Change>({
    name,
    sources,
    desired: objects,
    observe() {
      looks.push(name);
      return new Set(kernel);
    },
    difference: (desired, found) =>
      desired.filter((object) => !found.has(object)).map((object) => ({ object, wrong: "missing" })),
    apply(changes) {
      const why = refusals.get(name);
      if (why !== undefined) throw new Error(why);
      for (const { object } of changes) {
        kernel.add(object);
        made.push(object);
      }
    },
    trouble: (reason) => troubles.set(name, reason),
  });
}

beforeEach(() => {
  clock = new SimulatedClock(1_000_000);
  lines = [];
  kernel = new Set();
  looks = [];
  made = [];
  refusals = new Map();
  troubles = new Map();
  reconciler = new Reconciler(clock, { warning: (text) => lines.push(text) });
});

const keep = (...keepers: Keeper[]) => {
  for (const each of keepers) reconciler.keep(each);
  looks = [];
  made = [];
};

/** Somebody takes something away, and the kernel tells. */
function undo(object: string, source: Source = "links", by?: typeof IP): void {
  kernel.delete(object);
  reconciler.notified(source, object.split(" ").at(-1) ?? "", by);
}

test("what is kept is made at once, which is no repair; what cannot be made is not kept", () => {
  expect(reconciler.keep(wants("link a", ["links"]))).toEqual([{ object: "link a", wrong: "missing" }]);
  expect(kernel).toContain("link a");
  refusals.set("link b", "no room");
  expect(() => reconciler.keep(wants("link b", ["links"]))).toThrow("no room");
  clock.advance(60_000);
  expect(made).toEqual(["link a"]);
  expect([lines, reconciler.notes()]).toEqual([[], []]);
});

test("what a resource keeps open is closed at the end, or at once where it is not kept", () => {
  const closed: string[] = [];
  const open = (name: string): Keeper => ({ ...wants(name, ["links"]), close: () => closed.push(name) });
  keep(open("link a"));
  reconciler.keepTrying(open("link b"));
  refusals.set("link c", "no room");
  expect(() => reconciler.keep(open("link c"))).toThrow("no room");
  expect(closed).toEqual(["link c"]);
  reconciler.stop();
  expect(closed).toEqual(["link c", "link a", "link b"]);
});

describe("notifications", () => {
  test("several at a time are one look, within 200 ms, at what they concern", () => {
    keep(wants("route b", ["routes"]), wants("link a", ["links"]));
    for (let i = 0; i < 100; i++) undo("link a");
    clock.advance(200);
    expect([looks, made]).toEqual([["link a"], ["link a"]]);
  });

  test("that are urgent are looked at at once; of thousands that follow, only now and then", () => {
    keep(wants("link a", ["links"]), wants("policies", ["xfrm"]));
    kernel.delete("policies");
    reconciler.urgent("xfrm");
    expect([looks, made]).toEqual([["policies"], ["policies"]]);
    for (let i = 0; i < 5_000; i++) {
      kernel.delete("policies");
      reconciler.urgent("xfrm");
    }
    expect(looks.length).toBe(1);
    clock.advance(10);
    expect([looks.length, kernel.has("policies")]).toEqual([2, true]);
    clock.advance(10);
    expect(looks.length).toBe(2);
    kernel.delete("policies");
    reconciler.urgent("xfrm");
    expect(looks).toEqual(["policies", "policies", "policies"]);
    reconciler.urgent("xfrm");
    reconciler.stop();
    clock.advance(1_000);
    expect(looks.length).toBe(3);
  });

  test("that are urgent and take long leave three quarters of the time to others", () => {
    const slow = wants("policies", ["xfrm"]);
    keep({
      ...slow,
      reconcile(accepts) {
        clock.advance(20);
        return slow.reconcile(accepts);
      },
    });
    const began = clock.now();
    while (clock.now() - began < 8_000) {
      reconciler.urgent("xfrm");
      clock.advance(1);
    }
    expect(looks.length).toBeWithin(90, 110);
  });

  test("is tried again at once when what it depends on was put right", () => {
    keep(wants("bridge", ["links"]), wants("port", ["netconf"]));
    for (const each of ["bridge", "port"]) refusals.set(each, "no bridge");
    undo("bridge");
    undo("port", "netconf");
    clock.advance(33_000);
    refusals.clear();
    reconciler.notified("links");
    clock.advance(1_200);
    expect(made).toEqual(["bridge", "port"]);
  });

  test("that come of its own attempts do not hasten it: attempts get rarer all the same", () => {
    const attempts: number[] = [];
    const refused = wants("link a", ["links"]);
    keep({
      ...refused,
      reconcile(accepts) {
        try {
          return refused.reconcile(accepts);
        } catch (error) {
          attempts.push(clock.now());
          reconciler.notified("links");
          throw error;
        }
      },
    });
    refusals.set("link a", "no room");
    undo("link a");
    for (let second = 0; second < 600; second++) clock.advance(1_000);
    const pauses = attempts.slice(1).map((at, i) => at - (attempts[i] ?? 0));
    expect(attempts.length).toBeLessThan(40);
    expect(pauses.slice(-5).every((pause) => pause >= 15_000)).toBe(true);
  });

  test("while nothing is wrong, a look is all that comes of them", () => {
    keep(wants("link a", ["links"]));
    reconciler.notified("links", "a");
    clock.advance(10_000);
    expect([looks, made, lines]).toEqual([["link a"], [], []]);
  });

  test("what comes behind something that was repaired is looked at, too; what comes before it is not", () => {
    keep(wants("sysctl c", []), wants("link a", ["links"]), wants("address b", ["addresses"]));
    undo("link a");
    kernel.delete("address b");
    kernel.delete("sysctl c");
    clock.advance(200);
    expect(made).toEqual(["link a", "address b"]);
  });

  test("where some were lost, everything is looked at at once", () => {
    keep(wants("link a", ["links"]), wants("route b", ["routes"]), wants("map c", []));
    kernel.clear();
    reconciler.lost();
    expect(made).toEqual(["link a", "route b", "map c"]);
  });

  test("without any, silent changes are repaired within 1 s, settings within 5 s, maps within 30 s", () => {
    keep(wants("sysctl a", ["silent"]), wants("sysctl b", ["settings"]), wants("map c", ["maps"]));
    kernel.delete("sysctl a");
    clock.advance(1_000);
    expect(made).toEqual(["sysctl a"]);
    kernel.delete("sysctl b");
    clock.advance(5_000);
    expect(made).toEqual(["sysctl a", "sysctl b"]);
    kernel.delete("map c");
    clock.advance(30_000);
    expect(made).toEqual(["sysctl a", "sysctl b", "map c"]);
  });

  test("all are compared after 30 s, less often while nothing is wrong, at least every 5 min", () => {
    keep(wants("link a", ["links"]));
    const started = clock.now();
    const at: number[] = [];
    while (clock.now() < started + 1_050_000) {
      clock.advance(1_000);
      if (looks.splice(0).length > 0) at.push((clock.now() - started) / 1_000);
    }
    expect(at).toEqual([30, 90, 210, 450, 750, 1_050]);
    kernel.delete("link a");
    clock.advance(300_000);
    expect(made).toEqual(["link a"]);
    kernel.delete("link a");
    clock.advance(30_000);
    expect(made).toEqual(["link a", "link a"]);
  });

  test("where a glance shows no silent change, no look follows", () => {
    let seen: string | undefined = "first";
    const glance = () => {
      if (seen === undefined) throw new Error("cannot be read");
      return seen;
    };
    keep({ ...wants("table a", ["silent"]), glance });
    clock.advance(20_000);
    expect(looks).toEqual(["table a"]);
    kernel.delete("table a");
    seen = "second";
    clock.advance(1_000);
    expect([looks, made]).toEqual([["table a", "table a"], ["table a"]]);
    seen = undefined;
    clock.advance(2_000);
    expect(looks).toHaveLength(4);
  });

  test("after the end nothing is done any more", () => {
    keep(wants("link a", ["links"]));
    reconciler.stop();
    undo("link a");
    reconciler.lost();
    clock.advance(60_000);
    expect(looks).toEqual([]);
  });

  test("what is kept after the end is not tried again", () => {
    refusals.set("link a", "no room");
    reconciler.stop();
    reconciler.keepTrying(wants("link a", ["links"]));
    expect(looks).toEqual(["link a"]);
    clock.advance(60_000);
    expect(looks).toEqual(["link a"]);
  });

  test("none that waits is looked at after the end", () => {
    keep(wants("link a", ["links"]));
    undo("link a");
    reconciler.stop();
    clock.advance(60_000);
    expect(looks).toEqual([]);
  });

  test("that never end do not put it off", () => {
    keep(wants("link a", ["links"]));
    kernel.delete("link a");
    for (let i = 0; i < 4; i++) {
      reconciler.notified("links");
      clock.advance(50);
    }
    expect(made).toEqual(["link a"]);
  });
});

describe("a repair", () => {
  test("is logged, counted and remembered, with the wall clock's time and who it was", () => {
    keep(wants("link a", ["links"]));
    clock.wallOffset = 1_700_000_000_000;
    undo("link a", "links", IP);
    clock.advance(100);
    expect(lines).toEqual(["repaired link a: it was missing, by ip (pid 12)"]);
    expect(reconciler.repairs.latest).toEqual([
      { at: clock.wall(), resource: "link a", object: "link a", wrong: "missing", by: IP },
    ]);
    expect([...reconciler.repairs.counts]).toEqual([["link a", 1]]);
    expect(reconciler.notes()).toEqual([
      expect.stringMatching(
        /^repaired what others changed: 1 in all, the last at 2023-\S+Z: link a: it was missing/,
      ),
    ]);
  });

  test("names nobody who changed something else, or changed it long ago", () => {
    keep(wants("link a", ["links"]));
    reconciler.notified("links", "b", IP);
    undo("link a");
    clock.advance(100);
    reconciler.notified("links", "a", IP);
    clock.advance(3_000);
    undo("link a");
    clock.advance(100);
    expect(reconciler.repairs.latest.map(({ by }) => by)).toEqual([undefined, undefined]);
  });

  test("is remembered for a while, however many there are", () => {
    const names = Array.from({ length: 300 }, (_, i) => `link ${i}`);
    keep(wants("links", ["links"], () => names));
    kernel.clear();
    reconciler.lost();
    expect(reconciler.repairs.latest).toHaveLength(100);
    expect(reconciler.repairs.latest.at(-1)?.object).toBe("link 299");
    expect(reconciler.repairs.counts.get("links")).toBe(300);
  });
});

describe("a resource that cannot be put right", () => {
  test("keeps no other from it, is tried again with back-off, and told until it is right", () => {
    keep(wants("link a", ["links"]), wants("link b", ["links"]));
    refusals.set("link a", "the UDP port is taken");
    undo("link a");
    undo("link b");
    clock.advance(200);
    expect(made).toEqual(["link b"]);
    expect(lines).toContain("cannot repair link a: the UDP port is taken; trying again");
    expect(reconciler.notes()[0]).toBe("cannot repair link a: the UDP port is taken");
    expect(troubles.get("link a")).toBe("the UDP port is taken");
    // 1, 2, 4, 8 and 16 s after each other, whatever is told meanwhile; then every 30 s.
    looks = [];
    for (let i = 0; i < 31_000; i += 500) {
      reconciler.notified("links");
      clock.advance(500);
    }
    expect(looks.filter((name) => name === "link a")).toHaveLength(5);
    refusals.clear();
    clock.advance(30_000);
    expect(made).toEqual(["link b", "link a"]);
    expect(reconciler.resources).toEqual([
      { name: "link a", repairs: 1, failures: 6, failing: undefined },
      { name: "link b", repairs: 1, failures: 0, failing: undefined },
    ]);
    expect(troubles.get("link a")).toBeUndefined();
    expect(lines.filter((line) => line.startsWith("cannot"))).toHaveLength(1);
  });

  test("is looked at within a second once the kernel tells of a change, without waiting for the back-off", () => {
    keep(wants("switch", ["silent"]), wants("link a", ["links"]));
    for (const each of ["link a", "switch"]) refusals.set(each, "another is in its place");
    undo("link a");
    undo("switch", "silent");
    // 1, 2, 4, 8 and 16 s after each other; the next is after 30 s.
    clock.advance(33_000);
    looks = [];
    refusals.clear();
    reconciler.notified("links");
    clock.advance(1_200);
    expect([looks, made]).toEqual([["link a"], ["link a"]]);
  });
});

describe("a change of what is desired", () => {
  let desired: string[];
  beforeEach(() => {
    desired = ["address a"];
    keep(
      wants("link", ["links"]),
      wants("addresses", ["addresses"], () => desired),
    );
  });

  test("is made at once, and is no repair; what others changed before it is", () => {
    kernel.delete("address a");
    reconciler.check();
    desired = ["address a", "address b"];
    reconciler.apply();
    expect(made).toEqual(["address a", "address b"]);
    expect(reconciler.repairs.latest.map(({ object }) => object)).toEqual(["address a"]);
  });

  test("throws where the kernel refuses it, with all else done", () => {
    refusals.set("link", "no");
    kernel.clear();
    expect(() => reconciler.apply()).toThrow("no");
    expect(made).toEqual(["address a"]);
  });

  test("is not held up by what could not be put right before", () => {
    refusals.set("link", "no");
    kernel.delete("link");
    reconciler.check();
    desired = ["address a", "address b"];
    reconciler.apply();
    expect(kernel).toContain("address b");
  });
});

describe("a fight", () => {
  /** Lets time pass, with somebody who takes it away as soon as it is there. */
  function fight(ms: number, by?: typeof IP): number {
    const before = made.length;
    for (let i = 0; i < ms; i += 100) {
      if (kernel.has("link a")) undo("link a", "links", by);
      clock.advance(100);
    }
    return made.length - before;
  }

  test("is what is undone more than 5 times a minute; it is told with who it is, and repaired with back-off", () => {
    keep(wants("link a", ["links"]));
    for (let i = 0; i < 5; i++) {
      undo("link a", "links", IP);
      clock.advance(5_000);
    }
    expect([made.length, reconciler.fights]).toEqual([5, []]);
    undo("link a", "links", IP);
    clock.advance(5_000);
    expect(reconciler.fights).toEqual(["ip (pid 12) keeps changing link a: repairing it at most every 1 s"]);
    expect(lines.at(-1)).toBe("ip (pid 12) keeps changing link a: repairing it at most every 1 s");
    // 1, 2, 4, 8, 16 s apart, then 30.
    expect(fight(30_000, IP)).toBeLessThanOrEqual(6);
    expect(fight(300_000, IP)).toBeLessThanOrEqual(11);
    expect(fight(300_000, IP)).toBeGreaterThanOrEqual(9);
    expect(reconciler.fights).toEqual(["ip (pid 12) keeps changing link a: repairing it at most every 30 s"]);
    expect(troubles.get("link a")).toBe("link a is missing, and changed again and again");
    // One line a minute at most.
    expect(lines.filter((line) => line.includes("keeps changing")).length).toBeLessThanOrEqual(12);
  });

  test("who undoes it now and then only is answered at once", () => {
    keep(wants("link a", ["links"]));
    for (let i = 0; i < 30; i++) {
      undo("link a");
      clock.advance(200);
      expect(made).toHaveLength(i + 1);
      clock.advance(6_000);
    }
  });

  test("ends: a minute of peace later repairs are made at once again", () => {
    keep(wants("link a", ["links"]));
    fight(120_000);
    clock.advance(30_000);
    expect(kernel).toContain("link a");
    clock.advance(60_000);
    expect([reconciler.fights, troubles.get("link a")]).toEqual([[], undefined]);
    made = [];
    undo("link a");
    clock.advance(200);
    expect(made).toEqual(["link a"]);
  });

  test("is about one object; others of the resource are repaired as ever", () => {
    keep(wants("links", ["links"], () => ["link a", "link b"]));
    fight(60_000);
    made = [];
    undo("link b");
    clock.advance(200);
    expect(made).toContain("link b");
  });

  test("has nothing to do with the time of day", () => {
    keep(wants("link a", ["links"]));
    for (let i = 0; i < 20; i++) {
      undo("link a");
      clock.wallOffset -= 3_600_000;
      clock.advance(30_000);
      expect(made).toHaveLength(i + 1);
    }
    expect(reconciler.fights).toEqual([]);
  });
});
