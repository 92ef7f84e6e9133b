// Names at their bounds: clocks, tombstones and room to the second and the entry; files, orders and reports; and a
// forwarder among servers that are silent, poor, or ask back.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import { Entries } from "../../lib/dns/entries.ts";
import {
  compareByName,
  compareEntries,
  type Entry,
  entryKey,
  MAX_VERSION,
  newer,
  nextVersion,
  tombstoned,
} from "../../lib/dns/entry.ts";
import { Forwarder, LoopError } from "../../lib/dns/forwarder.ts";
import { inTurn } from "../../lib/dns/inturn.ts";
import { RCODE, readQuery, writeReply } from "../../lib/dns/message.ts";
import { fullyQualified, isFullyQualified, isInDomain } from "../../lib/dns/name.ts";
import { GONE_MS, Nameserver } from "../../lib/dns/nameserver.ts";
import { type DnsSources, dnsReport, nameJson } from "../../lib/dns/report.ts";
import { ResolvConf } from "../../lib/dns/resolvconf.ts";
import { resolve } from "../../lib/dns/resolve.ts";
import { namesStore } from "../../lib/dns/saved.ts";
import { decodeNames, encodeNames } from "../../lib/dns/wire.ts";
import { logTo } from "../../lib/log/log.ts";
import type { GossipData } from "../../lib/mesh/gossip.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { Store } from "../../lib/store/store.ts";
import { freePort } from "../support/freeport.ts";
import { eventually } from "../support/hosts.ts";

const peer = (i: number) => nameFromNumber(BigInt(i));
const [US, TWO, THREE] = [peer(1), peer(2), peer(3)];
const entry = (more: Partial<Entry> = {}): Entry => ({
  ...{ hostname: "a.weave.local.", origin: TWO, containerId: "c", address: 7, version: 3, tombstone: 0 },
  ...more,
});

test("the newer of two states: by version, then by tombstone; else ours", () => {
  const ours = entry();
  expect(newer(ours, entry({ version: 4 })).version).toBe(4);
  expect(newer(ours, entry({ version: 2, tombstone: 9 }))).toBe(ours);
  expect(newer(ours, entry({ tombstone: 1 })).tombstone).toBe(1);
  expect(newer(entry({ tombstone: 5 }), entry({ tombstone: 4 })).tombstone).toBe(5);
  expect(newer(ours, entry())).toBe(ours);
  expect([nextVersion(3), nextVersion(MAX_VERSION)]).toEqual([4, MAX_VERSION]);
  expect(tombstoned(ours, 99)).toEqual(entry({ version: 4, tombstone: 99 }));
  const keys = [
    entry(),
    entry({ hostname: "b.weave.local." }),
    entry({ origin: THREE }),
    entry({ containerId: "d" }),
    entry({ address: 8 }),
  ];
  expect(new Set(keys.map(entryKey)).size).toBe(5);
  expect(entryKey(entry({ version: 9, tombstone: 9 }))).toBe(entryKey(entry()));
});

test("entries are ordered by name, origin, container and address; to be shown without regard to case", () => {
  const sorted = [
    entry({ hostname: "B.x." }),
    entry({ hostname: "a.x.", origin: THREE, containerId: "a", address: 1 }),
    entry({ hostname: "a.x.", origin: TWO, containerId: "c", address: 2 }),
    entry({ hostname: "a.x.", origin: TWO, containerId: "b", address: 30 }),
    entry({ hostname: "a.x.", origin: TWO, containerId: "b", address: 4 }),
  ];
  const show = (list: Entry[]) =>
    list.map(
      ({ hostname, origin, containerId, address }) =>
        `${hostname[0]}${origin.slice(-1)}${containerId}${address}`,
    );
  expect(show([...sorted].sort(compareEntries))).toEqual(["B2c7", "a2b4", "a2b30", "a2c2", "a3a1"]);
  expect(show([...sorted].sort(compareByName))).toEqual(["a2b4", "a2b30", "a2c2", "a3a1", "B2c7"]);
});

