// The small parts of a router: options at their bounds, the first targets after each kind of end, and what is kept on disk.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { nameFromNumber, parsePeerName } from "../../lib/mesh/name.ts";
import { openAttachments } from "../../lib/router/attaching.ts";
import { stateSteps } from "../../lib/router/hoststeps.ts";
import { identity } from "../../lib/router/identity.ts";
import { OptionError, parseOptions } from "../../lib/router/options.ts";
import { deriveName } from "../../lib/router/peername.ts";
import { attachmentsStore, MAX_ADDRESSES, MAX_ATTACHMENTS } from "../../lib/router/savedattachments.ts";
import { exposuresStore } from "../../lib/router/savedexposures.ts";
import { initialTargets, noteLaunch, noteStopped } from "../../lib/router/targets.ts";
import { Store } from "../../lib/store/store.ts";

describe("options", () => {
  const of = (raw: Record<string, unknown>, peers: string[] = []) => parseOptions(raw, peers);

  test("have the defaults of the manual", () => {
    const { "docker-api": sockets, ...rest } = of({});
    expect(sockets.length).toBeGreaterThan(0);
    expect(rest).toEqual({
      ...{ port: 6783, "trusted-subnets": [], "conn-limit": 200, discovery: true, fastdp: true },
      ...{ "ipalloc-init": { kind: "consensus", count: undefined }, dns: true, "dns-domain": "weave.local." },
      ...{
        "dns-listen-address": undefined,
        "docker-bridge": "docker0",
        "dns-ttl": 1,
        "dns-fallback-timeout": 5_000,
      },
      ...{
        "resolv-conf": "/etc/resolv.conf",
        mtu: "auto",
        "flow-cache": true,
        "http-addr": { host: "127.0.0.1", port: 6784 },
      },
      ...{
        "http-writes": false,
        "status-addr": { host: "127.0.0.1", port: 6782 },
        "metrics-addr": undefined,
      },
      ...{
        "masq-local": true,
        "expect-npc": false,
        "anti-spoof": false,
        "log-level": "info",
        "log-format": "text",
      },
      ...{
        resume: false,
        range: parseCidr("10.32.0.0/12"),
        allocates: true,
        defaultSubnet: parseCidr("10.32.0.0/12"),
        peers: [],
      },
    } as never);
  });

  test.each<[string, readonly unknown[], readonly unknown[]]>([
    ["port", ["1", "65534"], ["0", "65535", "x", "123456", ""]],
    ["conn-limit", ["0", "4096"], ["4097", "-1", "1.5"]],
    ["min-protocol-version", ["1", "2"], ["0", "3"]],
    ["mtu", ["576", "65000"], ["575", "65001"]],
    ["dns-ttl", ["0", "604800"], ["604801"]],
    [
      "dns-fallback-timeout",
      ["1ms", "1h", "60m", "1m30s", "0.5s"],
      ["0s", "1h1ms", "61m", "5", "5 s", "", "1d"],
    ],
    ["nickname", ["a", "a".repeat(255)], ["", "a".repeat(256)]],
    ["name", ["02:00:00:00:00:01", "::2"], ["01:00:00:00:00:00", "00:00:00:00:00:00", "x"]],
    ["host", ["10.0.0.1"], ["h1", "::1"]],
    ["password", ["a"], [""]],
    ["trusted-subnets", ["", "10.0.0.0/8,192.168.0.0/16"], ["10.0.0.0", "x"]],
    ["ipalloc-range", ["", "10.0.0.0/30", "10.0.0.0/8"], ["10.0.0.0/31", "10.0.0.1/8", "127.0.0.0/8"]],
    [
      "ipalloc-init",
      ["consensus", "consensus=9999", "observer", "seed=::1,::2"],
      ["consensus=0", "consensus=10000", "consensus=", "observer=1", "seed", "seed=", "x"],
    ],
    ["dns-domain", ["a.b", "a.b."], ["a..b", ""]],
    ["dns-listen-address", ["", ":53", "127.0.0.1:53"], ["53", "h1:53", "127.0.0.1"]],
    ["docker-bridge", ["", "b".repeat(15)], ["b".repeat(16), "a b", "a/b"]],
    ["resolv-conf", ["/x"], [""]],
    ["log-level", ["debug", "info", "warning", "error"], ["loud"]],
    ["log-format", ["text", "json"], ["xml"]],
    ["http-writes", [true, false], ["yes"]],
  ])("--%s: what is taken and what is not", (option, good, bad) => {
    for (const value of good) expect(() => of({ [option]: value })).not.toThrow();
    for (const value of bad) {
      expect(() => of({ [option]: value })).toThrow(OptionError);
      expect(() => of({ [option]: value })).toThrow(`--${option}: `);
    }
  });

  test("mean what they say", () => {
    expect(of({ "dns-fallback-timeout": "1m30.5s" })["dns-fallback-timeout"]).toBe(90_500);
    expect(of({ "ipalloc-init": "seed=::2,::1" })["ipalloc-init"]).toEqual({
      kind: "seed",
      peers: [2n, 1n].map(nameFromNumber),
    });
    expect(of({ "ipalloc-init": "consensus=3" })["ipalloc-init"]).toEqual({ kind: "consensus", count: 3 });
    expect(of({ "trusted-subnets": "10.0.0.0/8,,1.0.0.0/8" })["trusted-subnets"]).toEqual([
      parseCidr("10.0.0.0/8"),
      parseCidr("1.0.0.0/8"),
    ]);
    expect(of({ "http-addr": "" })["http-addr"]).toBeUndefined();
    const none = of({ "ipalloc-range": "" });
    expect([none.allocates, none.range.prefix]).toEqual([false, 32]);
    const subnet = of({ "ipalloc-range": "10.0.0.0/8", "ipalloc-default-subnet": "10.2.0.0/16" });
    expect([subnet.defaultSubnet, subnet.allocates]).toEqual([parseCidr("10.2.0.0/16"), true]);
    expect(of({}, ["h1", "10.0.0.1:7000"]).peers).toEqual(["h1", "10.0.0.1:7000"]);
  });

  test("that contradict each other are refused", () => {
    expect(() => of({ "ipalloc-range": "", "ipalloc-init": "observer" })).toThrow(
      "--ipalloc-init: there is no range to allocate from",
    );
    expect(() => of({ "ipalloc-range": "", "ipalloc-default-subnet": "10.0.0.0/8" })).toThrow(
      "--ipalloc-default-subnet: there is no range",
    );
    expect(() => of({ "ipalloc-range": "10.0.0.0/8", "ipalloc-default-subnet": "11.0.0.0/16" })).toThrow(
      "--ipalloc-default-subnet: 11.0.0.0/16 does not overlap with --ipalloc-range 10.0.0.0/8",
    );
    expect(() => of({}, ["h1", "a:b:c"])).toThrow('peer "a:b:c": should be HOST or HOST:PORT');
    expect(() => of({ resume: true }, ["h1"])).toThrow("--resume: uses the peers of the last launch");
    expect(of({ resume: true }).resume).toBe(true);
  });
});

