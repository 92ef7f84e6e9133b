// Containers that ask for addresses of their own accord: attached once, tried again, and left alone when that was wished.
import { beforeEach, expect, test } from "bun:test";
import { formatCidr, type IPv4, parseCidr } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Container } from "../../lib/container/runtime.ts";
import type { Attachment } from "../../lib/host/attach.ts";
import { IpamError } from "../../lib/ipam/errors.ts";
import { silentLog } from "../../lib/log/log.ts";
import { DeclaredContainers } from "../../lib/router/declared.ts";

const ID = "a".repeat(64);
const container = (declared: string | undefined, pid = 7): Container => ({
  ...{ id: ID, pid, socket: "/run/docker.sock", hostname: "web", hostsPath: undefined },
  ...{ fqdn: "web.weave.local", declared },
});

let clock: SimulatedClock;
let found: Container | undefined;
let taken: Set<IPv4>;
let known: boolean;
let held: string[];
/** What the allocator says that it has before an attempt. */
let before: string[];
let refused: boolean;
let attached: Attachment[];
let names: string[];
let left: Set<string>;
let noted: string[];
let asked: number;
let declared: DeclaredContainers;

beforeEach(() => {
  clock = new SimulatedClock();
  [found, taken, known, held, attached, names] = [undefined, new Set(), false, [], [], []];
  left = new Set();
  [before, refused] = [[], false];
  [noted, asked] = [[], 0];
  let next = parseCidr("10.32.0.1/12").address;
  declared = new DeclaredContainers({
    clock,
    log: silentLog,
    left,
    defaultSubnet: parseCidr("10.32.0.0/12"),
    attachments: {
      knows: () => known,
      async attachAt(_, pid) {
        held.push(`again at ${pid}`);
        return [];
      },
      note(_, addresses) {
        known = true;
        noted.push(...addresses.map((each) => `${formatCidr(each)} ${each.asked ? "asked" : "any"}`));
      },
    },
    find: async () => {
      asked++;
      return found;
    },
    running: async () => (found ? [ID] : []),
    async attach(attachment) {
      if (refused) throw new Error("busy");
      attached.push(attachment);
    },
    held: () => before.map(parseCidr),
    async claim(_, cidr) {
      if (taken.has(cidr.address)) throw new IpamError(`address ${formatCidr(cidr)} is already owned`);
      held.push(formatCidr(cidr));
    },
    async allocate(_, { prefix }) {
      held.push(`free /${prefix}`);
      return next++;
    },
    async release() {
      held.pop();
    },
    name: (hostname) => names.push(hostname),
  });
});

/** Lets what is under way come to its end. */
const settle = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

test("a container gets what it asks for, once", async () => {
  found = container("net:default 10.33.0.5/16 10.32.0.9");
  declared.started(ID);
  declared.look();
  await settle();
  expect(held).toEqual(["free /12", "10.33.0.5/16", "10.32.0.9/12"]);
  expect(attached.length).toBe(1);
  expect(attached[0]).toMatchObject({ netns: 7, ifName: "ethwe", multicastRoute: true });
  expect(names.length).toBe(3);
  declared.look();
  await settle();
  expect(attached.length).toBe(1);
});

test.each([
  ["asks for nothing", container(undefined)],
  ["does not run", container("", 0)],
  ["is not known", undefined],
])("one that %s is left alone", async (_, it) => {
  found = it;
  declared.started(ID);
  await settle();
  expect([attached, declared.problems()]).toEqual([[], []]);
});

test("an address that is taken is tried again, and its place in the list costs no other", async () => {
  found = container("net:default 10.33.0.5/16");
  taken.add(parseCidr("10.33.0.5/16").address);
  declared.started(ID);
  await settle();
  expect([attached.length, held]).toEqual([0, []]);
  expect(declared.problems()[0]?.Found).toContain("address 10.33.0.5/16 is already owned");
  taken.clear();
  clock.advance(5_000);
  await settle();
  expect([attached.length, declared.problems()]).toEqual([1, []]);
});