test("names have labels of 63 and 253 characters in all", () => {
  const label = (length: number) => "x".repeat(length);
  const full = [63, 63, 63, 61].map(label).join(".");
  expect([full.length, isFullyQualified(`${full}.`), isFullyQualified(`${full}x.`)]).toEqual([
    253,
    true,
    false,
  ]);
  for (const [name, is] of [
    [`${label(63)}.`, true],
    [`${label(64)}.`, false],
    ["a", false],
    [".", false],
    ["a..b.", false],
    ["a b.", false],
    ["é.", false],
    ["!~.", true],
  ] as const)
    expect([name, isFullyQualified(name)]).toEqual([name, is]);
  expect(() => fullyQualified("a..b")).toThrow('"a..b" is not a domain name');
  expect([
    isInDomain("X.Weave.Local.", "weave.local."),
    isInDomain("WEAVE.local.", "weave.local."),
    isInDomain("xweave.local.", "weave.local."),
  ]).toEqual([true, true, false]);
});

describe("questions", () => {
  const names = {
    version: 0,
    lookup: (name: string) => (name === "w.weave.local." ? [1, 2, 3] : []),
    reverse: (address: number) => (address === 0x0a000001 ? "w.weave.local." : undefined),
    isParent: () => false,
  };
  const ask = (name: string, more: object = {}, random = () => 0) =>
    resolve({ name, type: "A", ...more } as never, names, { domain: "weave.local.", ttl: 5 }, random);
  const SOA = {
    ...{ type: "SOA", name: "weave.local", ttl: 5 },
    data: {
      mname: "weave.local",
      rname: "hostmaster.weave.local",
      serial: 1,
      refresh: 3600,
      retry: 600,
      expire: 86_400,
      minimum: 5,
    },
  };

  test("are answered with our TTL, under the name that was asked, in random order", () => {
    const answers = (random: () => number, name = "w") => {
      const reply = ask(name, {}, random);
      return reply === "forward"
        ? []
        : reply.answers.map((each) => ("ttl" in each ? `${each.name} ${each.ttl} ${each.data}` : ""));
    };
    expect(answers(() => 0.999)).toEqual(["w 5 0.0.0.1", "w 5 0.0.0.2", "w 5 0.0.0.3"]);
    expect(answers(() => 0)).toEqual(["w 5 0.0.0.2", "w 5 0.0.0.3", "w 5 0.0.0.1"]);
    expect(answers(() => 0.999, "W.weave.local".replace("W", "w"))[0]).toBe("w.weave.local 5 0.0.0.1");
    expect(ask("none.weave.local")).toEqual({
      rcode: 3,
      authoritative: true,
      answers: [],
      authorities: [SOA],
    } as never);
    expect(ask("weave.local", { type: "SOA" })).toEqual({
      rcode: 0,
      authoritative: true,
      answers: [SOA],
    } as never);
    expect(ask("WEAVE.local", { type: "TXT" })).toEqual({
      rcode: 0,
      authoritative: true,
      answers: [],
      authorities: [SOA],
    } as never);
  });

  test("of other classes, and zone transfers, get a non-authoritative REFUSED for any name", () => {
    const refused = { rcode: 5, authoritative: false, answers: [] };
    for (const name of ["w.weave.local", "w", "version.bind", "1.0.0.10.in-addr.arpa", "."])
      for (const other of ["CH", "HS", "ANY", "UNKNOWN_254"])
        expect(ask(name, { type: "TXT", class: other as never })).toEqual(refused as never);
    expect(ask("w.weave.local", { type: "AXFR" })).toEqual(refused as never);
    expect(ask("w.weave.local", { class: "IN" })).not.toEqual(refused as never);
    expect(ask("version.bind", { class: "IN" })).toBe("forward");
  });

  test("by address are answered with the name, without its last dot", () => {
    const PTR = {
      rcode: 0,
      authoritative: true,
      answers: [{ type: "PTR", name: "1.0.0.10.in-addr.arpa", ttl: 5, data: "w.weave.local" }],
    };
    expect(ask("1.0.0.10.in-addr.arpa", { type: "PTR" })).toEqual(PTR as never);
    for (const [name, type] of [
      ["2.0.0.10.in-addr.arpa", "PTR"],
      ["1.0.0.10.in-addr.arpa", "A"],
      ["0.0.10.in-addr.arpa", "PTR"],
      ["in-addr.arpa", "PTR"],
    ] as const)
      expect(ask(name, { type })).toBe("forward");
  });
});