test("a derived name is a unicast one of its own for each source, and the same again", () => {
  const names = [["a"], ["b"], ["a", "b"], ["ab"], []].map((sources) => deriveName(sources));
  expect(new Set(names).size).toBe(5);
  expect(deriveName(["a"])).toBe(names[0] ?? ("" as never));
  for (const name of names) expect(Number.parseInt(name.slice(0, 2), 16) & 3).toBe(2);
});

let folder: string;
const before = process.env["WEAVE_STATE_DIR"];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-routerparts-"));
});
afterAll(() => {
  if (before === undefined) delete process.env["WEAVE_STATE_DIR"];
  else process.env["WEAVE_STATE_DIR"] = before;
  rmSync(folder, { recursive: true });
});
let run = 0;
beforeEach(() => {
  process.env["WEAVE_STATE_DIR"] = join(folder, String(++run));
});
const open = () => Store.open(join(process.env["WEAVE_STATE_DIR"] ?? "", "weave.db"));

describe("the first targets", () => {
  const run = (peers: string[], told = false) => {
    const store = open();
    const kept = identity(store, () => {});
    const chosen = initialTargets({ peers }, kept, told);
    store.close();
    return chosen;
  };
  const launched = (peers: string[], targets: string[]) => {
    const store = open();
    const kept = identity(store, () => {});
    noteLaunch(kept, peers, silentLog);
    kept.targets.set(targets);
    store.close();
  };

  test("are those of the launch at first, and what connect and forget made of them after a crash", () => {
    expect(run(["a", "b"])).toEqual({ peers: ["a", "b"], remembered: false });
    launched(["a", "b"], ["b", "c"]);
    expect(run(["b", "a"])).toEqual({ peers: ["b", "c"], remembered: true });
    expect(run([])).toEqual({ peers: ["b", "c"], remembered: true });
    expect(run(["a"])).toEqual({ peers: ["a"], remembered: false });
    expect(run(["a", "b"], true)).toEqual({ peers: ["a", "b"], remembered: false });
    expect(run([], true)).toEqual({ peers: [], remembered: false });
  });

  test("are those of the launch after 'weave stop', or those kept where it names none", () => {
    noteStopped();
    expect(existsSync(join(process.env["WEAVE_STATE_DIR"] ?? "", "weave.db"))).toBe(false);
    launched(["a"], ["b"]);
    noteStopped();
    expect(run(["a"])).toEqual({ peers: ["a"], remembered: false });
    expect(run([])).toEqual({ peers: ["b"], remembered: true });
    // The launch after it is a first one again.
    launched([], ["b"]);
    expect(run(["a"])).toEqual({ peers: ["b"], remembered: true });
  });
});

