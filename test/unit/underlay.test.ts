// What of this host's network has changed, as far as a mesh is concerned.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { LocalConnection } from "../../lib/mesh/connection.ts";
import type { MeshRouter } from "../../lib/mesh/router.ts";
import { Underlay, type UnderlayView, underlayChange } from "../../lib/router/underlay.ts";
import { heard, type UnderlayKernel, type UnderlayListener } from "../../lib/router/underlaykernel.ts";

const view = (addresses: string[], paths: [string, string][] = []): UnderlayView => ({
  addresses: new Set(addresses),
  paths: new Map(paths),
});

test.each([
  ["nothing", view(["10.0.0.1"], [["10.0.0.1 10.0.0.2", "2 undefined"]]), view(["10.0.0.1"]), undefined],
  ["an address for another", view(["10.0.0.1"]), view(["10.0.0.9"]), "lost 10.0.0.1; got 10.0.0.9"],
  [
    "the link of a path",
    view([], [["10.0.0.1 10.0.0.2", "2 undefined"]]),
    view([], [["10.0.0.1 10.0.0.2", "3 undefined"]]),
    "paths to 1 peers changed",
  ],
  ["a path that is new", view([]), view([], [["10.0.0.1 10.0.0.2", "2 undefined"]]), undefined],
  [
    "a path that is gone",
    view([], [["10.0.0.2", "2 1"]]),
    view([], [["10.0.0.2", "none"]]),
    "paths to 1 peers changed",
  ],
])("%s", (_what, before, after, change) => {
  expect(underlayChange(before, after)).toBe(change);
});

/** An underlay with one connection over link 2 and one over link 3, and what it says of them when something changes. */
function simulated() {
  const clock = new SimulatedClock();
  const world = {
    addresses: ["10.0.0.1", "10.1.0.1"],
    links: new Map([
      ["10.0.0.2", 2],
      ["10.1.0.2", 3],
    ]),
    asleepMs: 0,
    busyMs: 0,
  };
  let listener: UnderlayListener | undefined;
  const kernel: UnderlayKernel = {
    addresses: () => world.addresses,
    path: (remote, local) => {
      lookedUp.push(remote);
      from.push(local);
      return { link: world.links.get(remote), gateway: undefined };
    },
    boottime: () => clock.now() + world.asleepMs,
    busy: () => world.busyMs,
    watch(heard) {
      listener = heard;
      return { stop: () => (listener = undefined) };
    },
  };
  const connections = world.addresses.map((localIp) => ({ localIp, remoteIp: localIp.replace(/1$/, "2") }));
  const [lookedUp, from]: [string[], (string | undefined)[]] = [[], []];
  const targets = new Map<string, { state: string }>();
  const told: (string | undefined)[][] = [];
  const mesh = {
    maker: { connections, targets },
    underlayChanged: (...reasons: ((connection: LocalConnection) => string | undefined)[]) =>
      told.push(
        connections.map((each) => reasons.map((why) => why(each as LocalConnection)).find((why) => why)),
      ),
  };
  const moved: number[] = [];
  const underlay = new Underlay(kernel, mesh as unknown as MeshRouter, clock, silentLog, () =>
    moved.push(clock.now()),
  );
  const hear = (act: (listener: UnderlayListener) => void) => {
    if (listener) act(listener);
    clock.advance(5_000);
    return told.splice(0);
  };
  return { world, underlay, hear, clock, moved, connections, lookedUp, from, targets };
}

const CHANGED = "the path to the peer has changed";

test("a link that loses its carrier, and gets it back, makes the connections over it doubtful, and no others", () => {
  const { hear } = simulated();
  expect(hear((kernel) => kernel.link(2, false))).toEqual([[CHANGED, undefined]]);
  expect(hear((kernel) => kernel.link(2, false))).toEqual([]);
  expect(hear((kernel) => kernel.link(4, false))).toEqual([]);
  expect(hear((kernel) => kernel.link(2, true))).toEqual([[CHANGED, undefined]]);
});

// linux/rtnetlink.h, linux/if.h
const [NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWRULE, DELRULE] = [
  16, 17, 20, 21, 24, 25, 32, 33,
];
const [UP, RUNNING] = [0x01, 0x40];

test.each<[string, number, number, string]>([
  ["a link with a carrier", NEWLINK, UP | RUNNING, "link 5 true"],
  ["a link without one", NEWLINK, UP, "link 5 false"],
  ["a link that is set down", NEWLINK, 0, "link 5 false"],
  ["a link that is down, with a carrier", NEWLINK, RUNNING, "link 5 false"],
  ["a link that is removed", DELLINK, 0, "link 5 true"],
  ["a link that is removed while it is up", DELLINK, UP, "link 5 true"],
  ["a link that is removed while it has a carrier", DELLINK, UP | RUNNING, "link 5 true"],
  ...[NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWRULE, DELRULE].map(
    (type) => [`a message ${type} on something else`, type, UP | RUNNING, "changed"] as const,
  ),
] as [string, number, number, string][])(
  "of %s (%d, flags %d) the kernel tells: %s",
  (_what, type, flags, told) => {
    const body = new Uint8Array(16);
    const view = new DataView(body.buffer);
    view.setInt32(4, 5, true);
    view.setUint32(8, flags, true);
    const said: string[] = [];
    heard(
      { type, flags: 0, sequence: 0, port: 0, body },
      {
        link: (index, running) => said.push(`link ${index} ${running}`),
        changed: () => said.push("changed"),
      },
    );
    expect(said).toEqual([told]);
  },
);