describe("a nameserver", () => {
  const MINUTE = 60_000;
  function start(known = (_: string) => true) {
    const clock = new SimulatedClock(1_000_000);
    const said: Uint8Array[] = [];
    const lines: string[] = [];
    const rows = new Map<
      string,
      { hostname: string; containerId: string; address: number; version: number }
    >();
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    const server = new Nameserver(
      { ourName: US, domain: "weave.local.", isKnownPeer: known },
      {
        ...{ clock, log },
        store: {
          load: () => [...rows.values()],
          save: (id, version) => void rows.set(entryKey(id), { ...id, version }),
          remove: (id) => void rows.delete(entryKey(id)),
        },
      },
    );
    const say = (data: GossipData) => void said.push(...data.encode());
    server.start(() => ({ unicast: () => true, broadcast: say, neighbours: say }));
    const now = () => Math.floor(clock.wall() / 1000);
    const hear = (entries: Entry[], timestamp = now(), from = TWO) =>
      atOnce(server.onGossip(encodeNames({ timestamp, entries }), from));
    const told = () => said.splice(0).flatMap((message) => decodeNames(message).entries);
    return { clock, server, hear, told, lines, now, rows };
  }

  test("hears peers whose clock differs by 15 min, and no more; says so for 5 min", () => {
    for (const [skew, taken] of [
      [900, true],
      [-900, true],
      [901, false],
      [-901, false],
    ] as const) {
      const { server, hear, now, clock, lines } = start();
      hear([entry()], now() + skew);
      expect([skew, server.lookup("a.weave.local.").length === 1]).toEqual([skew, taken]);
      if (taken) continue;
      const text = `ignoring names of peer ${TWO}: the clocks of ${TWO} and this host differ by 901 s, more than 900 s; set the clocks of both hosts`;
      expect([server.notes(), lines]).toEqual([[`DNS: ${text}`], [`warning: ${text}`]]);
      clock.advance(5 * MINUTE - 1);
      expect(server.notes()).toHaveLength(1);
      clock.advance(1);
      expect(server.notes()).toEqual([]);
    }
  });

  test("takes no tombstones of the future, no versions out of bounds and no long ids", () => {
    const { server, hear, now, lines } = start();
    const taken = (more: Partial<Entry>) => {
      const before = server.entries.size;
      hear([entry({ hostname: `x${before}.weave.local.`, ...more })]);
      return server.entries.size > before;
    };
    expect([taken({ tombstone: now() + 900 }), taken({ tombstone: now() + 901 })]).toEqual([true, false]);
    expect([taken({ containerId: "c".repeat(1_024) }), taken({ containerId: "c".repeat(1_025) })]).toEqual([
      true,
      false,
    ]);
    expect([taken({ version: MAX_VERSION }), taken({ hostname: "no dot" })]).toEqual([true, false]);
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([
      "warning: ignoring names with versions or times out of range",
    ]);
  });

  test("forgets tombstones of more than half an hour, every half hour, and nothing that lives", () => {
    const { server, hear, now, clock } = start();
    hear([
      entry({ hostname: "old.weave.local.", tombstone: now() - 1 }),
      entry({ hostname: "new.weave.local.", tombstone: now() }),
      entry(),
    ]);
    const names = () => [...server.entries.all()].map(({ hostname }) => hostname.split(".")[0]).sort();
    clock.advance(30 * MINUTE - 1);
    expect(names()).toEqual(["a", "new", "old"]);
    clock.advance(1);
    expect(names()).toEqual(["a", "new"]);
    clock.advance(30 * MINUTE);
    expect(names()).toEqual(["a"]);
    server.stop();
    hear([entry({ hostname: "gone.weave.local.", tombstone: now() - 800 })]);
    clock.advance(120 * MINUTE);
    expect(names()).toEqual(["a", "gone"]);
  });

  test("forgets the names of all peers that go at once, and nobody else's", () => {
    const unknown = new Set<string>();
    const { server, hear, clock } = start((name) => !unknown.has(name));
    const gone = (name: PeerName) => {
      unknown.add(name);
      server.peersGone([{ name }]);
    };
    hear([entry(), entry({ origin: THREE }), entry({ origin: peer(4) })]);
    server.add("own.weave.local", "c1", 9);
    gone(TWO);
    gone(THREE);
    gone(peer(77));
    expect(server.entries.size).toBe(4);
    clock.advance(GONE_MS);
    expect(server.entries.origins().sort()).toEqual([US, peer(4)]);
    // A second time.
    gone(peer(4));
    clock.advance(GONE_MS);
    expect(server.entries.origins()).toEqual([US]);
  });

  test("names twice what it named, without telling it again; and anew, after its end, with a greater version", () => {
    const { server, told, rows } = start();
    expect([server.add("a.weave.local", "c", 7), server.add("a.weave.local.", "c", 7)]).toEqual([true, true]);
    expect(told().map(({ version, tombstone }) => [version, tombstone])).toEqual([[0, 0]]);
    server.add("b.weave.local", "c", 8);
    server.add("a.weave.local", "d", 7);
    told();
    expect(server.delete({ hostname: "A.Weave.Local.", containerId: "c" })).toBe(1);
    expect(told().map(({ version, tombstone }) => [version, tombstone > 0])).toEqual([[1, true]]);
    expect(server.delete({ address: 9 })).toBe(0);
    expect(told()).toEqual([]);
    server.add("a.weave.local", "c", 7);
    expect(told().map(({ version, tombstone }) => [version, tombstone])).toEqual([[2, 0]]);
    expect(
      [...rows.values()]
        .map(({ hostname, containerId, version }) => `${hostname} ${containerId} ${version}`)
        .sort(),
    ).toEqual(["a.weave.local. c 2", "a.weave.local. d 0", "b.weave.local. c 0"]);
    expect(server.delete({})).toBe(3);
    expect(rows.size).toBe(0);
  });

  test("passes on by gossip what was new alone, and broadcasts as they came", () => {
    const { hear, server, now } = start();
    const kept = [entry({ hostname: "k.weave.local." }), entry()];
    hear(kept.slice(0, 1));
    const decoded = (data: GossipData | undefined) =>
      data &&
      [...data.encode()].flatMap((message) => decodeNames(message).entries.map(({ hostname }) => hostname));
    expect(decoded(hear(kept))).toEqual(["a.weave.local."]);
    expect(hear(kept)).toBeUndefined();
    expect(
      decoded(atOnce(server.onBroadcast(TWO, encodeNames({ timestamp: now(), entries: kept }))))?.sort(),
    ).toEqual(["a.weave.local.", "k.weave.local."]);
  });
});

