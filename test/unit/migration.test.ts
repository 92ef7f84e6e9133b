// Migration from Weave Net 2.x: when the rest may be removed and when not, what its options become, and files that are no
// state.
import { describe, expect, test } from "bun:test";
import { type ApiClient, RouterDownError } from "../../lib/api/client.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import { boltBucket } from "../../lib/migration/bolt.ts";
import {
  completeMigration,
  describeMigration,
  isPending,
  type Original,
} from "../../lib/migration/migration.ts";
import { optionsOf } from "../../lib/migration/process.ts";

const NOTHING = { links: [], rules: [], sets: [] };
const ORIGINAL: Original = { kernel: NOTHING, file: "/f.db", state: undefined, error: undefined };

/** A migration on a clock that is the test; the router reports what `report` says, or nothing yet. */
function completing(expectNpc = false) {
  const clock = new SimulatedClock(9_000);
  const state = {
    connections: [] as string[],
    owners: null as { IsKnownPeer: boolean }[] | null,
    inForce: false,
    fails: undefined as string | undefined,
    isUp: true,
    hold: undefined as Promise<void> | undefined,
  };
  const lines: string[] = [];
  const finished: number[] = [];
  const asked: unknown[] = [];
  const api: ApiClient = async (method, path, options) => {
    asked.push([method, path, options?.accept]);
    if (!state.isUp) throw new RouterDownError("s");
    await state.hold;
    return JSON.stringify({
      Router: { Connections: state.connections.map((State) => ({ State })) },
      IPAM: { Entries: state.owners },
    });
  };
  const migration = completeMigration(
    ORIGINAL,
    api,
    expectNpc,
    logTo((level, text) => lines.push(`${level}: ${text}`)),
    {
      clock,
      policiesInForce: () => state.inForce,
      finish(original) {
        expect(original).toBe(ORIGINAL);
        if (state.fails !== undefined) throw new Error(state.fails);
        finished.push(clock.now() - 9_000);
      },
    },
  );
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 500) {
      clock.advance(500);
      for (let turn = 0; turn < 8; turn++) await Promise.resolve();
    }
  };
  return { state, lines, finished, asked, migration, pass };
}

describe("the original's rules go", () => {
  test("once a connection works, looked at each second, and once", async () => {
    const { state, finished, asked, pass, lines } = completing();
    state.connections = ["pending", "failed"];
    await pass(10_000);
    expect(finished).toEqual([]);
    expect(asked).toHaveLength(10);
    expect(asked[0]).toEqual(["GET", "/report", "application/json"]);
    state.connections = ["pending", "established"];
    await pass(1_000);
    expect(finished).toEqual([11_000]);
    await pass(300_000);
    expect([finished, asked.length, lines]).toEqual([[11_000], 11, []]);
  });

  test("at once where there is no other host: no target, and no other owner of addresses", async () => {
    for (const [owners, at] of [
      [null, 1_000],
      [[{ IsKnownPeer: true }], 1_000],
      [[{ IsKnownPeer: true }, { IsKnownPeer: false }], 120_000],
    ] as const) {
      const { state, finished, pass } = completing();
      state.owners = owners as typeof state.owners;
      await pass(119_500);
      expect(finished).toEqual(at === 1_000 ? [1_000] : []);
      await pass(500);
      expect(finished).toEqual([at]);
    }
  });

  test("after 2 min where nobody connects, also while the router does not answer", async () => {
    for (const isUp of [true, false]) {
      const { state, finished, pass } = completing();
      state.connections = ["retrying"];
      state.isUp = isUp;
      await pass(119_500);
      expect(finished).toEqual([]);
      await pass(500);
      expect(finished).toEqual([120_000]);
    }
  });

  test("not before policies are in force, where they are expected, however long that takes", async () => {
    const { state, finished, pass } = completing(true);
    state.connections = ["established"];
    await pass(300_000);
    expect(finished).toEqual([]);
    state.inForce = true;
    await pass(1_000);
    expect(finished).toEqual([301_000]);
  });

  test("again where a set is still in use, with a warning after ten attempts", async () => {
    const { state, finished, lines, pass } = completing();
    state.fails = "ipsets are still in use: weave-a";
    await pass(10_000);
    expect([finished, lines]).toEqual([[], []]);
    await pass(2_000);
    expect(lines).toEqual(
      Array(2).fill("warning: cannot complete the migration yet: ipsets are still in use: weave-a"),
    );
    state.fails = undefined;
    await pass(1_000);
    expect(finished).toEqual([13_000]);
  });

  test("once, also where the router answers late, and not at all where it has stopped meanwhile", async () => {
    for (const stops of [false, true]) {
      const { state, finished, asked, pass, migration } = completing();
      state.connections = ["established"];
      const gate = Promise.withResolvers<void>();
      state.hold = gate.promise;
      await pass(5_000);
      expect(asked).toHaveLength(1);
      if (stops) migration.stop();
      gate.resolve();
      await pass(5_000);
      expect(finished).toHaveLength(stops ? 0 : 1);
    }
  });
});

