// The overlay of a router: what it says of its connections, and what follows from their beginnings and ends.
import { describe, expect, test } from "bun:test";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import { CONTROL } from "../../lib/overlay/sleeve/format.ts";
import { overlayTrouble } from "../../lib/overlay/trouble.ts";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { overlayNetwork, THERE } from "../support/overlaynetwork.ts";

const MINUTE = 60_000;

describe("a path that only sleeve carries", () => {
  const SESSION = new Uint8Array(32).fill(5);

  test.each([
    ["plain", undefined, 1_438],
    ["encrypted", SESSION, 1_414],
  ])("limits the network to what it carries, %s, also where that was more before", (_, sessionKey, mtu) => {
    const changes: number[] = [];
    const params = { fixed: undefined, agreed: 1_450, accept: async () => {} };
    const { connect, clock, engines, overlay, other } = overlayNetwork(
      overlayTrouble("no VXLAN", "no VXLAN", 6_784),
      { mtu: { ...params, changed: (bytes) => changes.push(bytes) } },
    );
    const connection = connect({ sessionKey });
    const say = (tag: number, ...bytes: number[]) =>
      connection.control(TAG.overlayControl, Uint8Array.of(0, tag, ...bytes));
    say(CONTROL.established);
    clock.advance(300);
    engines[0]?.say({ type: "tooBig", index: 0, mtu: 1_500 });
    expect(changes).toEqual([]);
    say(CONTROL.mtuVerified, mtu >> 8, mtu & 0xff);
    expect(changes).toEqual([mtu]);
    expect(overlay.mtu.limit).toEqual({ peer: nameFromNumber(1n), to: other.name, why: "path", mtu });
    connection.stop();
  });
});

describe("connections to one peer", () => {
  test("the end of one before leaves the one after it in use", () => {
    const { connect, changed, routes, overlay, other } = overlayNetwork();
    const before = connect();
    const after = connect();
    before.stop();
    changed();
    expect(overlay.pathTo(other)?.overlay).toBe("fastdp");
    expect(routes()).toEqual([[2, THERE]]);
    after.stop();
    expect(overlay.pathTo(other)).toBeUndefined();
  });

  test("heartbeats are polled for as often, however often the peer's address has changed", () => {
    const pollsAfter = (moves: number) => {
      const { connect, kernel, datapath, clock } = overlayNetwork();
      let polls = 0;
      const { heartbeat } = datapath;
      const counted = (uid: bigint) => {
        polls++;
        return heartbeat.call(datapath, uid);
      };
      Object.assign(datapath, { heartbeat: counted });
      connect();
      for (let i = 1; i <= 10; i++) {
        const at = BigInt(clock.now()) * 1_000_000n;
        kernel.heartbeat = { size: 1_390, length: 1_390, sender: THERE + Math.min(i, moves), at };
        clock.advance(5_000);
      }
      polls = 0;
      clock.advance(MINUTE);
      return polls;
    };
    expect(pollsAfter(10)).toBe(pollsAfter(0));
  });

  test("a path is by the next hop's overlay, with what stands by, to neighbours only", () => {
    const { connect, overlay, other, peer, peers, unicast, ourself, changed } = overlayNetwork();
    expect(overlay.pathTo(other)).toBeUndefined();
    unicast.set(other.name, other.name);
    expect(overlay.pathTo(other)).toBeUndefined();
    connect();
    expect(overlay.pathTo(other)).toEqual({
      overlay: "fastdp",
      via: undefined,
      standby: ["sleeve"],
      reason: undefined,
      inForce: true,
    });
    const far = peer(3);
    expect(overlay.pathTo(far)).toBeUndefined();
    peers.set(far.name, far);
    unicast.set(far.name, other.name);
    expect(overlay.pathTo(far)?.inForce).toBe(false);
    changed();
    expect(overlay.pathTo(far)).toEqual({
      overlay: "fastdp",
      via: other,
      standby: [],
      reason: undefined,
      inForce: true,
    });
    unicast.set(far.name, far.name);
    expect(overlay.pathTo(far)).toBeUndefined();
    expect(unicast.get(ourself.name)).toBe(UNKNOWN_PEER);
    expect(overlay.pathTo(ourself)).toBeUndefined();
  });

  test("a frame goes by the overlay that is asked for, and nowhere without one", () => {
    const { connect, overlay, other, peer } = overlayNetwork();
    const EHOSTUNREACH = 113;
    const frame = new Uint8Array(60);
    expect(overlay.sendBy("fastdp", other, frame)).toBe(EHOSTUNREACH);
    expect(overlay.sendBy("sleeve", other, frame)).toBe(EHOSTUNREACH);
    const connection = connect();
    expect(overlay.sendBy("sleeve", other, frame)).toBe(0);
    expect(overlay.sendBy("sleeve", peer(3), frame)).toBe(EHOSTUNREACH);
    connection.stop();
    expect(overlay.sendBy("fastdp", other, frame)).toBe(EHOSTUNREACH);
    expect(overlay.sendBy("sleeve", other, frame)).toBe(EHOSTUNREACH);
  });
});