test("the report lists names in order, with the original's fields; nothing is null", () => {
  const names = [entry({ hostname: "B." }), entry({ hostname: "a.", tombstone: 4, address: 0x0a000001 })];
  const sources = (list: Entry[], upstream: string[], ourName = US) => {
    const entries = new Entries();
    for (const each of list) entries.set(each);
    return {
      nameserver: { entries, config: { ourName } },
      server: { config: { domain: "weave.local.", ttl: 30 }, addresses: ["10.0.0.1:53", "10.0.0.2:53"] },
      upstream: () => upstream,
      address: () => undefined,
    } as unknown as DnsSources;
  };
  expect(dnsReport(sources(names, ["8.8.8.8"]))).toEqual({
    ...{ Domain: "weave.local.", Upstream: ["8.8.8.8"], Address: "10.0.0.1:53, 10.0.0.2:53", TTL: 30 },
    ...{ Names: 1, OwnNames: 0 },
    Entries: [
      { Hostname: "a.", Origin: TWO, ContainerID: "c", Address: "10.0.0.1", Version: 3, Tombstone: 4 },
      { Hostname: "B.", Origin: TWO, ContainerID: "c", Address: "0.0.0.7", Version: 3, Tombstone: 0 },
    ],
  });
  // A name that is buried, or made anew, counts once.
  const again = [...names, entry({ hostname: "a.", address: 0x0a000001, version: 5 }), ...names];
  expect(dnsReport(sources(again, [], TWO))).toMatchObject({ Names: 1, OwnNames: 1 });
  expect(dnsReport(sources(again.slice(0, -1), [], TWO))).toMatchObject({ Names: 2, OwnNames: 2 });
  expect(dnsReport(sources([], []))).toMatchObject({ Upstream: null, Entries: null });
  expect(nameJson(entry())).toEqual({
    ContainerID: "c",
    Origin: 2n,
    Addr: "0.0.0.7",
    Hostname: "a.weave.local.",
    Version: 3,
    Tombstone: 0,
  });
});

