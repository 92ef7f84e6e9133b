// The status page but for its pictures: differences, the stream, events, and where things are drawn.
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo, silentLog } from "../../lib/log/log.ts";
import * as isolatings from "../../lib/npc/compiler.ts";
import { isolation, LatestBlocked } from "../../lib/npc/view.ts";
import { Store } from "../../lib/store/store.ts";
import * as localhttp from "../../lib/sys/localhttp.ts";
import { EVENT_BOUNDS, EventLog, EventSchema } from "../../lib/ui/events.ts";
import type { Event, Facts } from "../../lib/ui/facts.ts";
import { difference, type JsonObject, merge, type Patch } from "../../lib/ui/mergepatch.ts";
import { placePeers } from "../../lib/ui/page/maplayout.ts";
import { parseMessage } from "../../lib/ui/page/message.ts";
import { standings } from "../../lib/ui/page/standing.ts";
import { explained, PolicyWatch } from "../../lib/ui/policy.ts";
import { Stream } from "../../lib/ui/stream.ts";
import { fc } from "../support/fastcheck.ts";

const name = fc.constantFrom("a", "b", "c", "__proto__", "constructor");
const { object } = fc.letrec<{ value: unknown; object: JsonObject }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.boolean(),
    fc.integer(),
    fc.string(),
    fc.array(fc.string(), { maxLength: 2 }),
    tie("object"),
  ),
  object: fc
    .array(fc.tuple(name, tie("value")), { maxLength: 4 })
    .map((members) => Object.fromEntries(members)) as fc.Arbitrary<JsonObject>,
}));
/** Keep, remove, replace or change each member of `before` by `picks`; new values come from `values`. */
const change = (before: JsonObject, picks: readonly number[], values: JsonObject): JsonObject => {
  const names = [...new Set([...Object.keys(before), ...Object.keys(values)])];
  const members = names.flatMap((key, i): [string, JsonObject[string]][] => {
    const [own, other] = [before, values].map((of) => (Object.hasOwn(of, key) ? of[key] : undefined));
    const inner = typeof own === "object" && !Array.isArray(own) ? (own as JsonObject) : undefined;
    switch ((picks[i] ?? 0) % 4) {
      case 0:
        return own === undefined ? [] : [[key, own]];
      case 1:
        return [];
      case 2:
        return inner ? [[key, change(inner, picks.slice(1), values)]] : [[key, other]];
      default:
        return [[key, other]];
    }
  });
  return Object.fromEntries(members);
};
const json = (value: unknown) => JSON.parse(JSON.stringify(value));

describe("differences", () => {
  test("a patch makes the second of the first, over the wire, and is none where they are equal", () => {
    fc.assert(
      fc.property(object, object, fc.array(fc.nat(3), { maxLength: 8 }), (before, values, picks) => {
        const after = change(before, picks, values);
        const patch = difference(before, after);
        if (patch === undefined) expect(json(before)).toEqual(json(after));
        else expect(json(merge(before, JSON.parse(JSON.stringify(patch)) as Patch))).toEqual(json(after));
        expect(difference(after, json(after))).toBeUndefined();
      }),
    );
  });

  test("what a patch leaves alone stays the same object", () => {
    const before = { a: { x: 1, y: 1 }, b: { x: 1 } };
    const after = merge(before, { a: { x: 2 } });
    expect(after).toEqual({ a: { x: 2, y: 1 }, b: { x: 1 } });
    expect(after.b).toBe(before.b);
    expect(before.a.x).toBe(1);
  });
});

/** A stream of facts that a test sets. */
function streamed(clock: SimulatedClock) {
  const seen = { looks: 0, facts: { resting: 0 } as unknown as Facts };
  const events = new EventLog(clock);
  const facts = () => {
    seen.looks++;
    return seen.facts;
  };
  const stream = new Stream({ facts, events }, clock);
  const set = (resting: number) => {
    seen.facts = { resting } as unknown as Facts;
  };
  return { seen, set, events, stream };
}