test("a link that is removed while it is dark is dark no more: its number may be another's", () => {
  const { hear } = simulated();
  const body = Uint8Array.of(0, 0, 0, 0, 2, 0, 0, 0, UP, 0, 0, 0, 0, 0, 0, 0);
  const message = (type: number) => ({ type, flags: 0, sequence: 0, port: 0, body });
  expect(hear((kernel) => heard(message(NEWLINK), kernel))).toEqual([[CHANGED, undefined]]);
  expect(hear((kernel) => heard(message(DELLINK), kernel))).toEqual([[CHANGED, undefined]]);
  expect(hear((kernel) => heard(message(NEWLINK), kernel))).toEqual([[CHANGED, undefined]]);
});

test("a route that moves makes its connections doubtful; an address that goes ends them", () => {
  const { world, hear, moved } = simulated();
  expect(hear((kernel) => kernel.changed())).toEqual([]);
  expect(moved).toEqual([]);
  world.links.set("10.1.0.2", 2);
  expect(hear((kernel) => kernel.changed())).toEqual([[undefined, CHANGED]]);
  expect(moved.length).toBe(1);
  world.addresses = ["10.0.0.1"];
  expect(hear((kernel) => kernel.changed())).toEqual([
    [undefined, "this host has no address 10.1.0.1 any more"],
  ]);
  expect(hear((kernel) => kernel.changed())).toEqual([]);
  expect(moved.length).toBe(2);
});

test("a new connection is checked only when its own path changes", () => {
  const { world, hear, connections, lookedUp } = simulated();
  hear(() => {});
  lookedUp.splice(0);
  hear(() => {});
  expect(lookedUp).toEqual([]);
  connections.push({ localIp: "10.0.0.1", remoteIp: "10.0.0.3" });
  world.links.set("10.0.0.3", 2);
  world.addresses = [...world.addresses, "10.32.0.1"];
  expect(hear((kernel) => kernel.changed())).toEqual([[undefined, undefined, undefined]]);
  connections.push({ localIp: "10.0.0.1", remoteIp: "10.0.0.4" });
  world.links.set("10.0.0.4", 2);
  lookedUp.splice(0);
  hear(() => {});
  expect(lookedUp).toEqual(["10.0.0.4"]);
  world.links.set("10.0.0.4", 3);
  expect(hear((kernel) => kernel.changed())).toEqual([[undefined, undefined, undefined, CHANGED]]);
  // The path of an ended connection is forgotten: a connection that returns by another path has not changed.
  const [back] = connections.splice(3);
  hear(() => {});
  world.links.set("10.0.0.4", 2);
  if (back) connections.push(back);
  expect(hear((kernel) => kernel.changed())).toEqual([]);
});

test("paths are looked up for IPv4 connections from local addresses, and for 64 unconnected targets", () => {
  const { world, hear, connections, lookedUp, from, targets, moved } = simulated();
  hear(() => {});
  connections.push(
    { localIp: "10.0.0.1", remoteIp: "fd00::2" },
    { localIp: "10.9.0.1", remoteIp: "10.9.0.2" },
  );
  targets.set("10.2.0.1:6783", { state: "connected" });
  targets.set("[fd00::3]:6783", { state: "waiting" });
  targets.set("10.2.0.2:6783", { state: "attempting" });
  for (let i = 0; i < 100; i++) targets.set(`10.3.0.${i}:7000`, { state: "waiting" });
  lookedUp.splice(0);
  from.splice(0);
  hear((kernel) => kernel.changed());
  expect(lookedUp).toEqual([
    ...["10.0.0.2", "10.1.0.2", "10.2.0.2"],
    ...Array.from({ length: 62 }, (_, i) => `10.3.0.${i}`),
  ]);
  expect(from).toEqual(["10.0.0.1", "10.1.0.1", ...Array(63).fill(undefined)]);
  expect(moved).toEqual([]);
  // Retry unreachable targets.
  world.links.set("10.2.0.2", 2);
  expect(hear((kernel) => kernel.changed())).toEqual([
    [undefined, undefined, undefined, "this host has no address 10.9.0.1 any more"],
  ]);
  expect(moved.length).toBe(1);
});

test("time that this router did not live through makes all connections doubtful, once", () => {
  const { world, hear, clock } = simulated();
  const nothing = () => {};
  expect(hear(nothing)).toEqual([]);
  world.asleepMs += 60_000;
  clock.wallOffset += 60_000;
  expect(hear(nothing)).toEqual([Array(2).fill("this router did not run for 60 s")]);
  clock.wallOffset -= 10_000;
  expect(hear(nothing)).toEqual([Array(2).fill("the clock of this host jumped by 10 s")]);
  clock.wallOffset += 1_000;
  expect(hear(nothing)).toEqual([]);
});

test("time for which this router worked, or waited for a processor, is no absence", () => {
  const { world, hear, clock } = simulated();
  world.asleepMs += 60_000;
  world.busyMs += 58_500;
  clock.wallOffset += 60_000;
  expect(hear(() => {})).toEqual([]);
  world.asleepMs += 60_000;
  world.busyMs += 50_000;
  clock.wallOffset += 60_000;
  expect(hear(() => {})).toEqual([Array(2).fill("this router did not run for 10 s")]);
});

test("nothing is looked at after the end", () => {
  const { world, underlay, hear } = simulated();
  const heard = hear((kernel) => {
    kernel.link(2, false);
    underlay.stop();
    world.asleepMs += 60_000;
  });
  expect(heard).toEqual([]);
});
