// Containers that are restarted get back what they had, or as good; nobody loses an address to them.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Cidr,
  formatCidr,
  formatIPv4,
  type IPv4,
  parseCidr,
  parseIPv4,
} from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Attachment } from "../../lib/host/attach.ts";
import { CancelledError, IpamError } from "../../lib/ipam/errors.ts";
import { silentLog } from "../../lib/log/log.ts";
import { Attachments } from "../../lib/router/attachments.ts";
import { attachmentsStore, MAX_ATTACHMENTS } from "../../lib/router/savedattachments.ts";
import { Store } from "../../lib/store/store.ts";
import { NetnsError } from "../../lib/sys/netns.ts";

const ID = "a".repeat(64);
const OWN = { ...parseCidr("192.168.5.7/24"), asked: true };
const FREE = { ...parseCidr("10.32.0.1/12"), asked: false };

let folder: string;
let store: Store;
let clock: SimulatedClock;
let world: ReturnType<typeof makeWorld>;
let attachments: Attachments;

/** Runtime, kernel and books of a host, as they are seen from here. */
function makeWorld() {
  return {
    /** Of the container; 0: it does not run; undefined: it is removed. */
    pid: 1 as number | undefined,
    linked: true,
    isRuntimeThere: true,
    held: [OWN, FREE] as Cidr[],
    takenByOthers: new Set<IPv4>(),
    names: new Map<string, IPv4>(),
    attached: [] as Attachment[],
    /** Called in the middle of attaching, of claiming, and of asking the runtime. */
    meanwhile: (): void => {},
    whileClaiming: (): void => {},
    whileAsking: (): void => {},
  };
}

const open = () =>
  new Attachments({
    store: attachmentsStore(store, (what) => {
      throw new Error(what);
    }),
    clock,
    log: silentLog,
    isThere: () => world.isRuntimeThere,
    async find() {
      world.whileAsking();
      const { pid } = world;
      if (pid === undefined) return undefined;
      return { id: ID, pid, fqdn: undefined, hostname: "", hostsPath: undefined, socket: "/run/docker.sock" };
    },
    isAttached: async () => world.linked,
    async attach(attachment) {
      world.attached.push(attachment);
      world.meanwhile();
      world.linked = true;
    },
    held: () => world.held,
    async claim(_id, cidr) {
      if (world.takenByOthers.has(cidr.address))
        throw new IpamError(`${formatIPv4(cidr.address)} is already owned by b`);
      world.whileClaiming();
      world.held.push(cidr);
    },
    async allocate(_id, subnet) {
      expect(formatCidr(subnet)).toBe("10.32.0.0/12");
      return parseIPv4("10.32.0.99");
    },
    names: {
      of: () => Array.from(world.names, ([hostname, address]) => ({ hostname, address })),
      add: (hostname, _id, address) => world.names.set(hostname, address),
    },
  });