test("the plan names each step, and nothing where there is nothing", () => {
  expect(describeMigration({ kernel: NOTHING, file: undefined, state: undefined, error: undefined })).toEqual(
    [],
  );
  const cidr = (address: number) => ({ address, prefix: 12 });
  const state = {
    ...{ peer: "5e:3a:00:00:00:01", listed: false, targets: [] },
    ring: { entries: [1, 2, 3] },
    holders: new Map([
      ["a", { isContainer: true, cidrs: [cidr(1), cidr(2)] }],
      ["b", { isContainer: true, cidrs: [cidr(3)] }],
    ]),
  } as unknown as NonNullable<Original["state"]>;
  const kernel = {
    links: ["datapath", "vethwe-bridge"],
    rules: [
      { variant: "iptables-nft", chains: 3, rules: 5 },
      { variant: "iptables-legacy", chains: 1, rules: 2 },
    ],
    sets: ["weave-a", "weave-b"],
  } as const;
  expect(describeMigration({ kernel, file: "/w.db", state, error: undefined })).toEqual([
    "take over its state /w.db: peer 5e:3a:00:00:00:01, 3 ranges, 3 addresses in use",
    "remove its links datapath, vethwe-bridge, as our fast datapath needs their place",
    "once our router carries traffic, remove 5 rules and 3 chains from iptables-nft",
    "once our router carries traffic, remove 2 rules and 1 chains from iptables-legacy",
    "once our router carries traffic, remove 2 ipsets",
    "once our router carries traffic, rename /w.db to /w.db.migrated",
  ]);
  const bare = { ...state, peer: undefined, ring: undefined, holders: new Map() };
  expect(describeMigration({ kernel: NOTHING, file: "/w.db", state: bare, error: undefined })[0]).toBe(
    "take over its state /w.db: peer without a name, no ranges, 0 addresses in use",
  );
  const unreadable = { kernel: NOTHING, file: "/w.db", state: undefined, error: "not a bolt file" };
  expect(describeMigration(unreadable)).toEqual([
    "leave its state /w.db, which cannot be read (not a bolt file): addresses in use are found in the kernel",
  ]);
  expect([
    isPending(undefined),
    isPending(unreadable),
    isPending(ORIGINAL),
    isPending({ ...unreadable, kernel }),
  ]).toEqual([false, false, true, true]);
});