describe("on disk", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-dnsbounds-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("names are kept: those of hosts through a power cut, and none that is out of bounds", () => {
    const store = Store.open(":memory:");
    const damaged: string[] = [];
    const names = namesStore(store, (what) => damaged.push(what));
    const id = (containerId: string, address = 7) => ({
      hostname: "a.weave.local.",
      origin: US,
      containerId,
      address,
    });
    const spy = spyOn(store, "durably");
    names.save(id("c1", 0), 0);
    names.remove(id("gone"));
    names.save(id("c2weave:"), 0);
    expect(spy).toHaveBeenCalledTimes(0);
    names.save(id("weave:extern", 2 ** 32 - 1), 5);
    names.remove(id("weave:gone"));
    expect(spy).toHaveBeenCalledTimes(2);
    const saved = () =>
      names
        .load()
        .map(({ containerId, address, version }) => `${containerId} ${address} ${version}`)
        .sort();
    expect(saved()).toEqual(["c1 0 0", "c2weave: 7 0", `weave:extern ${2 ** 32 - 1} 5`]);
    names.remove(id("weave:extern", 2 ** 32 - 1));
    expect(saved()).toEqual(["c1 0 0", "c2weave: 7 0"]);
    for (const bad of [id("c", 2 ** 32), id("c", -1), { ...id("c"), hostname: "a" }, id("c".repeat(1_025))]) {
      try {
        names.save(bad, 0);
      } catch {}
    }
    expect(saved()).toEqual(["c1 0 0", "c2weave: 7 0"]);
    store.close();
  });

  test("resolv.conf is read again when it has changed, a second after the last look; what cannot be read leaves it", () => {
    const path = join(folder, "resolv.conf");
    const warnings: string[] = [];
    let now = 1_000;
    const clock = spyOn(performance, "now").mockImplementation(() => now);
    try {
      const conf = new ResolvConf(path, (text) => warnings.push(text));
      expect([conf.servers, warnings]).toEqual([[], []]);
      writeFileSync(path, "nameserver 10.0.0.1\n");
      now += 999;
      expect(conf.servers).toEqual([]);
      now += 1;
      expect(conf.servers).toEqual(["10.0.0.1"]);
      writeFileSync(
        path,
        "nameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver fe80::1%eth0\nnameserver 10.0.0.4\n#nameserver 10.0.0.5",
      );
      now += 1_000;
      expect(conf.servers).toEqual(["10.0.0.2", "10.0.0.3", "fe80::1%eth0"]);
      // The same length, another time.
      writeFileSync(
        path,
        "nameserver 10.0.0.6\nnameserver 10.0.0.3\nnameserver fe80::1%eth0\nnameserver 10.0.0.4\n#nameserver 10.0.0.5",
      );
      utimesSync(path, 5, 5);
      now += 1_000;
      expect(conf.servers[0]).toBe("10.0.0.6");
      writeFileSync(path, `nameserver 10.0.0.7\n${"#".repeat(64 * 1024)}`);
      now += 1_000;
      expect(conf.servers[0]).toBe("10.0.0.6");
      expect(warnings).toEqual([`cannot read ${path}: not a regular file of at most 65536 bytes`]);
      now += 1_000;
      expect([conf.servers[0], warnings.length]).toEqual(["10.0.0.6", 1]);
      rmSync(path);
      now += 1_000;
      expect(conf.servers[0]).toBe("10.0.0.6");
      const line = "nameserver 10.0.0.8\n";
      writeFileSync(path, `${line}${"#".repeat(64 * 1024 - line.length)}`);
      now += 1_000;
      expect(conf.servers).toEqual(["10.0.0.8"]);
      const directory = new ResolvConf(folder, (text) => warnings.push(text));
      expect([directory.servers, warnings.length]).toEqual([[], 1]);
    } finally {
      clock.mockRestore();
    }
  });
});

