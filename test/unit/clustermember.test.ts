// A router as a node of a cluster whose API server is the test: registration, exposing, following nodes and reclaiming,
// with silence, refusals and stops in between, on a simulated clock.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiClient, ApiError } from "../../lib/api/client.ts";
import { fillTemplate } from "../../lib/api/template/evaluate.ts";
import { configMapAnnotations, update } from "../../lib/cluster/annotations.ts";
import { Follower } from "../../lib/cluster/follower.ts";
import { type ClusterSettings, joinCluster } from "../../lib/cluster/membership.ts";
import { type Cluster, Registration, retryUntil, TakenOverError } from "../../lib/cluster/registration.ts";
import { CONFLICT, type KubeClient, KubeError, NOT_FOUND, type WatchEvent } from "../../lib/kube/client.ts";
import { logTo } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { identity } from "../../lib/router/identity.ts";
import { Store } from "../../lib/store/store.ts";
import { hurry } from "../support/clocks.ts";
import { simulateSystemClock } from "../support/systemclock.ts";

const OWN = nameFromNumber(1n);
const KEY = "kube-peers.weave.works/peers";
let system: ReturnType<typeof simulateSystemClock>;
let folder: string;
const before = process.env["WEAVE_STATE_DIR"];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-member-"));
});
afterAll(() => {
  if (before === undefined) delete process.env["WEAVE_STATE_DIR"];
  else process.env["WEAVE_STATE_DIR"] = before;
  rmSync(folder, { recursive: true });
});
let run = 0;
beforeEach(() => {
  process.env["WEAVE_STATE_DIR"] = join(folder, String(++run));
  system = simulateSystemClock();
});
afterEach(() => system[Symbol.dispose]());

const node = (name: string, address: string, uid = `uid-${name}`) => ({
  metadata: { name, uid },
  status: { addresses: [{ type: "InternalIP", address }] },
});