test("each thing that is kept of a router has a place of its own, and is the same after a restart", () => {
  const values = {
    ...{ name: parsePeerName("02:00:00:00:00:01"), shortId: 7, mtu: 1_400 },
    ...{ targets: ["a"], launched: ["b"], stopped: false, listed: true },
  };
  const store = open();
  const kept = identity(store, (what) => expect.unreachable(what));
  const parts = Object.keys(kept) as (keyof typeof kept)[];
  for (const part of parts) (kept[part].set as (value: unknown) => void)(values[part]);
  store.close();
  const again = open();
  const found = identity(again, (what) => expect.unreachable(what));
  expect(Object.fromEntries(parts.map((part) => [part, found[part].get()]))).toEqual(values);
  again.close();
});

test.each([
  ["name", "02:00"],
  ["shortId", 4_096],
  ["listed", "yes"],
] as const)("a router whose %s is damaged starts as no other: the file is moved aside", (part, bad) => {
  const store = open();
  store.rows("router", v.unknown()).set(part.toLowerCase(), bad);
  const kept = identity(store, (what) => expect.unreachable(what));
  expect(() => kept[part].get()).toThrow("moved");
  store.close();
});

test("what is kept of a router is within bounds, and written once", () => {
  const store = open();
  const said: string[] = [];
  const kept = identity(store, (what) => said.push(what));
  const rows = store.rows("router", v.unknown());
  for (const [key, bad] of [
    ["targets", ["", "a"]],
    ["launched", ["a".repeat(301)]],
    ["stopped", "yes"],
  ] as const) {
    rows.set(key, bad);
    expect(kept[key].get()).toBeUndefined();
  }
  expect(said).toHaveLength(3);
  expect(() => kept.shortId.set(4_096)).toThrow("not saved");
  kept.shortId.set(4_095);
  kept.targets.set(["a".repeat(300)]);
  expect([kept.shortId.get(), kept.targets.get()?.length]).toEqual([4_095, 1]);
  store.close();
});