test("MAC addresses: each with its peer and its age; of numbers that are nobody's, none", () => {
  const { kernel, overlay, other, ourself, clock } = overlayNetwork();
  clock.advance(10);
  const now = monotonicNow();
  kernel.macs = [
    ["02:00:00:00:00:01", { peer: 2, seen: now - 5_000_000_000n }],
    ["02:00:00:00:00:02", { peer: 7, seen: now }],
    ["02:00:00:00:00:03", { peer: 1, seen: now - 60_000_000_000n }],
  ];
  const macs = overlay.macs();
  expect(macs.map(({ mac, peer }) => [mac, peer])).toEqual([
    ["02:00:00:00:00:01", other],
    ["02:00:00:00:00:03", ourself],
  ]);
  for (const [i, ms] of [5_000, 60_000].entries()) {
    expect(macs[i]?.seenAgoMs).toBeGreaterThanOrEqual(ms);
    // Not in another unit.
    expect(macs[i]?.seenAgoMs).toBeLessThan(ms + 30_000);
  }
});

test("peers whose numbers change take what was learned along; those that are gone do not", () => {
  const { told, other, peer, peers, changed, clock } = overlayNetwork();
  clock.advance(10);
  const third = peer(3);
  peers.set(third.name, third);
  changed();
  expect(told.renumbered).toEqual([]);
  Object.assign(other, { shortId: 9 });
  changed();
  expect(told.renumbered.splice(0)).toEqual([[[2, 9]]]);
  peers.delete(third.name);
  changed();
  expect(told.renumbered.splice(0)).toEqual([[[3, undefined]]]);
  changed();
  expect(told.renumbered).toEqual([]);
});

test("a peer that is gone keeps its number while the kernel still forwards to it", () => {
  const { told, other, peers, unicast, connect, changed, clock } = overlayNetwork();
  const connection = connect();
  connection.stop();
  unicast.delete(other.name);
  peers.delete(other.name);
  changed();
  expect(told.renumbered).toEqual([]);
  clock.advance(MINUTE);
  changed();
  expect(told.renumbered).toEqual([[[2, undefined]]]);
});

test("once frozen, nothing that happens reaches the kernel", () => {
  const { overlay, told, changed, connect, clock, listeners } = overlayNetwork();
  connect();
  const { length } = told.tables;
  overlay.freeze();
  changed();
  for (const listener of listeners) listener.routesChanged?.();
  clock.advance(2 * MINUTE);
  expect(told.tables.length).toBe(length);
  expect([told.forgotten, told.settled]).toEqual([[], 0]);
  expect(overlay.macs()).toEqual([]);
});

test("the end: told to the datapath with whether its file is free", async () => {
  const { overlay, told } = overlayNetwork();
  await overlay.stop();
  expect(told.closed).toEqual([true]);
});