/** An API server with nodes and one ConfigMap; `fails` throws for a request, as "list", "get", "write", "watch". */
function cluster(nodes: Record<string, string>) {
  const state = {
    nodes: new Map(Object.entries(nodes)),
    annotations: {} as Record<string, string>,
    version: 1,
    exists: true,
    fails: (_what: string): void => {},
  };
  const asked: string[] = [];
  const watches: ((event: WatchEvent | Error) => void)[] = [];
  const map = () => ({
    metadata: {
      name: "weave-net",
      annotations: { ...state.annotations },
      resourceVersion: String(state.version),
    },
  });
  const ask = (what: string) => {
    asked.push(what);
    state.fails(what);
  };
  const client = {
    async get() {
      ask("get");
      if (!state.exists) throw new KubeError("none", NOT_FOUND);
      return map();
    },
    async list() {
      ask("list");
      return { items: [...state.nodes].map(([name, address]) => node(name, address)), resourceVersion: "1" };
    },
    async write(
      how: string,
      path: string,
      body: { metadata?: { annotations?: Record<string, string>; resourceVersion?: string } },
    ) {
      ask(`${how} ${path}`);
      if (how === "patch") return {};
      if (how === "create" && state.exists) throw new KubeError("exists", CONFLICT);
      if (how === "replace" && body.metadata?.resourceVersion !== String(state.version))
        throw new KubeError("changed", CONFLICT);
      state.exists = true;
      state.annotations = { ...body.metadata?.annotations };
      state.version++;
      return map();
    },
    async *watch(_path: string, _version: string, _seconds: number, signal: AbortSignal) {
      ask("watch");
      const queue: (WatchEvent | Error)[] = [];
      let wake = () => {};
      const put = (event: WatchEvent | Error) => {
        queue.push(event);
        wake();
      };
      watches.push(put);
      signal.addEventListener("abort", () => put(new KubeError("aborted", 0)));
      for (;;) {
        while (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        const next = queue.shift();
        if (next instanceof Error) throw next;
        if (next) yield next;
      }
    },
  } as unknown as KubeClient;
  const listed = () =>
    JSON.parse(state.annotations[KEY] ?? '{"Peers":[]}').Peers as { PeerName: string; NodeName: string }[];
  const list = (...peers: [string, string][]) => {
    state.annotations = {
      ...state.annotations,
      [KEY]: JSON.stringify({ Peers: peers.map(([PeerName, NodeName]) => ({ PeerName, NodeName })) }),
    };
    state.version++;
  };
  return {
    client,
    state,
    asked,
    watches,
    listed,
    list,
    event: (event: WatchEvent | Error) => watches.at(-1)?.(event),
  };
}

function logged() {
  const lines: string[] = [];
  return { lines, log: logTo((level, text) => lines.push(`${level}: ${text}`)) };
}
const settings = (more: Partial<ClusterSettings> = {}): ClusterSettings => ({
  ...{ node: "n1", peer: OWN, peers: undefined, exposeAddress: undefined },
  ...more,
});

describe("retrying", () => {
  test("goes on every 2 s until it succeeds; each new reason is told once", async () => {
    const reasons = ["a", "a", "b", "a"];
    const told: string[] = [];
    let attempts = 0;
    const done = retryUntil(
      async () => {
        attempts++;
        const reason = reasons.shift();
        if (reason) throw new Error(reason);
        return 7;
      },
      () => false,
      (reason) => told.push(reason),
    );
    await system.pass(1_900);
    expect(attempts).toBe(1);
    await system.pass(100);
    expect(attempts).toBe(2);
    await system.pass(6_000);
    expect([await done, attempts, told]).toEqual([7, 5, ["a", "b", "a"]]);
  });

  test("ends when it is stopped, and at once for one that was taken over from", async () => {
    let stopped = false;
    const ended = retryUntil(
      () => Promise.reject(new Error("x")),
      () => stopped,
      () => {},
    );
    await system.pass(1_000);
    stopped = true;
    await system.pass(2_000);
    expect(await ended).toBeUndefined();
    const taken = retryUntil(
      () => Promise.reject(new TakenOverError("taken")),
      () => false,
      () => {},
    );
    await expect(taken).rejects.toThrow("taken");
  });
});

describe("annotations", () => {
  test("of a ConfigMap that is absent are made, also where another makes it first; other errors are passed on", async () => {
    const { client, state, asked } = cluster({});
    state.exists = false;
    const shared = configMapAnnotations(client);
    await expect(shared.write({})).rejects.toThrow("kube-system/weave-net was not read yet");
    expect(await shared.read()).toEqual({});
    expect(asked).toEqual(["get", "create /api/v1/namespaces/kube-system/configmaps"]);
    state.exists = false;
    asked.length = 0;
    state.fails = (what) => {
      if (!what.startsWith("create")) return;
      state.exists = true;
      state.fails = () => {};
    };
    expect(await configMapAnnotations(client).read()).toEqual({});
    expect(asked.map((each) => each.split(" ")[0])).toEqual(["get", "create", "get"]);
    for (const failing of ["get", "create"]) {
      state.exists = failing === "get";
      state.fails = (what) => {
        if (what.startsWith(failing)) throw new KubeError("no", 403);
      };
      await expect(configMapAnnotations(client).read()).rejects.toThrow("no");
    }
    state.exists = true;
    state.fails = () => {};
    const written = configMapAnnotations(client);
    await written.read();
    state.fails = (what) => {
      if (what.startsWith("replace")) throw new KubeError("broken", 500);
    };
    await expect(written.write({ a: "1" })).rejects.toThrow("broken");
  });

  test("are retried a limited number of times if the API server contradicts itself or refuses each change", async () => {
    const { client, state, asked } = cluster({});
    state.exists = false;
    state.fails = (what) => {
      if (what.startsWith("create")) throw new KubeError("already exists", CONFLICT);
    };
    await expect(configMapAnnotations(client).read()).rejects.toThrow("already exists");
    expect(asked).toHaveLength(10);
    state.exists = true;
    state.fails = (what) => {
      if (what.startsWith("replace")) throw new KubeError("changed", CONFLICT);
    };
    const by = { clock: hurry(), random: { float: () => 0.5, u64: () => 0n } };
    await expect(update(configMapAnnotations(client), (now) => now, by)).rejects.toThrow(
      "cannot change ConfigMap kube-system/weave-net: 60 conflicts in a row",
    );
  });

  test("keep those of others, whatever they are called", async () => {
    const { client, state } = cluster({});
    state.annotations = { constructor: "theirs" };
    const shared = configMapAnnotations(client);
    await shared.write({ ...(await shared.read()), ours: "1" });
    expect(state.annotations).toEqual({ constructor: "theirs", ours: "1" });
  });

  test("that need no change are not written", async () => {
    const { client, asked } = cluster({});
    const by = { clock: system.clock, random: { float: () => 0, u64: () => 0n } };
    expect(await update(configMapAnnotations(client), () => undefined, by)).toEqual({});
    expect(asked).toEqual(["get"]);
  });
});

describe("registration", () => {
  const keep = (listed: boolean, name: typeof OWN | undefined, targets: string[] = []) => {
    const store = Store.open(join(process.env["WEAVE_STATE_DIR"] ?? "", "weave.db"));
    const kept = identity(store, () => {});
    if (name) kept.name.set(name);
    kept.listed.set(listed);
    kept.targets.set(targets);
    store.close();
  };
  const kept = () => {
    const store = Store.open(join(process.env["WEAVE_STATE_DIR"] ?? "", "weave.db"));
    const found = identity(store, () => {});
    const result = { name: found.name.get(), listed: found.listed.get() };
    store.close();
    return result;
  };

  test("enters the list, keeps the name, and starts with the other nodes' addresses", async () => {
    const { client, listed } = cluster({ n1: "198.51.100.1", n2: "198.51.100.2", n3: "198.51.100.3" });
    const { log } = logged();
    const registration = new Registration(client, settings(), log);
    expect([registration.reason, registration.early]).toEqual(["the API server has not answered yet", false]);
    const started = await registration.start();
    expect(started).toMatchObject({ peer: OWN, peers: ["198.51.100.1", "198.51.100.2", "198.51.100.3"] });
    expect([registration.peers, registration.reason, registration.early]).toEqual([
      started.peers,
      undefined,
      false,
    ]);
    expect([listed(), kept()]).toEqual([[{ PeerName: OWN, NodeName: "n1" }], { name: OWN, listed: true }]);
    const named = new Registration(client, settings({ peers: ["h9"] }), log);
    expect((await named.start()).peers).toEqual(["h9"]);
  });

  test("waits for a server that lists no nodes, or not this one, and says so", async () => {
    const { client, state } = cluster({});
    const { log, lines } = logged();
    const registration = new Registration(client, settings(), log);
    await system.pass(100);
    expect(registration.reason).toBe("the API server lists no nodes");
    state.nodes.set("n2", "198.51.100.2");
    await system.pass(2_000);
    expect(registration.reason).toContain('the cluster has no node "n1"');
    state.nodes.set("n1", "198.51.100.1");
    await system.pass(2_000);
    expect((await registration.registered)?.peer).toBe(OWN);
    expect(lines.filter((line) => line.includes("cannot enter the cluster yet"))).toHaveLength(2);
  });

  test("of a node that was listed before starts after 3 s of silence with what it has; another waits", async () => {
    for (const listed of [true, false]) {
      process.env["WEAVE_STATE_DIR"] = join(folder, `silent${listed}`);
      keep(listed, OWN, ["10.0.0.2"]);
      const { client, state, list } = cluster({ n1: "198.51.100.1", n2: "198.51.100.2" });
      list([OWN, "n1"]);
      state.fails = () => {
        throw new KubeError("away", 0);
      };
      const { log, lines } = logged();
      const registration = new Registration(client, settings({ peer: undefined }), log);
      let started: unknown;
      void registration.start().then((peers) => {
        started = peers;
      });
      await system.pass(2_900);
      expect(started).toBeUndefined();
      await system.pass(200);
      expect([started, registration.early]).toEqual(
        listed ? [{ peer: OWN, peers: ["10.0.0.2"] }, true] : [undefined, false],
      );
      if (listed) expect(lines.at(-1)).toContain("starting with the peers of the last run");
      state.fails = () => {};
      await system.pass(4_000);
      expect((await registration.registered)?.peers).toEqual(["198.51.100.1", "198.51.100.2"]);
      if (!listed) expect(started).toBeDefined();
      registration.stop();
    }
  });

  test("goes on waiting while the server answers, however slowly it gets on", async () => {
    keep(true, OWN);
    const { client, state } = cluster({ n1: "198.51.100.1" });
    // Nodes are listed, and the ConfigMap cannot be had.
    state.fails = (what) => {
      if (what === "get") throw new KubeError("busy", 503);
    };
    const registration = new Registration(client, settings(), logged().log);
    let started = false;
    void registration.start().then(() => {
      started = true;
    });
    await system.pass(20_000);
    expect([started, registration.early]).toEqual([false, false]);
    registration.stop();
  });

  test("of one that was taken over from forgets its addresses before it runs, and must restart when it does", async () => {
    keep(true, OWN);
    const { client } = cluster({ n1: "198.51.100.1", n2: "198.51.100.2" });
    const { log, lines } = logged();
    await new Registration(client, settings(), log).start();
    expect(lines).toContain(
      `warning: deleting the saved addresses: another peer took over the addresses of ${OWN} while its node was gone`,
    );
    process.env["WEAVE_STATE_DIR"] = join(folder, "running");
    keep(true, OWN);
    const late = cluster({ n1: "198.51.100.1" });
    late.state.fails = () => {
      throw new KubeError("away", 0);
    };
    const registration = new Registration(late.client, settings(), log);
    void registration.start();
    await system.pass(3_200);
    expect(registration.early).toBe(true);
    late.state.fails = () => {};
    await system.pass(2_000);
    await expect(registration.registered).rejects.toBeInstanceOf(TakenOverError);
  });

  test("that is stopped ends", async () => {
    const { client, state } = cluster({});
    state.fails = () => {
      throw new KubeError("away", 0);
    };
    const registration = new Registration(client, settings(), logged().log);
    registration.stop();
    await system.pass(2_100);
    expect(await registration.registered).toBeUndefined();
  });
});

/** The router's API: calls, and answers by path. */
function router(answers: Record<string, (format: string) => string> = {}) {
  const calls: string[] = [];
  const api: ApiClient = async (method, path, options) => {
    const body = options?.form ? ` ${options.form}` : "";
    calls.push(`${method} ${decodeURIComponent(path)}${body}`);
    const url = new URL(path, "http://localhost");
    const answer = answers[`${method} ${decodeURIComponent(url.pathname)}`];
    return answer?.(url.searchParams.get("format") ?? "") ?? "";
  };
  return { api, said: () => calls.splice(0) };
}

describe("joining", () => {
  const registered = (found: Cluster | undefined | Error, early = false) =>
    ({
      registered: found instanceof Error ? Promise.reject(found) : Promise.resolve(found),
      ...{ peers: ["198.51.100.2"], early, reason: early ? "the API server is away" : undefined, stop() {} },
    }) as unknown as Registration;

  test("waits for the ring, exposes a free address or the one it is given, then marks the node", async () => {
    for (const [exposeAddress, exposing] of [
      [undefined, ["POST /ip/weave:expose", "POST /expose/10.32.0.1/12"]],
      ["10.32.0.9/12", ["PUT /ip/weave:expose/10.32.0.9/12", "POST /expose/10.32.0.9/12"]],
    ] as const) {
      let ring = false;
      const { api, said } = router({
        "GET /ring": () => {
          if (!ring) throw new ApiError(503, "no ring");
          return "";
        },
        "POST /ip/weave:expose": () => "10.32.0.1/12\n",
      });
      const { client, asked } = cluster({ n1: "198.51.100.1" });
      const { log, lines } = logged();
      const found = { client, peer: OWN, peers: [] };
      const membership = joinCluster(
        api,
        registered(found),
        settings({ exposeAddress }),
        log,
        expect.unreachable,
      );
      await system.pass(2_100);
      expect([membership.ready, new Set(said())]).toEqual([false, new Set(["GET /ring"])]);
      ring = true;
      await system.pass(2_000);
      expect(said().filter((call) => /expose/.test(call))).toEqual([...exposing]);
      expect(asked.filter((what) => what.startsWith("patch"))).toEqual(["patch /api/v1/nodes/n1/status"]);
      expect([membership.ready, membership.notes(), lines.at(-1)]).toEqual([
        true,
        [],
        "info: joined the network",
      ]);
      void membership.stop();
    }
  });

  test("is ready once exposed where an earlier run has marked the node; the status says why it is not in the list", async () => {
    const { api } = router({ "POST /ip/weave:expose": () => "10.32.0.1/12" });
    const never = {
      registered: new Promise(() => {}),
      peers: [],
      early: true,
      reason: "away",
      stop() {},
    } as unknown as Registration;
    const membership = joinCluster(api, never, settings(), logged().log, expect.unreachable);
    await system.pass(500);
    expect(membership.ready).toBe(true);
    expect(membership.notes()).toEqual([
      "not in the list of peers of the cluster yet; using the peers of the last run: away",
    ]);
    void membership.stop();
    const late = joinCluster(
      api,
      { ...never, early: false } as Registration,
      settings(),
      logged().log,
      expect.unreachable,
    );
    await system.pass(500);
    expect(late.ready).toBe(false);
    void late.stop();
  });

  test("without a cluster exposes alone; a node that cannot be marked is tried again", async () => {
    const { api, said } = router({ "POST /ip/weave:expose": () => "10.32.0.1/12" });
    const alone = joinCluster(api, undefined, settings(), logged().log, expect.unreachable);
    await system.pass(500);
    expect([alone.ready, said()]).toEqual([
      true,
      ["GET /ring", "POST /ip/weave:expose", "POST /expose/10.32.0.1/12"],
    ]);
    void alone.stop();
    const { client, state } = cluster({ n1: "198.51.100.1" });
    state.fails = (what) => {
      if (what.startsWith("patch")) throw new KubeError("no", 500);
    };
    const { log, lines } = logged();
    const membership = joinCluster(
      api,
      registered({ client, peer: OWN, peers: [] }),
      settings(),
      log,
      expect.unreachable,
    );
    await system.pass(1_000);
    expect([
      membership.ready,
      lines.filter((line) => line.includes("cannot mark the node as available yet: no")).length,
    ]).toEqual([false, 1]);
    state.fails = () => {};
    await system.pass(2_000);
    expect(membership.ready).toBe(true);
    void membership.stop();
  });

  test("tells of a take-over, once, and joins nothing more after its end", async () => {
    const { api, said } = router({ "POST /ip/weave:expose": () => "10.32.0.1/12" });
    const told: string[] = [];
    const taken = joinCluster(api, registered(new TakenOverError("taken")), settings(), logged().log, (why) =>
      told.push(why),
    );
    await system.pass(1_000);
    expect([told, taken.ready]).toEqual([["taken"], false]);
    void taken.stop();
    said();
    const { client, asked } = cluster({ n1: "198.51.100.1" });
    const gate = Promise.withResolvers<Cluster>();
    const stopping = {
      registered: gate.promise,
      peers: [],
      early: false,
      reason: undefined,
      stop() {},
    } as unknown as Registration;
    const membership = joinCluster(api, stopping, settings(), logged().log, expect.unreachable);
    await system.pass(200);
    void membership.stop();
    gate.resolve({ client, peer: OWN, peers: [] });
    await system.pass(5_000);
    expect([asked, membership.ready]).toEqual([[], false]);
  });
});

describe("a follower", () => {
  /** Fill the format of "GET /report?format=…" with a router's peers, each with many connections. */
  const REPORT = (format: string, names: readonly string[]) => {
    const Connections = Array.from({ length: 30 }, () => ({ Name: OWN, NickName: "n".repeat(200) }));
    const report = { Router: { Peers: names.map((Name) => ({ Name, Connections })) } };
    return fillTemplate(format, report, JSON.stringify);
  };
  function following(
    nodes: Record<string, string>,
    more: Partial<ClusterSettings> = {},
    reachable: string[] = [OWN],
  ) {
    const kube = cluster(nodes);
    const done = { text: "12 IPs taken over\n" as string | Error };
    const { api, said } = router({
      "GET /report": (format) => REPORT(format, reachable),
      [`DELETE /peer/${nameFromNumber(2n)}`]: () => {
        if (done.text instanceof Error) throw done.text;
        return done.text;
      },
    });
    const { log, lines } = logged();
    const follower = new Follower(api, { client: kube.client, peer: OWN, peers: [] }, settings(more), log, [
      "198.51.100.2",
    ]);
    follower.start();
    return { ...kube, said, follower, lines, reachable, done };
  }
  const connects = (said: string[]) => said.filter((call) => call.startsWith("POST /connect"));
  const set = (name: string, address: string): WatchEvent => ({
    type: "ADDED",
    object: node(name, address),
    resourceVersion: "2",
  });
  const gone = (name: string): WatchEvent => ({
    type: "DELETED",
    object: node(name, ""),
    resourceVersion: "3",
  });

  test("tells the router its targets when they change, and only then; not by a list without this node", async () => {
    const { event, said, follower } = following({ n1: "198.51.100.1", n2: "198.51.100.2" });
    await system.pass(500);
    expect(connects(said())).toEqual(["POST /connect replace=true&peer=198.51.100.1&peer=198.51.100.2"]);
    event(set("n2", "198.51.100.2"));
    await system.pass(100);
    expect(connects(said())).toEqual([]);
    event(set("n3", "198.51.100.3"));
    await system.pass(100);
    expect(connects(said())).toEqual([
      "POST /connect replace=true&peer=198.51.100.1&peer=198.51.100.2&peer=198.51.100.3",
    ]);
    event(gone("n2"));
    await system.pass(100);
    expect(connects(said())).toEqual(["POST /connect replace=true&peer=198.51.100.1&peer=198.51.100.3"]);
    event(gone("n1"));
    event(set("n4", "198.51.100.4"));
    await system.pass(100);
    expect(connects(said())).toEqual([]);
    follower.stop();
    event(set("n1", "198.51.100.1"));
    await system.pass(700_000);
    expect(said()).toEqual([]);
  });

  test("tells nothing where the peers are configured", async () => {
    const { said, follower } = following({ n1: "198.51.100.1", n2: "198.51.100.2" }, { peers: ["h1"] });
    await system.pass(1_000);
    expect(connects(said())).toEqual([]);
    follower.stop();
  });

  test("reclaims addresses when the full report would exceed the limit of a format", async () => {
    const many = Array.from({ length: 1_500 }, (_, i) => nameFromNumber(BigInt(100 + i)));
    const { list, said, follower } = following({ n1: "198.51.100.1" }, {}, [OWN, ...many]);
    const two = nameFromNumber(2n);
    list([OWN, "n1"], [two, "n2"], [many.at(-1) ?? "", "n3"]);
    await system.pass(500);
    expect(said().filter((call) => call.startsWith("DELETE"))).toEqual([`DELETE /peer/${two}`]);
    follower.stop();
  });

  test("reclaims from a node that is gone, at the start and within 5 s of its end; not while its peer is reachable", async () => {
    const two = nameFromNumber(2n);
    const { list, listed, said, lines, event, state, follower, reachable } = following({
      n1: "198.51.100.1",
    });
    list([OWN, "n1"], [two, "n2"]);
    await system.pass(500);
    expect(said().filter((call) => call.startsWith("DELETE"))).toEqual([`DELETE /peer/${two}`]);
    expect([listed().map(({ PeerName }) => PeerName), lines]).toEqual([
      [OWN],
      ["info: taking over the addresses of a peer whose node is gone", "info: 12 IPs taken over"],
    ]);
    list([OWN, "n1"], [two, "n2"]);
    state.nodes.set("n2", "198.51.100.2");
    reachable.push(two);
    state.nodes.delete("n2");
    event(gone("n2"));
    await system.pass(5_000);
    expect(said().filter((call) => call.startsWith("DELETE"))).toEqual([]);
    reachable.pop();
    // What is left is tried again 30 s after a look, which is 0 to 5 s after the event, and 0 to 5 s later.
    await system.pass(24_900);
    expect(said().filter((call) => call.startsWith("DELETE"))).toEqual([]);
    await system.pass(10_200);
    expect(said().filter((call) => call.startsWith("DELETE"))).toEqual([`DELETE /peer/${two}`]);
    expect(listed().map(({ PeerName }) => PeerName)).toEqual([OWN]);
    follower.stop();
  });

  test("looks again every 10 min, and after 30 s where a look failed; a peer that owns nothing is reclaimed", async () => {
    const two = nameFromNumber(2n);
    const { list, listed, state, said, lines, follower, done, asked } = following({ n1: "198.51.100.1" });
    list([OWN, "n1"]);
    await system.pass(500);
    said();
    const looks = () => asked.splice(0).filter((what) => what === "get").length;
    looks();
    await system.pass(599_000);
    expect(looks()).toBe(0);
    await system.pass(31_000);
    expect(looks()).toBe(1);
    list([OWN, "n1"], [two, "n2"]);
    state.fails = (what) => {
      if (what === "get") throw new KubeError("no", 500);
    };
    await system.pass(600_000);
    expect(lines).toContain("warning: cannot check for removed nodes: no");
    expect(said()).toEqual([]);
    state.fails = () => {};
    done.text = new ApiError(404, `no peer "${two}" owns addresses`);
    await system.pass(36_000);
    expect(listed().map(({ PeerName }) => PeerName)).toEqual([OWN]);
    expect(lines).toContain(`info: no peer "${two}" owns addresses`);
    done.text = new ApiError(500, "broken");
    list([OWN, "n1"], [two, "n2"]);
    await system.pass(640_000);
    expect(listed().map(({ PeerName }) => PeerName)).toEqual([OWN, two]);
    follower.stop();
  });
});
