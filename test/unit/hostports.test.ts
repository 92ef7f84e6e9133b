// Host ports of containers: who has one, what a kernel that refuses leaves behind, and when they end by themselves.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ipv4Octets, parseIPv4 } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError, RouterDownError } from "../../lib/api/client.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { checkPorts, forwardPorts } from "../../lib/cni/hostports.ts";
import { type HostPort, hostPortText } from "../../lib/host/hostports/mapping.ts";
import * as conntrack from "../../lib/netlink/conntrack.ts";
import type { NetlinkSocket } from "../../lib/netlink/socket.ts";
import { HostPortBook, HostPortTakenError } from "../../lib/router/hostports.ts";
import { hostPortStore, MAX_OWNERS } from "../../lib/router/savedhostports.ts";
import { StoreError } from "../../lib/store/error.ts";
import { Store } from "../../lib/store/store.ts";
import { NftKernel } from "../support/nftkernel.ts";

let folder: string;
let store: Store;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-hostports-"));
  store = Store.open(join(folder, "weave.db"));
});
afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true });
});

const port = (hostPort: number, change: Partial<HostPort> = {}): HostPort => ({
  ...{ protocol: "tcp", hostPort, address: parseIPv4("10.32.0.5"), port: 80 },
  ...change,
});
const [ONE, TWO] = ["net/c1/eth0", "net/c2/eth0"];

/** A router on a host with links of these aliases. */
function host(...aliases: string[]) {
  const disk = { full: false };
  const kernel = new NftKernel();
  const clock = new SimulatedClock();
  const links = new Set(aliases);
  const warned: string[] = [];
  const saved = () => hostPortStore(store, (what) => expect.unreachable(what));
  const socket: NetlinkSocket = kernel.socket();
  const rows = saved();
  const removing = {
    remove(owner: string) {
      if (disk.full) throw new StoreError("disk", "the disk is full");
      rows.remove(owner);
    },
  };
  const open = () =>
    new HostPortBook({
      ...{
        store: { ...rows, ...removing },
        filter: socket,
        clock,
        warn: (_kind, text) => void warned.push(text),
      },
      reconciler: { keepTrying: (keeper) => void keeper.reconcile(() => true) },
      aliases: () => links,
    });
  const kept = () =>
    Object.fromEntries(
      saved()
        .load()
        .map(({ owner, ports }) => [owner, ports.map(hostPortText)]),
    );
  const inKernel = () =>
    [...kernel.tables.values()]
      .flatMap(({ sets }) => [...sets.values()].map(({ elements }) => elements.size))
      .reduce((a, b) => a + b, 0);
  return { disk, kernel, clock, links, book: open(), open, kept, inKernel, warned };
}