/** What comes to a viewer: "event data" each. */
async function read(response: Response) {
  const reader = (response.body as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
  const lines: string[] = [];
  const reading = (async () => {
    for (let next = await reader.read(); !next.done; next = await reader.read())
      for (const message of new TextDecoder().decode(next.value).split("\n\n").filter(Boolean))
        lines.push(message.replace(/^event: /, "").replace(/\ndata: /, " "));
  })();
  await Bun.sleep(0);
  return { lines, reading, leave: () => reader.cancel() };
}

describe("the stream", () => {
  const told = (lines: readonly string[]) => lines.filter((line) => !line.startsWith("beat"));

  test("the state once, then differences, and nothing where nothing changes", async () => {
    const clock = new SimulatedClock();
    const { set, stream, seen } = streamed(clock);
    const viewer = await read(stream.open());
    expect(told(viewer.lines)).toEqual(['state {"resting":0}', "events []"]);
    clock.advance(3_000);
    await Bun.sleep(0);
    expect(told(viewer.lines).length).toBe(2);
    set(1);
    clock.advance(1_000);
    await Bun.sleep(0);
    expect(told(viewer.lines).slice(2)).toEqual(['change {"resting":1}']);
    clock.advance(1_000);
    await Bun.sleep(0);
    const beats = viewer.lines.filter((line) => line.startsWith("beat")).map((line) => Number(line.slice(5)));
    expect(beats).toEqual([clock.wall() - 5_000, clock.wall()]);
    const { looks } = seen;
    await viewer.leave();
    clock.advance(60_000);
    expect(seen.looks).toBe(looks);
  });

  test("who comes after a time without viewers sees the state as it is then", async () => {
    const clock = new SimulatedClock();
    const { set, stream } = streamed(clock);
    await (await read(stream.open())).leave();
    set(1);
    clock.advance(999);
    const soon = await read(stream.open());
    expect(told(soon.lines)[0]).toBe('state {"resting":0}');
    await soon.leave();
    clock.advance(1);
    const later = await read(stream.open());
    expect(told(later.lines)[0]).toBe('state {"resting":1}');
    await later.leave();
  });

  test("a hundred viewers share one look a second", async () => {
    const clock = new SimulatedClock();
    const { stream, seen, set } = streamed(clock);
    const viewers = await Promise.all(Array.from({ length: 100 }, () => read(stream.open())));
    expect(seen.looks).toBe(1);
    set(5);
    clock.advance(10_000);
    expect(seen.looks).toBeLessThanOrEqual(11);
    await Bun.sleep(0);
    for (const { lines } of viewers) expect(told(lines)).toContain('change {"resting":5}');
    stream.stop();
    await Promise.all(viewers.map(({ reading }) => reading));
  });

  test("there are bounds on viewers, and on what one leaves unread", async () => {
    const clock = new SimulatedClock();
    const { stream, seen } = streamed(clock);
    const unread = stream.open();
    const reader = (unread.body as ReadableStream<Uint8Array>).getReader();
    for (let i = 1; i <= 10; i++) {
      seen.facts = { text: String(i).repeat(1_000_000) } as unknown as Facts;
      clock.advance(1_000);
    }
    let bytes = 0;
    for (let next = await reader.read(); !next.done; next = await reader.read()) bytes += next.value.length;
    expect(bytes).toBeLessThan(6_000_000);
    const answers = Array.from({ length: 300 }, () => stream.open());
    expect(answers.filter(({ status }) => status === 503).length).toBe(300 - 256);
    stream.stop();
  });
});

describe("events", () => {
  test("lines that tell of something become events, steps on the way do not", () => {
    const clock = new SimulatedClock();
    const log = new EventLog(clock);
    const heard = log.heard(silentLog).with({ component: "mesh" });
    heard.info("attempting connection", { code: "dialling", address: "10.0.0.1:6783" });
    heard.info("the same in other words", { code: "connection-deleted" });
    heard.debug("details");
    heard.info("connection fully established", { peer: "<b>x</b>" });
    heard.with({ component: "host" }).warning("repaired link weave: it was down", { code: "repaired" });
    clock.advance(1_000);
    expect(log.all().map(({ kind, text, fields }) => [kind, text, fields])).toEqual([
      ["peers", "connection fully established", { peer: "<b>x</b>" }],
      ["repairs", "repaired link weave: it was down", undefined],
    ]);
  });

  test("addresses that are handed over are events, but no flood of them", () => {
    const clock = new SimulatedClock();
    const log = new EventLog(clock);
    const heard = log.heard(silentLog).with({ component: "ipam" });
    for (let i = 0; i < 1_000; i++)
      heard.debug("donating a range", { code: "range-donated", range: `10.32.0.${i}`, peer: "b" });
    clock.advance(1_000);
    expect(log.all().length).toBe(50);
    expect(log.all()[0]).toMatchObject({ kind: "addresses", level: "info", fields: { peer: "b" } });
  });

  test("what is logged is logged all the same", () => {
    const lines: string[] = [];
    const log = new EventLog(new SimulatedClock()).heard(
      logTo((level, text) => lines.push(`${level} ${text}`)),
    );
    log.info("attempting connection", { code: "dialling" });
    log.error("broken");
    expect(lines).toEqual(["info attempting connection", "error broken"]);
  });

  test("a flood is counted, and followers hear of events together", () => {
    const clock = new SimulatedClock();
    const log = new EventLog(clock);
    const batches: (readonly Event[])[] = [];
    const following = log.follow((events) => batches.push(events));
    const heard = log.heard(silentLog);
    for (let i = 0; i < 1_000; i++) heard.warning(`no ${i}`);
    clock.advance(1_000);
    expect(batches.length).toBe(1);
    expect(batches[0]?.at(-1)).toMatchObject({
      ...{ at: clock.wall(), text: "800 more events within a second: see the log" },
    });
    following.cancel();
    for (let second = 0; second < 20; second++) {
      for (let i = 0; i < 190; i++) heard.warning("again");
      clock.advance(1_000);
    }
    expect(log.all().length).toBe(EVENT_BOUNDS.entries);
    expect(batches.length).toBe(1);
    clock.advance(EVENT_BOUNDS.ageMs);
    heard.info("a day later");
    clock.advance(1_000);
    expect(log.all().map(({ text }) => text)).toEqual(["a day later"]);
  });

  test("of those that were kept, the ones of the last day by the wall clock are there at the start", () => {
    const clock = new SimulatedClock();
    const kept = [EVENT_BOUNDS.ageMs, EVENT_BOUNDS.ageMs - 1, 0].map((age) => clock.wall() - age);
    const log = new EventLog(clock);
    log.keep({ all: () => kept.map((at) => ({ at })) } as never);
    expect(log.all().map(({ at }) => at)).toEqual(kept.slice(1));
  });
});

test("peers have the same places each time, apart from each other, on the stage", () => {
  for (const [count, width, height] of [
    [1, 300, 300],
    [3, 900, 500],
    [40, 900, 500],
    [200, 1_000, 600],
    [500, 360, 480],
  ] as const) {
    const keys = Array.from({ length: count }, (_, i) => `peer ${i}`);
    const places = placePeers(keys, "peer 0", width, height);
    expect(placePeers(keys, "peer 0", width, height)).toEqual(places);
    expect([...places.keys()].sort()).toEqual([...keys].sort());
    for (const { x, y } of places.values()) {
      expect(x).toBeWithin(0, width);
      expect(y).toBeWithin(0, height);
    }
    expect(new Set(Array.from(places.values(), ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`)).size).toBe(
      count,
    );
  }
});

test("peers on a ring, also on the innermost of several, are as far apart as each other", () => {
  for (const [width, height] of [
    [900, 500],
    [360, 480],
  ] as const)
    for (let count = 3; count <= 260; count += count < 90 ? 1 : 17) {
      const keys = Array.from({ length: count }, (_, i) => `peer ${i}`);
      const [rx, ry] = [width / 2 - 62, height / 2 - 40];
      const rings = new Map<string, number[]>();
      for (const { x, y } of placePeers(["me", ...keys], "me", width, height).values()) {
        const [dx, dy] = [(x - width / 2) / rx, (y - height / 2) / ry];
        const scale = Math.hypot(dx, dy).toFixed(6);
        if (scale !== "0.000000") rings.set(scale, [...(rings.get(scale) ?? []), Math.atan2(dy, dx)]);
      }
      for (const [scale, angles] of rings) {
        angles.sort((a, b) => a - b);
        const share = (2 * Math.PI) / angles.length;
        const gaps = angles.map((angle, i) => (angles[i + 1] ?? (angles[0] ?? 0) + 2 * Math.PI) - angle);
        const uneven = gaps.filter((gap) => Math.abs(gap - share) > 1e-6);
        expect({ count, scale, uneven }).toEqual({ count, scale, uneven: [] });
      }
    }
});

test("this host is in the middle; two others are not in line with it, nor is one beside it", () => {
  const places = (...keys: string[]) =>
    [...placePeers(["me", ...keys], "me", 800, 600)].map(([key, { x, y }]) => [
      key,
      Math.round(x),
      Math.round(y),
    ]);
  expect(places()).toEqual([["me", 400, 300]]);
  expect(places("a")).toEqual([
    ["me", 400, 300],
    ["a", 400, 40],
  ]);
  expect(places("a", "b")).toEqual([
    ["me", 400, 300],
    ["a", 112, 436],
    ["b", 688, 436],
  ]);
  expect(places("a", "b", "c", "d")).toEqual([
    ["me", 400, 300],
    ["a", 400, 40],
    ["b", 738, 300],
    ["c", 400, 560],
    ["d", 62, 300],
  ]);
  // Of two rings the inner one is half a step on.
  const many = placePeers(["me", ...Array.from({ length: 40 }, (_, i) => `p${i}`)], "me", 800, 600);
  const [first, inner] = [many.get("p0"), many.get("p25")];
  expect([first?.x, first?.y]).toEqual([400, 40]);
  expect(inner?.x).not.toBeCloseTo(400, 0);
});

test("a peer stands as its best connection, and an address of a known host is no other peer", () => {
  const connection = { outbound: true, encrypted: false, silent: false };
  const lost = { ...connection, address: "10.0.0.2:6783", state: "lost", peer: { name: "b", nickname: "B" } };
  const facts = {
    host: { name: "a" },
    peers: { a: { nickname: "A", links: {} }, c: { nickname: "C", links: {} } },
    connections: {
      "1": lost,
      "2": { ...connection, address: "10.0.0.2:6783", state: "failed" },
      "3": { ...connection, address: "10.0.0.9:6783", state: "waiting" },
    },
  } as unknown as Facts;
  const all = standings(facts);
  expect([...all].map(([key, { tone, state }]) => [key, tone, state])).toEqual([
    ["a", "own", "this host"],
    ["c", "far", "reached through other peers"],
    ["b", "bad", "lost"],
    ["10.0.0.9:6783", "waiting", "waiting"],
  ]);
});

test("events are kept in the state file over a restart, within their bounds", () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-journal-"));
  const file = join(folder, "weave.db");
  const clock = new SimulatedClock();
  const opened = () => {
    const store = Store.open(file);
    const log = new EventLog(clock);
    log.keep(store.journal(EventSchema, EVENT_BOUNDS, () => clock.wall()));
    return { store, log, heard: log.heard(silentLog) };
  };
  try {
    const first = opened();
    first.heard.info("one");
    first.log.close();
    first.store.close();
    const second = opened();
    expect(second.log.all().map(({ text }) => text)).toEqual(["one"]);
    clock.advance(1_000);
    // What was heard before the file could be opened comes behind what the file has.
    const early = new EventLog(clock);
    early.heard(silentLog).info("two");
    early.flush();
    early.keep(second.store.journal(EventSchema, EVENT_BOUNDS, () => clock.wall()));
    expect(early.all().map(({ text }) => text)).toEqual(["one", "two"]);
    for (let round = 0; round < 15; round++) {
      for (let i = 0; i < 199; i++) second.heard.info(`more ${round} ${i}`);
      clock.advance(1_000);
    }
    second.log.close();
    second.store.close();
    const third = opened();
    expect(third.log.all().length).toBe(EVENT_BOUNDS.entries);
    expect(third.log.all().at(-1)?.text).toBe("more 14 198");
    clock.advance(EVENT_BOUNDS.ageMs + 1);
    third.heard.info("late");
    third.log.close();
    third.store.close();
    const database = new Database(file);
    expect(database.query("SELECT count(*) AS count FROM journal").get()).toEqual({ count: 1 });
    database.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("weave-npc remembers the latest blocked connections, by the fields of their log lines", () => {
  const latest = new LatestBlocked();
  const fields = {
    ...{ event: "blocked", protocol: "TCP", source: "10.32.0.1", sourcePort: 4000, sourcePod: undefined },
    ...{ destination: "10.32.0.2", destinationPort: 80, destinationPod: "a/b", direction: "ingress" },
  };
  for (let i = 1; i <= 300; i++) latest.add(i, { ...fields, isolatedBy: ["a/deny"] });
  const all = latest.all();
  expect(Object.keys(all).length).toBe(200);
  expect(all["300"]).toMatchObject({ at: 300, cut: false, destinationPod: "a/b", isolatedBy: ["a/deny"] });
});

test("what is no blocked connection is not remembered; a cut one is that", () => {
  const latest = new LatestBlocked();
  latest.add(1, { event: "blocked", protocol: "TCP" });
  const fields = {
    ...{ event: "cut", protocol: "TCP", source: "10.32.0.1", sourcePort: 4000, isolatedBy: [] },
    ...{ destination: "10.32.0.2", destinationPort: 80, direction: "egress" },
  };
  latest.add(2, fields);
  expect(Object.values(latest.all())).toMatchObject([{ at: 2, cut: true, direction: "egress" }]);
});

test("what isolates the pods of a node is looked up again after 5 s, or when a policy comes or goes", () => {
  const pod = (name: string, change: object = {}) => ({
    ...{ namespace: "n", name, node: "here", hostNetwork: false, ended: false, labels: new Map(), ...change },
  });
  const pods = [
    pod("a"),
    pod("b", { node: "there" }),
    pod("c", { hostNetwork: true }),
    pod("d", { ended: true }),
  ];
  let asked = 0;
  const model = {
    policyCount: 0,
    get pods() {
      asked++;
      return new Map(pods.map((each) => [each.name, each]));
    },
    policies: new Map(),
    policiesOf: () => [],
    addressesOf: ({ name }: { name: string }) => [`10.32.0.${name}`],
  };
  const spy = spyOn(isolatings, "isolating").mockImplementation((_model, _pod, direction) =>
    direction === "ingress" ? ([{ namespace: "n", name: "deny" }] as never) : undefined,
  );
  try {
    const clock = new SimulatedClock();
    const look = isolation(model as never, "here", false, () => clock.now());
    expect(look()).toEqual({ "10.32.0.a": { pod: "n/a", ingress: ["n/deny"], egress: [] } });
    clock.advance(4_999);
    const known = look();
    expect([look() === known, asked]).toEqual([true, 1]);
    clock.advance(1);
    look();
    expect(asked).toBe(2);
    model.policyCount = 1;
    look();
    expect(asked).toBe(3);
  } finally {
    spy.mockRestore();
  }
});

describe("weave-npc of this host", () => {
  const VIEW = { node: "n", inSync: true, policies: 1, blocked: {}, pods: {} };
  const settle = async () => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  let answer: () => Promise<{ status: number; body: string }>;
  let asked: string[];
  let restore: () => void;
  beforeEach(() => {
    asked = [];
    const spy = spyOn(localhttp, "askLocally").mockImplementation((url) => {
      asked.push(url);
      return answer();
    });
    restore = () => spy.mockRestore();
  });
  afterEach(() => restore());

  test("is asked each time one looks, one question at a time, and shown as it was last", async () => {
    answer = async () => ({ status: 200, body: JSON.stringify(VIEW) });
    const watch = new PolicyWatch(new SimulatedClock());
    expect([watch.latest(), watch.latest(), asked]).toEqual([
      undefined,
      undefined,
      ["http://127.0.0.1:6781/view"],
    ]);
    await settle();
    expect([watch.latest(), asked.length]).toEqual([VIEW, 2]);
  });

  test("that does not answer is shown no more, and asked again after 5 s", async () => {
    answer = async () => ({ status: 200, body: JSON.stringify(VIEW) });
    const clock = new SimulatedClock();
    const watch = new PolicyWatch(clock);
    watch.latest();
    await settle();
    answer = () => Promise.reject(new Error("refused"));
    watch.latest();
    await settle();
    expect([watch.latest(), asked.length]).toEqual([undefined, 2]);
    clock.advance(4_999);
    watch.latest();
    expect(asked.length).toBe(2);
    clock.advance(1);
    watch.latest();
    expect(asked.length).toBe(3);
  });

  test("explains: an answer, a question about what is not there, and silence", async () => {
    const query = new URLSearchParams({ from: "a", to: "b" });
    answer = async () => ({ status: 200, body: "{}" });
    expect((await explained(query)).status).toBe(200);
    expect(asked).toEqual(["http://127.0.0.1:6781/explain?from=a&to=b"]);
    answer = async () => ({ status: 400, body: "no such pod\n" });
    const wrong = await explained(query);
    expect([wrong.status, await wrong.json()]).toEqual([200, { error: "no such pod" }]);
    answer = () => Promise.reject(new Error("refused"));
    expect((await explained(query)).status).toBe(503);
  });
});

test("no text that the page shows reverses the direction of others", () => {
  const facts = {
    peers: { ["__proto__"]: { nickname: "a\u202eb\u001b" } },
    lines: ["a\nb"],
    count: 1,
  };
  const parsed = parseMessage(JSON.stringify(facts));
  expect(JSON.stringify(parsed)).toBe(
    String.raw`{"peers":{"__proto__":{"nickname":"a\\u202eb\\x1b"}},"lines":["a\nb"],"count":1}`,
  );
});