test("exposures and attachments are kept whole, and within bounds", () => {
  const store = open();
  const said: string[] = [];
  const exposures = exposuresStore(store, (what) => said.push(what));
  const exposure = { cidr: parseCidr("10.32.0.1/12"), masquerade: true, range: parseCidr("10.32.0.0/12") };
  exposures.save(exposure);
  exposures.save({ ...exposure, masquerade: false, range: undefined });
  exposures.save({ cidr: parseCidr("10.32.0.1/16"), masquerade: true, range: undefined });
  expect(exposures.load()).toEqual([
    { ...exposure, masquerade: false, range: undefined },
    { cidr: parseCidr("10.32.0.1/16"), masquerade: true, range: undefined },
  ]);
  exposures.remove(parseCidr("10.32.0.1/12"));
  expect(exposures.load()).toHaveLength(1);
  const attachments = attachmentsStore(store, (what) => said.push(what));
  const kept = {
    addresses: [{ ...parseCidr("10.32.0.1/12"), asked: true }],
    names: Array.from({ length: 1_030 }, (_, i) => ({ hostname: `n${i}.`, address: i })),
    multicastRoute: true,
    socket: "/s",
  };
  attachments.save("c", kept);
  attachments.save("d", {
    ...kept,
    names: [],
    socket: undefined,
    addresses: Array(MAX_ADDRESSES).fill(kept.addresses[0]),
  });
  expect(attachments.load().get("c")).toEqual({ ...kept, names: kept.names.slice(0, 1_024) });
  expect(attachments.load().get("d")?.socket).toBeUndefined();
  expect(() =>
    attachments.save("e", { ...kept, addresses: Array(MAX_ADDRESSES + 1).fill(kept.addresses[0]) }),
  ).toThrow("not saved");
  attachments.remove("c");
  expect([...attachments.load().keys()]).toEqual(["d"]);
  expect([said, MAX_ATTACHMENTS]).toEqual([[], 4_096]);
  store.close();
});

test("an attachment claims and allocates for a container, and takes its own living names along", async () => {
  const store = open();
  const calls: unknown[] = [];
  const [own, other] = [nameFromNumber(1n), nameFromNumber(2n)];
  const entry = (containerId: string, origin: typeof own, tombstone: number, hostname: string) => ({
    containerId,
    origin,
    tombstone,
    hostname,
    address: 7,
  });
  const nameserver = {
    config: { ourName: own },
    entries: {
      all: () => [
        entry("c", own, 0, "a."),
        entry("c", own, 5, "dead."),
        entry("c", other, 0, "theirs."),
        entry("d", own, 0, "d."),
      ],
    },
    add: (...args: unknown[]) => calls.push(["name", ...args]),
  };
  const clock = new SimulatedClock();
  const attachments = openAttachments({
    ...{ store: attachmentsStore(store, () => {}), clock, log: silentLog, sockets: [] },
    allocator: {
      leases: () => [],
      claim: async (...args: unknown[]) => calls.push(["claim", ...args]),
    } as never,
    work: {
      inspect: async () => undefined,
      attach: async (what: unknown) => calls.push(["attach", what]),
    } as never,
    nameserver: nameserver as never,
  });
  attachments.note("c", [{ ...parseCidr("10.32.0.1/12"), asked: true }], false);
  attachments.died("c");
  expect(
    attachmentsStore(store, () => {})
      .load()
      .get("c")?.names,
  ).toEqual([{ hostname: "a.", address: 7 }]);
  attachments.stop();
  store.close();
});

describe("the steps of a reset", () => {
  test("forget the state, with its log and notes; a damaged file that was set aside is kept", () => {
    expect(stateSteps(false)).toEqual([]);
    const dir = process.env["WEAVE_STATE_DIR"] ?? "";
    open().close();
    mkdirSync(join(dir, "releases"));
    for (const name of ["weave.db-wal", "weave.db-shm", "weave.db.damaged-1", "other"])
      writeFileSync(join(dir, name), "");
    const running = stateSteps(true);
    expect(running.map(({ does }) => does)).toEqual([
      `forget name, addresses, exposures and peers of this host (${join(dir, "weave.db")})`,
      `keep ${join(dir, "weave.db.damaged-1")}, a damaged state file`,
    ]);
    const alone = stateSteps(false);
    expect(alone.map(({ does, run }) => [does.split(" ")[0], run !== undefined])).toEqual([
      ["leave", false],
      ["forget", true],
      ["keep", false],
    ]);
    for (const step of alone) void step.run?.();
    expect(readdirSync(dir).sort()).toEqual(["other", "weave.db.damaged-1"]);
    expect(stateSteps(false)).toEqual([]);
  });

  test("forget notes of releases alone, too", () => {
    const dir = process.env["WEAVE_STATE_DIR"] ?? "";
    mkdirSync(join(dir, "releases"), { recursive: true });
    for (const step of stateSteps(true)) void step.run?.();
    expect(readdirSync(dir)).toEqual([]);
  });
});