describe("in turn", () => {
  test("the next begins when one fails or is slow, none when one is good; the last poor result is not preferred", async () => {
    const begun: number[] = [];
    const at = (i: number, result: object | undefined | "reject") => async () => {
      begun.push(i);
      if (result === "reject") throw new Error("must not");
      return result as never;
    };
    expect(
      await inTurn([at(1, undefined), at(2, { poor: 2 }), at(3, { poor: 3 }), at(4, "reject")], 10_000),
    ).toBe(2 as never);
    expect(begun.splice(0)).toEqual([1, 2, 3, 4]);
    expect(await inTurn([at(1, { good: 1 }), at(2, { good: 2 })], 10_000)).toBe(1 as never);
    await Bun.sleep(5);
    expect(begun.splice(0)).toEqual([1]);
    expect(await inTurn([], 1)).toBeUndefined();
    // A slow one is joined, and its late poor result waited for.
    const slow = async (cancel: AbortSignal) => {
      await Bun.sleep(20);
      expect(cancel.aborted).toBe(false);
      return { poor: 9 };
    };
    expect(await inTurn([slow, at(2, undefined)], 1)).toBe(9);
  });
});

describe("a forwarder", () => {
  const stops: (() => void)[] = [];
  /** Questions that nobody answers, which wait until they time out while others are tested. */
  const unanswered: Promise<unknown>[] = [];
  afterAll(async () => {
    await Promise.all(unanswered);
    for (const stop of stops.splice(0)) stop();
  });
  const PORT = freePort();
  const QUERY = Uint8Array.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]);
  const other = (i: number) => {
    const bytes = QUERY.slice();
    bytes[13] = 97 + (i % 26);
    bytes[16] = 1 + Math.floor(i / 26);
    return bytes;
  };

  /** Server 127.0.0.<i>: answers with this code; undefined for silence. */
  async function upstream(i: number, rcode: number | undefined) {
    const state = { asked: 0, ids: new Set<number>(), rcode };
    const socket = await Bun.udpSocket({
      ...{ hostname: `127.0.0.${i}`, port: PORT },
      socket: {
        data(own, bytes, port, from) {
          state.asked++;
          state.ids.add(new DataView(bytes.buffer, bytes.byteOffset).getUint16(0));
          const read = readQuery(new Uint8Array(bytes));
          if (state.rcode === undefined || !read || "unreadable" in read) return;
          own.send(
            writeReply(read.query, { rcode: state.rcode as 0, authoritative: false, answers: [] }, true),
            port,
            from,
          );
        },
      },
    });
    stops.push(() => socket.close());
    return state;
  }
  const codeOf = (reply: Uint8Array | undefined) =>
    reply && [(reply[0] ?? 0) * 256 + (reply[1] ?? 0), (reply[3] ?? 0) & 15];

  test("asks servers in order, each with an id of its own; a poor answer is taken where nobody has better", async () => {
    const [a, b] = [await upstream(21, RCODE.ok), await upstream(22, RCODE.ok)];
    let servers = ["127.0.0.21", "127.0.0.22"];
    const forwarder = new Forwarder(() => servers, 5_000, PORT);
    for (let i = 0; i < 3; i++)
      expect(codeOf(await forwarder.ask(QUERY, "udp", "c"))).toEqual([0x1234, RCODE.ok]);
    expect([a.asked, b.asked, a.ids.size > 1]).toEqual([3, 0, true]);
    for (const poor of [RCODE.serverFailure, RCODE.notImplemented, RCODE.refused]) {
      a.rcode = poor;
      expect(codeOf(await forwarder.ask(QUERY, "udp", "c"))).toEqual([0x1234, RCODE.ok]);
      b.rcode = poor;
      expect(codeOf(await forwarder.ask(QUERY, "udp", "c"))).toEqual([0x1234, poor]);
      b.rcode = RCODE.ok;
    }
    a.rcode = RCODE.nameError;
    expect(codeOf(await forwarder.ask(QUERY, "udp", "c"))).toEqual([0x1234, RCODE.nameError]);
    expect(forwarder.notes()).toEqual([]);
    servers = [];
    expect([forwarder.hasServers, await forwarder.ask(QUERY, "udp", "c")]).toEqual([false, undefined]);
  });

  test.concurrent("asks the same question once at a time, gives each its own id, and knows one that comes back", async () => {
    const state = await upstream(23, undefined);
    const forwarder = new Forwarder(() => ["127.0.0.23"], 1_000, PORT);
    const second = QUERY.slice();
    second[0] = 0x99;
    const asked = [forwarder.ask(QUERY, "udp", "c"), forwarder.ask(second, "udp", "d")];
    await expect(forwarder.ask(QUERY, "udp", "127.0.0.23")).rejects.toBeInstanceOf(LoopError);
    expect(await Promise.all(asked)).toEqual([undefined, undefined]);
    expect(state.asked).toBe(1);
    state.rcode = RCODE.ok;
    const answered = await Promise.all([forwarder.ask(QUERY, "udp", "c"), forwarder.ask(second, "udp", "d")]);
    expect(answered.map((reply) => codeOf(reply)?.[0])).toEqual([0x1234, 0x9934]);
    expect(state.asked).toBe(2);
    // Another question of that server is none that comes back.
    expect(codeOf(await forwarder.ask(other(3), "udp", "127.0.0.23"))).toEqual([0x1234, 0]);
  });

  test.concurrent("asks a server first again as soon as it has answered, though it kept it waiting", async () => {
    const [a, b] = [await upstream(27, undefined), await upstream(28, RCODE.ok)];
    const forwarder = new Forwarder(() => ["127.0.0.27", "127.0.0.28"], 900, PORT);
    await forwarder.ask(QUERY, "udp", "c");
    a.rcode = RCODE.ok;
    // The other one is poor this time, so the silent one is asked after all.
    b.rcode = RCODE.serverFailure;
    expect(codeOf(await forwarder.ask(QUERY, "udp", "c"))).toEqual([0x1234, RCODE.ok]);
    expect([a.asked, b.asked]).toEqual([2, 2]);
    b.rcode = RCODE.ok;
    await forwarder.ask(QUERY, "udp", "c");
    expect([a.asked, b.asked]).toEqual([3, 2]);
  });

  test("has 200 questions of one client open, and 1,000 of all; then none is asked", async () => {
    await upstream(24, undefined);
    const forwarder = new Forwarder(() => ["127.0.0.24"], 2_000, PORT);
    const refused = async (i: number, from: string) => {
      const asked = forwarder.ask(other(i), "udp", from);
      unanswered.push(asked);
      return Promise.race([
        asked.then(() => "refused"),
        new Promise((done) => setImmediate(() => done("open"))),
      ]);
    };
    for (let i = 0; i < 200; i++) void unanswered.push(forwarder.ask(other(i), "udp", "c0"));
    expect(await refused(200, "c0")).toBe("refused");
    expect(await refused(200, "c1")).toBe("open");
    // One that is asked already takes no place of all.
    expect(await refused(5, "c1")).toBe("open");
    for (let i = 201; i < 1_000; i++) void unanswered.push(forwarder.ask(other(i), "udp", `c${1 + (i % 7)}`));
    expect(await refused(1_000, "c9")).toBe("refused");
  });

  test("asks a server last that kept it waiting, for 30 s, and says of it why, until it answers", async () => {
    const [a, b] = [await upstream(25, undefined), await upstream(26, RCODE.ok)];
    let servers = ["127.0.0.25", "127.0.0.26"];
    const failures: string[] = [];
    const forwarder = new Forwarder(
      () => servers,
      900,
      PORT,
      (text) => failures.push(text),
    );
    const clock = spyOn(performance, "now");
    expect(codeOf(await forwarder.ask(QUERY, "udp", "c"))).toEqual([0x1234, 0]);
    expect([a.asked, b.asked]).toEqual([1, 1]);
    await eventually("it is told of", () => forwarder.notes().length, Boolean);
    expect(forwarder.notes()).toEqual(["nameserver 127.0.0.25 does not answer: no answer within 0.9 s"]);
    expect(new Set(failures)).toEqual(new Set(forwarder.notes()));
    a.rcode = RCODE.ok;
    await forwarder.ask(QUERY, "udp", "c");
    expect([a.asked, b.asked]).toEqual([1, 2]);
    const now = performance.now();
    clock.mockImplementation(() => now + 29_000);
    await forwarder.ask(QUERY, "udp", "c");
    expect([a.asked, b.asked]).toEqual([1, 3]);
    clock.mockImplementation(() => now + 31_000);
    await forwarder.ask(QUERY, "udp", "c");
    expect([a.asked, b.asked, forwarder.notes()]).toEqual([2, 3, []]);
    clock.mockRestore();
    a.rcode = undefined;
    await forwarder.ask(QUERY, "udp", "c");
    await eventually("it is told of", () => forwarder.notes().length, Boolean);
    expect(forwarder.notes()).toHaveLength(1);
    servers = ["127.0.0.26"];
    expect(forwarder.notes()).toEqual([]);
  });
});