describe("the engine of sleeve", () => {
  test("is told of links that relay to VXLAN, and when they are not needed any more", () => {
    const { connect, engines, changed } = overlayNetwork();
    const connection = connect();
    const relays = () =>
      (engines[0]?.told.splice(0) ?? []).flatMap((each) =>
        each.type === "add" && each.params.kind === "vxlan"
          ? `add ${each.params.index} for ${each.params.peer}`
          : each.type === "remove"
            ? `remove ${each.index}`
            : [],
      );
    expect(relays()).toEqual(["add 1 for 2"]);
    changed();
    expect(relays()).toEqual([]);
    connection.stop();
    changed();
    expect(relays()).toEqual(["remove 0", "remove 1"]);
  });

  test("is told of an MTU that changes, for each link; frames to VXLAN may be as long as that, no longer", async () => {
    const mtu = { fixed: undefined, agreed: 1_400, accept: async () => {}, changed() {} };
    const { connect, engines, overlay, other } = overlayNetwork(undefined, { mtu });
    connect();
    const sizes = () =>
      (engines[0]?.told.splice(0) ?? []).flatMap((each) =>
        each.type === "set" && each.settings.remote?.port === 1 ? [[each.index, each.settings.mtu]] : [],
      );
    expect(sizes()).toEqual([[1, 1_400]]);
    overlay.mtu.measured({ mtu: 1_300, by: other.name });
    expect([overlay.mtu.mtu, sizes()]).toEqual([1_300, [[1, 1_300]]]);
  });

  test("is given tables with the way to each neighbour by sleeve and by VXLAN", () => {
    const { connect, engines } = overlayNetwork();
    connect();
    const tables = engines[0]?.told.flatMap((each) => (each.type === "tables" ? each.tables : [])).at(-1);
    expect([...(tables?.next ?? [])]).toEqual([[2, 1]]);
    expect([...(tables?.nextBySleeve ?? [])]).toEqual([[2, 0]]);
  });

  test("restarted: connections that had it are renewed, once; its links are made anew", async () => {
    const { connect, engines, clock, told, overlay } = overlayNetwork();
    connect();
    engines[0]?.fail("out of memory");
    expect(overlay.notes()).toEqual([expect.stringContaining("the sleeve engine has ended: out of memory")]);
    expect(told.failed).toEqual([]);
    await Bun.sleep(0);
    clock.advance(MINUTE / 2);
    expect(engines.length).toBe(2);
    expect(told.failed).toEqual(["the sleeve engine was restarted"]);
    const added = engines[1]?.told.flatMap((each) => (each.type === "add" ? each.params.kind : []));
    expect(added).toEqual(["vxlan"]);
  });

  test("says that its link was removed, and is told when that is back", () => {
    const { engines, told, datapath } = overlayNetwork();
    engines[0]?.say({ type: "tapRemoved" });
    expect(told.logged).toEqual(["link tap was removed: sleeve loses frames until the link is restored"]);
    datapath.tap.recreated();
    expect(engines[0]?.told.at(-1)).toEqual({ type: "tapRestored" });
    engines[0]?.say({ type: "ready", crypto: "wasm" });
    engines[0]?.say({ type: "error", reason: "EIO" });
    expect(told.logged.at(-1)).toContain("sleeve lost a frame: EIO");
  });
});

describe("what is offered and shown", () => {
  test("with the fast datapath", () => {
    const { overlay, told, clock, kernel, changed } = overlayNetwork();
    expect(overlay.features()).toEqual({
      Overlays: "fastdp sleeve",
      HeartbeatAcks: "close",
      PathMTU: "heartbeats",
    });
    expect(overlay.diagnostics()).toMatchObject({ fastdp: { interface: "vxlan-6784" } });
    expect(told.logged).toEqual([]);
    expect(overlay.notes()).toEqual([]);
    kernel.refusals = 1;
    changed();
    expect(overlay.notes()).toEqual(["forwarding tables are out of date: ENOMEM"]);
    clock.advance(1_100);
    expect(overlay.notes()).toEqual([]);
  });

  test("without it: sleeve alone, with the reason in log, diagnostics and each connection", () => {
    const trouble = overlayTrouble("no VXLAN", "the kernel lacks VXLAN", 6784);
    const { overlay, told, connect, other, routes } = overlayNetwork(trouble);
    const remedy = "'modprobe vxlan' on both hosts, then launch weave again";
    expect(overlay.features()).toMatchObject({ Overlays: "sleeve" });
    expect(told.logged).toEqual([expect.stringContaining("no fast datapath: the kernel lacks VXLAN")]);
    expect(JSON.stringify(overlay.diagnostics())).toContain(remedy);
    connect();
    expect(routes()).toEqual([[2, SLEEVE]]);
    expect(overlay.pathTo(other)).toMatchObject({
      overlay: "sleeve",
      standby: [],
      reason: "fastdp: the kernel lacks VXLAN",
    });
  });
});