/** Lets what was begun come to its end. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

async function restarted(): Promise<void> {
  attachments.died(ID);
  world.names.clear();
  world.linked = false;
  attachments.started(ID);
  await settled();
}

const given = () => world.attached.map(({ addresses }) => addresses.map(formatCidr).join(" "));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-attachments-"));
  store = Store.open(join(folder, "weave.db"));
  clock = new SimulatedClock();
  world = makeWorld();
  attachments = open();
  attachments.note(ID, [OWN, FREE], false);
  world.names.set("web.weave.local.", FREE.address);
});

afterEach(() => {
  attachments.stop();
  store.close();
  rmSync(folder, { recursive: true });
});

test("what it had is given back, names too, again and again, and after a restart of the router", async () => {
  for (let i = 1; i <= 3; i++) {
    await restarted();
    expect(given()).toEqual(Array(i).fill("192.168.5.7/24 10.32.0.1/12"));
    expect(world.attached.at(-1)).toMatchObject({ netns: 1, ifName: "ethwe", multicastRoute: false });
    expect([...world.names]).toEqual([["web.weave.local.", FREE.address]]);
    if (i === 2) attachments = open();
  }
  expect(attachments.problems()).toEqual([]);
});

test("an address that was given away is replaced, and its names follow; one that somebody chose is waited for", async () => {
  attachments.died(ID);
  world.names.clear();
  world.linked = false;
  world.held = [];
  world.takenByOthers.add(FREE.address);
  attachments.started(ID);
  await settled();
  expect(given()).toEqual(["192.168.5.7/24 10.32.0.99/12"]);
  expect(world.names.get("web.weave.local.")).toBe(parseIPv4("10.32.0.99"));

  world.held = [];
  world.takenByOthers = new Set([OWN.address]);
  await restarted();
  expect(given().length).toBe(1);
  expect(attachments.problems()).toEqual([
    {
      Check: "attach",
      Found:
        "container aaaaaaaaaaaa was started again and is not attached: 192.168.5.7 is already owned by b",
      Advice: "retried every 5 s; 'weave detach aaaaaaaaaaaa' gives up",
    },
  ]);
  world.takenByOthers.clear();
  clock.advance(5_000);
  await settled();
  expect(given().at(-1)).toBe("192.168.5.7/24 10.32.0.99/12");
  expect(attachments.problems()).toEqual([]);
});

test("one that was removed, while we listened or not, is forgotten; one that is stopped is not", async () => {
  world.pid = 0;
  await restarted();
  expect(given()).toEqual([]);
  world.pid = undefined;
  attachments.look();
  await settled();
  world.pid = 2;
  world.linked = false;
  attachments.started(ID);
  await settled();
  expect(given()).toEqual([]);
});

test("one whose runtime is not there yet, at boot, is not forgotten", async () => {
  await settled();
  attachments = open();
  Object.assign(world, { pid: undefined, isRuntimeThere: false, linked: false });
  attachments.look();
  await settled();
  Object.assign(world, { pid: 7, isRuntimeThere: true });
  attachments.look();
  await settled();
  expect(given()).toEqual(["192.168.5.7/24 10.32.0.1/12"]);
});

test("what was detached is not given back", async () => {
  attachments.forget(ID, [OWN.address]);
  await restarted();
  expect(given()).toEqual(["10.32.0.1/12"]);
  attachments.forget(ID);
  await restarted();
  expect(given().length).toBe(1);
});

test("a start during the work for an earlier one is not missed", async () => {
  world.meanwhile = () => {
    world.meanwhile = () => {};
    world.pid = 2;
    attachments.started(ID);
    throw new NetnsError("/proc/1/ns/net", "no such network namespace", "missing");
  };
  await restarted();
  await settled();
  expect(world.attached.map(({ netns }) => netns)).toEqual([1, 2]);
  expect(attachments.problems()).toEqual([]);
});

test.each(["whileAsking", "whileClaiming"] as const)("what is detached %s is not attached", async (when) => {
  for (const detach of [() => attachments.forget(ID), () => attachments.stop()]) {
    attachments = open();
    attachments.note(ID, [OWN, FREE], false);
    await settled();
    world.held = [];
    world.attached.length = 0;
    world[when] = detach;
    await restarted();
    await settled();
    expect(given()).toEqual([]);
    expect(attachments.problems()).toEqual([]);
    world[when] = () => {};
  }
});

test("what is detached while it is attached stays detached, and what is attached anew meanwhile stays so", async () => {
  for (const again of [[], [OWN]]) {
    world.meanwhile = () => {
      world.meanwhile = () => {};
      attachments.forget(ID);
      if (again.length > 0) attachments.note(ID, again, true);
    };
    await restarted();
    await settled();
    const saved = attachmentsStore(store, () => {})
      .load()
      .get(ID);
    expect(saved?.addresses.map(formatCidr) ?? []).toEqual(again.map(formatCidr));
    expect(attachments.knows(ID)).toBe(again.length > 0);
    attachments.note(ID, [OWN, FREE], false);
    await settled();
  }
});

test("an end during the work is no problem", async () => {
  for (const error of [new NetnsError("/proc/1/ns/net", "no such", "missing"), new CancelledError("gone")]) {
    world.meanwhile = () => {
      throw error;
    };
    await restarted();
    expect(attachments.problems()).toEqual([]);
  }
});

test("there is a bound on them", () => {
  for (let i = 1; i < MAX_ATTACHMENTS; i++) attachments.note(String(i), [OWN], true);
  attachments.note("more", [OWN], true);
  const kept = attachmentsStore(store, () => {}).load();
  expect([kept.size, kept.has(ID), kept.has("1"), kept.has("more")]).toEqual([
    MAX_ATTACHMENTS,
    false,
    true,
    true,
  ]);
});