describe("a host port", () => {
  test("is saved and in force, in place of those before, until its attachment ends", () => {
    const { book, kept, inKernel, kernel } = host(ONE);
    expect(kernel.tables.size).toBe(0);
    book.set(ONE, [port(80), port(53, { protocol: "udp" })]);
    expect([kept(), inKernel(), book.inForce(ONE).length]).toEqual([{ [ONE]: ["80/tcp", "53/udp"] }, 2, 2]);
    book.set(ONE, [port(81)]);
    expect([kept(), inKernel()]).toEqual([{ [ONE]: ["81/tcp"] }, 1]);
    book.set(ONE, []);
    expect([kept(), kernel.tables.size, book.inForce(ONE)]).toEqual([{}, 0, []]);
    expect(() => book.remove(ONE)).not.toThrow();
  });

  test("belongs to one attachment at a time, by protocol and address", () => {
    const { book, kept } = host(ONE, TWO);
    book.set(ONE, [port(80), port(90, { hostIp: parseIPv4("192.0.2.1") })]);
    expect(() => book.set(TWO, [port(70), port(80, { port: 8080 })])).toThrow(
      "host port 80/tcp belongs to container c1 (10.32.0.5:80)",
    );
    expect(() => book.set(TWO, [port(90, { hostIp: parseIPv4("192.0.2.1") })])).toThrow(HostPortTakenError);
    expect(kept()).toEqual({ [ONE]: ["80/tcp", "192.0.2.1:90/tcp"] });
    const others = [port(80, { protocol: "udp" }), port(90), port(90, { hostIp: parseIPv4("192.0.2.2") })];
    book.set(TWO, others);
    expect(kept()[TWO]).toEqual(["80/udp", "90/tcp", "192.0.2.2:90/tcp"]);
    // Its own it may name again.
    expect(() => book.set(TWO, others)).not.toThrow();
  });

  test("is forwarded to the first network of a container that names it for several, then to the next", () => {
    const second = "other/c1/eth1";
    const { book, kernel, kept, links } = host(ONE, second, "other/c10/eth1");
    const there = { address: parseIPv4("10.40.0.5") };
    const targets = () =>
      [...kernel.tables.values()].flatMap(({ sets }) =>
        [...sets.values()].flatMap(({ elements }) => [...elements.values()].map(String)),
      );
    book.set(ONE, [port(80)]);
    const [first = ""] = targets();
    book.set(second, [port(80, there)]);
    expect([targets(), book.inForce(second).length]).toEqual([[first], 1]);
    expect(kept()).toEqual({ [ONE]: ["80/tcp"], [second]: ["80/tcp"] });
    book.remove(ONE);
    const moved = targets();
    expect([moved.length, moved[0] === first]).toEqual([1, false]);
    book.set(ONE, [port(80)]);
    expect(targets()).toEqual(moved);
    links.delete(second);
    book.set(ONE, [port(80)]);
    expect([targets(), kept()]).toEqual([[first], { [ONE]: ["80/tcp"] }]);
    expect(() => book.set("other/c10/eth1", [port(80)])).toThrow(HostPortTakenError);
  });

  test("is taken over from an attachment whose link is gone", () => {
    const { book, kept, links } = host(ONE, TWO);
    book.set(ONE, [port(80), port(81)]);
    links.delete(ONE);
    book.set(TWO, [port(80)]);
    expect(kept()).toEqual({ [TWO]: ["80/tcp"] });
  });

  test("is named once", () => {
    const { book, kept } = host(ONE);
    expect(() => book.set(ONE, [port(80), port(80, { port: 81 })])).toThrow("a host port is named twice");
    expect(kept()).toEqual({});
  });

  test("of UDP forgets connections: all when it begins, those to the container when it ends", () => {
    const asked: string[] = [];
    const spy = spyOn(conntrack, "forgetUdpConnections").mockImplementation((_nl, hostPort, isMeant) => {
      const meant = ["10.32.0.5", "192.0.2.1"].filter((target) => isMeant(ipv4Octets(parseIPv4(target))));
      asked.push(`${hostPort} ${meant}`);
    });
    try {
      const { book, links } = host(ONE, TWO);
      book.set(ONE, [port(53, { protocol: "udp" }), port(80), port(54, { protocol: "udp" })]);
      expect(asked.splice(0)).toEqual(["53 10.32.0.5,192.0.2.1", "54 10.32.0.5,192.0.2.1"]);
      book.remove(ONE);
      expect(asked.splice(0)).toEqual(["53 10.32.0.5", "54 10.32.0.5"]);
      book.remove(ONE);
      expect(asked).toEqual([]);
      book.set(TWO, [port(53, { protocol: "udp" })]);
      links.delete(TWO);
      book.look();
      expect(asked.splice(0)).toEqual(["53 10.32.0.5,192.0.2.1"]);
      book.look();
      expect(asked).toEqual(["53 10.32.0.5"]);
    } finally {
      spy.mockRestore();
    }
  });

  test("whose connections cannot be forgotten is in force nevertheless, with a warning", () => {
    const spy = spyOn(conntrack, "forgetUdpConnections").mockImplementation(() => {
      throw new Error("no");
    });
    try {
      const { book, kept, warned } = host(ONE);
      book.set(ONE, [port(53, { protocol: "udp" })]);
      expect([kept(), warned]).toEqual([
        { [ONE]: ["53/udp"] },
        ["cannot forget connections to host port 53/udp: no"],
      ]);
    } finally {
      spy.mockRestore();
    }
  });

  test("that the kernel refuses changes nothing", () => {
    const { book, kept, kernel, inKernel } = host(ONE, TWO);
    book.set(ONE, [port(80)]);
    const before = kernel.dump();
    const refuse = () => {
      kernel.refuse = { transaction: kernel.transactions + 1, message: 1, errno: 1 };
    };
    refuse();
    expect(() => book.set(TWO, [port(81)])).toThrow();
    expect([kept(), kernel.dump()]).toEqual([{ [ONE]: ["80/tcp"] }, before]);
    refuse();
    expect(() => book.set(ONE, [port(82)])).toThrow();
    expect([kept(), kernel.dump()]).toEqual([{ [ONE]: ["80/tcp"] }, before]);
    book.set(ONE, [port(82)]);
    expect([kept(), inKernel()]).toEqual([{ [ONE]: ["82/tcp"] }, 1]);
  });

  test("is put in force again at a start, but not of attachments that are gone", () => {
    const first = host(ONE, TWO);
    first.book.set(ONE, [port(80)]);
    first.book.set(TWO, [port(81)]);
    first.book.stop();
    const second = host(TWO);
    expect([second.kept(), second.inKernel(), second.book.inForce(ONE)]).toEqual([
      { [TWO]: ["81/tcp"] },
      1,
      [],
    ]);
  });

  test("in force is what the kernel has", () => {
    const { book, kernel } = host(ONE);
    book.set(ONE, [port(80), port(81)]);
    for (const { sets } of kernel.tables.values()) {
      const [first] = sets.get("any")?.elements.keys() ?? [];
      if (first !== undefined) sets.get("any")?.elements.delete(first);
    }
    expect(book.inForce(ONE).map(hostPortText)).toEqual(["81/tcp"]);
  });
});