test.each<[string, string[], Record<string, unknown>, string[]]>([
  ["peers", ["h1", "h2"], {}, ["h1", "h2"]],
  [
    "values behind, or inline",
    ["--port", "7000", "-host=1.2.3.4", "--ipalloc-range=10.0.0.0/8"],
    { port: "7000", host: "1.2.3.4", "ipalloc-range": "10.0.0.0/8" },
    [],
  ],
  [
    "values that are dropped with their option",
    ["--iface", "eth0", "--token=x", "--db-prefix", "/d", "h1"],
    {},
    ["h1"],
  ],
  [
    "switches",
    ["--no-dns", "--no-fastdp=true", "--no-discovery", "--expect-npc", "--no-masq-local"],
    { dns: false, fastdp: false, discovery: false, "expect-npc": true, "masq-local": false },
    [],
  ],
  ["switches that are off", ["--no-dns=false", "--expect-npc=false"], {}, []],
  ["unknown ones, without a value", ["--unknown", "h1"], {}, ["h1"]],
  ["empty values", ["--status-addr=", "--metrics-addr", ""], {}, []],
  ["a password", ["--password", "secret"], { password: "secret" }, []],
  ["a value at the end that is missing", ["h1", "--port"], {}, ["h1"]],
])("arguments of the original: %s", (_what, args, options, peers) => {
  expect(optionsOf({ args, password: undefined })).toEqual({ options, peers });
  const { password = "other" } = options;
  expect(optionsOf({ args, password: "other" }).options["password"]).toBe(password);
});

/** The original's options with a value (weave 2.8: prog/weaver/main.go), and their names here; undefined for unused ones. */
const OPTIONS: Readonly<Record<string, string | undefined>> = {
  ...Object.fromEntries(
    [
      ...["port", "host", "nickname", "conn-limit", "min-protocol-version", "trusted-subnets", "mtu"],
      ...["ipalloc-range", "ipalloc-default-subnet", "metrics-addr", "status-addr", "log-level", "password"],
      ...["dns-domain", "dns-ttl", "dns-fallback-timeout"],
    ].map((name) => [name, name]),
  ),
  ...Object.fromEntries(
    [
      ...["name", "datapath", "ipalloc-init", "db-prefix", "host-root", "http-addr", "docker-api", "iface"],
      ...["resolv-conf", "dns-listen-address", "dns-effective-listen-address", "weave-bridge", "bufsz"],
      ...["docker-bridge", "token", "advertise-router"],
    ].map((name) => [name, undefined]),
  ),
};

test.each(Object.entries(OPTIONS))(
  "option %s of the original becomes %p, and its value is not a peer",
  (name, ours) => {
    const options = ours === undefined ? {} : { [ours]: "x" };
    for (const args of [
      [`--${name}`, "x", "h1"],
      [`-${name}=x`, "h1"],
    ])
      expect(optionsOf({ args, password: undefined })).toEqual({ options, peers: ["h1"] });
  },
);