test("wrong text is told, and ends with the container", async () => {
  found = container("net:everything");
  declared.started(ID);
  await settle();
  expect(declared.problems()[0]?.Found).toContain('"everything" is not an IPv4 address');
  found = container("10.99.0.1");
  declared.started(ID);
  await settle();
  expect(declared.problems()[0]?.Found).toContain("10.99.0.1 is not in the default subnet 10.32.0.0/12");
  declared.ended(ID);
  expect(declared.problems()).toEqual([]);
});

test("one that was detached by hand stays off until it is started again", async () => {
  found = container("");
  declared.detached(ID);
  declared.look();
  await settle();
  expect(attached).toEqual([]);
  declared.started(ID);
  await settle();
  expect(attached.length).toBe(1);
});

test("one that is detached by hand while the runtime is asked is not attached", async () => {
  found = container("net:default");
  declared.started(ID);
  declared.detached(ID);
  await settle();
  expect([attached, held, declared.problems()]).toEqual([[], [], []]);
});

test("a hook attaches a container that is known with what it had", async () => {
  known = true;
  await declared.attach({ id: ID, pid: 9, addresses: "", fqdn: undefined });
  expect([held, attached]).toEqual([["again at 9"], []]);
});

test("a container that cannot be attached gives all its addresses back, and is tried again every 5 s until it ends", async () => {
  found = container("10.32.0.5/12 net:default 10.32.0.6/12");
  taken.add(parseCidr("10.32.0.6/12").address);
  declared.started(ID);
  await settle();
  expect([held, attached, declared.problems().length]).toEqual([[], [], 1]);
  expect(declared.problems()[0]?.Found).toBe(
    `container ${"a".repeat(12)} asks for the network and is not attached: address 10.32.0.6/12 is already owned`,
  );
  clock.advance(4_999);
  taken.clear();
  await settle();
  expect(attached).toEqual([]);
  clock.advance(1);
  await settle();
  expect([held.length, attached.length, declared.problems()]).toEqual([3, 1, []]);
  clock.advance(60_000);
  await settle();
  expect(attached.length).toBe(1);
});

test("one that has ended, or was detached by hand, is not tried again", async () => {
  for (const end of ["ended", "detached"] as const) {
    found = container("10.32.0.6/12");
    taken.add(parseCidr("10.32.0.6/12").address);
    declared.started(ID);
    await settle();
    expect(declared.problems().length).toBe(1);
    declared[end](ID);
    taken.clear();
    clock.advance(60_000);
    await settle();
    expect([declared.problems(), attached]).toEqual([[], []]);
  }
  declared.look();
  await settle();
  expect(attached).toEqual([]);
  declared.stop();
});

test("what was asked for is kept as that, and what was free may be replaced", async () => {
  found = container("10.32.0.5/12 10.32.0.6 net:10.32.0.0/24 net:default");
  declared.started(ID);
  await settle();
  expect(noted).toEqual(["10.32.0.5/12 asked", "10.32.0.6/12 asked", "10.32.0.1/24 any", "10.32.0.2/12 any"]);
});

test("a look asks for no container that is known, or that was detached by hand", async () => {
  found = container("");
  left.add(ID);
  declared.look();
  await settle();
  left.clear();
  known = true;
  declared.look();
  await settle();
  expect(asked).toBe(0);
  known = false;
  declared.look();
  await settle();
  expect([asked, attached.length]).toEqual([1, 1]);
});

test("a failed attempt releases no address that an earlier one attached the container with", async () => {
  found = container("10.32.0.5/12 10.32.0.6/12");
  before = ["10.32.0.5/12"];
  refused = true;
  declared.started(ID);
  await settle();
  expect(declared.problems().length).toBe(1);
  expect(held).toEqual(["10.32.0.5/12"]);
});