describe("on a full disk", () => {
  test("host ports end nevertheless, and are forgotten once there is room", () => {
    const { book, disk, clock, kept, inKernel, warned } = host(ONE, TWO);
    book.set(ONE, [port(80)]);
    book.set(TWO, [port(81)]);
    disk.full = true;
    book.remove(ONE);
    expect([inKernel(), book.inForce(ONE), Object.keys(kept())]).toEqual([1, [], [ONE, TWO]]);
    expect(warned).toEqual(["cannot save that host ports have ended: the disk is full; trying again"]);
    disk.full = false;
    clock.advance(10_000);
    expect(kept()).toEqual({ [TWO]: ["81/tcp"] });
  });

  test("ports that the attachment got again meanwhile stay", () => {
    const { book, disk, clock, kept } = host(ONE);
    book.set(ONE, [port(80)]);
    disk.full = true;
    book.remove(ONE);
    book.set(ONE, [port(82)]);
    disk.full = false;
    clock.advance(10_000);
    expect(kept()).toEqual({ [ONE]: ["82/tcp"] });
  });

  test("a router starts where attachments have gone", () => {
    const { book, disk, open, links, kept, inKernel } = host(ONE, TWO);
    book.set(ONE, [port(80)]);
    book.set(TWO, [port(81)]);
    book.stop();
    links.delete(ONE);
    disk.full = true;
    const next = open();
    expect([inKernel(), Object.keys(kept())]).toEqual([1, [ONE, TWO]]);
    disk.full = false;
    next.look();
    expect(Object.keys(kept())).toEqual([TWO]);
  });
});