describe("a bolt file", () => {
  const PAGE = 4_096;
  const fnv = (bytes: Uint8Array) => {
    let hash = 0xcbf29ce484222325n;
    for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
    return hash;
  };
  /** A file of pages; each is [kind, entries], entries are leaves [flags, key, value] or page numbers. */
  type Made =
    | readonly ["leaf", readonly (readonly [number, string, Uint8Array])[]]
    | readonly ["branch", readonly number[]];
  function page(made: Made, size = PAGE): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(size);
    const data = new DataView(bytes.buffer);
    data.setUint16(8, made[0] === "leaf" ? 2 : 1, true);
    data.setUint16(10, made[1].length, true);
    let free = 16 + 16 * made[1].length;
    for (const [i, each] of made[1].entries()) {
      const at = 16 + 16 * i;
      if (typeof each === "number") {
        data.setBigUint64(at + 8, BigInt(each), true);
        continue;
      }
      const [flags, key, value] = each;
      data.setUint32(at, flags, true);
      data.setUint32(at + 4, free - at, true);
      data.setUint32(at + 8, key.length, true);
      data.setUint32(at + 12, value.length, true);
      bytes.set(new TextEncoder().encode(key), free);
      bytes.set(value, free + key.length);
      free += key.length + value.length;
    }
    return bytes;
  }
  function meta(transaction: number, root: number): Uint8Array {
    const bytes = new Uint8Array(PAGE);
    const data = new DataView(bytes.buffer);
    data.setUint16(8, 4, true);
    data.setUint32(16, 0xed0cdaed, true);
    data.setUint32(20, 2, true);
    data.setUint32(24, PAGE, true);
    data.setBigUint64(32, BigInt(root), true);
    data.setBigUint64(64, BigInt(transaction), true);
    data.setBigUint64(72, fnv(bytes.subarray(16, 72)), true);
    return bytes;
  }
  const bucket = (root: number, inline = new Uint8Array()) => {
    const bytes = new Uint8Array(16 + inline.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(root), true);
    bytes.set(inline, 16);
    return bytes;
  };
  const text = (value: string) => new TextEncoder().encode(value);
  const file = (...pages: (Uint8Array | Made)[]) =>
    Buffer.concat(pages.map((each) => (each instanceof Uint8Array ? each : page(each as Made))));
  const read = (of: Uint8Array, name = "b") => {
    const found = boltBucket(of, name);
    return found && [...found].map(([key, value]) => `${key}=${new TextDecoder().decode(value)}`);
  };
  const leaf = (...entries: [string, string][]): Made => [
    "leaf",
    entries.map(([key, value]) => [0, key, text(value)] as const),
  ];

  test("is read by the newer of two metas that are whole, through branches, and from inline buckets", () => {
    const top = (root: number): Made => [
      "leaf",
      [
        [0, "b", text("no bucket")],
        [1, "a", bucket(4)],
        [1, "b", bucket(root)],
      ],
    ];
    const pages = [
      top(4),
      top(5),
      leaf(["x", "old"]),
      ["branch", [4, 6]] as Made,
      leaf(["y", "1"], ["z", "2"]),
    ];
    const of = (first: Uint8Array, second: Uint8Array) => read(file(first, second, ...pages));
    expect(of(meta(7, 2), meta(8, 3))).toEqual(["x=old", "y=1", "z=2"]);
    expect(of(meta(9, 2), meta(8, 3))).toEqual(["x=old"]);
    const broken = meta(9, 2);
    broken[40] = (broken[40] ?? 0) + 1;
    expect(of(broken, meta(8, 3))).toEqual(["x=old", "y=1", "z=2"]);
    const inline = page(leaf(["k", "v"]), 64);
    expect(read(file(meta(1, 2), meta(2, 2), ["leaf", [[1, "b", bucket(0, inline)]]]))).toEqual(["k=v"]);
    expect(read(file(meta(1, 2), meta(2, 2), top(3)), "none")).toBeUndefined();
  });

  test.each<[string, () => Uint8Array, string]>([
    ["empty", () => new Uint8Array(), "not a bolt file"],
    ["of another magic", () => file(new Uint8Array(PAGE), new Uint8Array(PAGE)), "not a bolt file"],
    ["a page that is missing", () => file(meta(1, 9), meta(2, 9)), "missing page 9"],
    ["a circle", () => file(meta(1, 2), meta(2, 2), ["branch", [2]]), "its pages form a loop"],
    ["a page of no data", () => file(meta(1, 2), meta(2, 2), new Uint8Array(PAGE)), "a page of kind 0"],
    [
      "a file that ends in the middle",
      () => file(meta(1, 2), meta(2, 2), page(leaf(["a", "b"])).subarray(0, 20)),
      "it ends in the middle of a page",
    ],
    [
      "a value that is too long",
      () => {
        const bad = page(leaf(["a", "b"]));
        new DataView(bad.buffer).setUint32(16 + 12, PAGE, true);
        return file(meta(1, 2), meta(2, 2), bad);
      },
      "a value that does not fit its page",
    ],
    [
      "a number beyond all bounds",
      () => {
        const bad = page(["branch", [3]]);
        new DataView(bad.buffer).setBigUint64(16 + 8, 2n ** 60n, true);
        return file(meta(1, 2), meta(2, 2), bad);
      },
      "an invalid number",
    ],
  ])("that is %s is refused", (_what, of, message) => expect(() => read(of())).toThrow(message));
});