describe("attachments that end without a DEL", () => {
  test("lose their host ports once two looks, 10 s apart, have found no link", () => {
    const { book, clock, links, kept } = host(ONE, TWO);
    book.set(ONE, [port(80)]);
    book.set(TWO, [port(81)]);
    links.delete(ONE);
    clock.advance(10_000);
    expect(Object.keys(kept())).toEqual([ONE, TWO]);
    links.add(ONE);
    clock.advance(10_000);
    links.delete(ONE);
    clock.advance(19_999);
    expect(Object.keys(kept())).toEqual([ONE, TWO]);
    clock.advance(1);
    expect(kept()).toEqual({ [TWO]: ["81/tcp"] });
    book.stop();
    links.clear();
    clock.advance(60_000);
    expect(Object.keys(kept())).toEqual([TWO]);
  });

  test("lose them by GC where their network does not list them", () => {
    const { book, kept, kernel } = host();
    for (const [i, owner] of [ONE, TWO, "other/c3/eth0", "/c4/eth0", "x"].entries())
      book.set(owner, [port(80 + i)]);
    book.collect("net", new Set(["c2/eth0"]));
    expect(Object.keys(kept())).toEqual(
      [TWO, "other/c3/eth0", "/c4/eth0", "x"].sort((a, b) => (a < b ? -1 : 1)),
    );
    book.collect("", new Set());
    expect(Object.keys(kept())).not.toContain("/c4/eth0");
    book.set(ONE, [port(80)]);
    const before = kernel.transactions;
    book.collect("net", new Set());
    // All of them together.
    expect(kernel.transactions - before).toBe(1);
    expect(Object.keys(kept())).toEqual(["other/c3/eth0", "x"]);
  });
});

test("4,096 attachments have host ports, and one more is refused", () => {
  const saved = hostPortStore(store, () => expect.unreachable());
  const owners = Array.from({ length: MAX_OWNERS }, (_, i) => `net/c${i}/eth0`);
  const links = new Set([...owners, "net/late/eth0"]);
  const book = new HostPortBook({
    ...{ store: { ...saved, load: () => owners.map((owner, i) => ({ owner, ports: [port(1 + i)] })) } },
    ...{ filter: new NftKernel().socket(), clock: new SimulatedClock(), warn: () => {} },
    reconciler: { keepTrying: () => {} },
    aliases: () => links,
  });
  expect(() => book.set("net/late/eth0", [port(60_000)])).toThrow(
    "4096 containers of this host have host ports already",
  );
});

describe("the CNI plugin", () => {
  const call = (api: ApiClient) =>
    ({ config: { name: "net" }, environment: { containerId: "a/b", ifName: "eth0" }, api }) as never;

  test("asks the router for nothing where there are none", async () => {
    const api = () => expect.unreachable();
    await forwardPorts(call(api), []);
    await checkPorts(call(api), []);
  });

  test("names the attachment, and why ports are not forwarded; an absent router stays that", async () => {
    const asked: unknown[] = [];
    await forwardPorts(
      call(async (method, path, options) => {
        asked.push([method, path, options]);
        return "";
      }),
      [port(80)],
    );
    const body = JSON.stringify([port(80)]);
    expect(asked).toEqual([["PUT", "/hostports/a%2Fb?attachment=net%2Feth0", { body, timeoutMs: 5_000 }]]);
    const failing = (error: Error) =>
      forwardPorts(
        call(() => Promise.reject(error)),
        [port(80)],
      );
    await expect(failing(new ApiError(409, "taken"))).rejects.toThrow("cannot forward host ports: taken");
    await expect(failing(new ApiError(504, "late"))).rejects.toThrow(/^late$/);
    await expect(failing(new RouterDownError("x"))).rejects.toBeInstanceOf(RouterDownError);
  });

  test.each<[string, HostPort[], boolean]>([
    ["all are as they were asked for", [port(81), port(80)], true],
    ["one is missing", [port(80)], false],
    ["one goes to another port", [port(80), port(81, { port: 8080 })], false],
    ["one goes to another address", [port(80), port(81, { address: 1 })], false],
    ["one is of another protocol", [port(80), port(81, { protocol: "udp" })], false],
  ])("finds in a CHECK whether %s", async (_what, found, good) => {
    const check = checkPorts(
      call(async () => JSON.stringify(found)),
      [port(80), port(81)],
    );
    if (good) await check;
    else await expect(check).rejects.toThrow("host port 81/tcp is not forwarded to 10.32.0.5:80");
  });
});
