// What the overlay tells the kernel as the topology changes and time passes: with a kernel that only takes notes.
import { afterEach, expect, test } from "bun:test";
import type { IPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Slices } from "../../lib/clock/slices.ts";
import { silentLog } from "../../lib/log/log.ts";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { MeshRouter } from "../../lib/mesh/router.ts";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import type { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import { NEW_NEIGHBOUR } from "../../lib/overlay/datapath/maps.ts";
import type { Esp } from "../../lib/overlay/fastdp/esp.ts";
import { CONTROL } from "../../lib/overlay/fastdp/protocol.ts";
import { NetworkOverlay } from "../../lib/overlay/network.ts";
import { closePipe, openPipe } from "../../lib/sys/pipe.ts";

const MINUTE = 60_000;
const THERE = 0x0a630002;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

function network() {
  const clock = new SimulatedClock(1_000);
  const peer = (n: number) => {
    const made = Peer.placeholder(nameFromNumber(BigInt(n)));
    return Object.assign(made, { shortId: n, hasShortId: true });
  };
  const [ourself, other] = [peer(1), peer(2)];
  const peers = new Map<PeerName, Peer>([ourself, other].map((each) => [each.name, each]));
  const unicast = new Map<PeerName, PeerName>([[ourself.name, UNKNOWN_PEER]]);
  const listeners: Parameters<MeshRouter["listen"]>[0][] = [];
  const mesh = {
    ourself,
    peers: {
      all: () => [...peers.values()],
      get: (name: PeerName) => peers.get(name),
      byShortId: (id: number) => [...peers.values()].find((each) => each.shortId === id),
    },
    routes: { unicast, broadcast: () => [], broadcastFrom: () => undefined },
    slices: new Slices(clock),
    listen: (listener: Parameters<MeshRouter["listen"]>[0]) => listeners.push(listener),
  } as unknown as MeshRouter;
  const tap = openPipe();
  const told = { tables: [] as ForwardingTable[], forgotten: [] as bigint[], attached: [] as number[] };
  const kernel = { heartbeat: undefined as object | undefined, refusals: 0 };
  const datapath = {
    table: { routes: new Map<number, IPv4>(), hops: new Map(), neighbours: new Set<IPv4>() },
    maps: { macs: { fd: tap.readFd } },
    tap: { fd: tap.readFd },
    withoutFastdp: undefined,
    renumber: (id: number) => told.attached.push(id),
    close() {},
    apply: (table: ForwardingTable) => {
      if (kernel.refusals-- > 0) throw new Error("ENOMEM");
      told.tables.push(table);
    },
    forgetMacs: (before: bigint) => told.forgotten.push(before),
    renumberMacs() {},
    heartbeat: () => kernel.heartbeat,
    neighbour: () => NEW_NEIGHBOUR,
    macs: () => [],
  } as unknown as Datapath;
  const esp = { unavailable: undefined, settle() {}, allowClear() {}, end() {} } as unknown as Esp;
  const config = { name: ourself.name, host: "127.0.0.1", port: 0, mtu: 1_376 };
  const overlay = new NetworkOverlay(datapath, esp, config, clock, silentLog);
  overlay.start(mesh);
  ends.push(async () => {
    await overlay.stop();
    closePipe(tap);
  });
  const changed = () => {
    for (const listener of listeners) listener.routesChanged?.();
    clock.advance(10);
  };
  /** A connection of the fast datapath to the other peer, established. */
  const connect = () => {
    const connection = overlay.prepare({
      remotePeer: other,
      localIp: "127.0.0.1",
      remoteIp: "10.99.0.2",
      remotePort: 0,
      outbound: true,
      connectionUid: 7n,
      sessionKey: undefined,
      features: new Map([["Overlays", "fastdp sleeve"]]),
      sendControl() {},
      established() {},
      restart() {},
      failed: (error) => {
        throw error;
      },
    });
    connection.confirm();
    const at = BigInt(clock.now()) * 1_000_000n;
    kernel.heartbeat = { connectionUid: 7n, size: 1_390, length: 1_390, sender: THERE, at };
    connection.control(TAG.overlayControl, Uint8Array.of(0, CONTROL.heartbeatAck));
    unicast.set(other.name, other.name);
    clock.advance(20);
    changed();
    return connection;
  };
  const routes = () => [...(told.tables.at(-1)?.routes ?? [])];
  return { clock, told, kernel, listeners, ourself, other, unicast, changed, connect, routes };
}

test("a peer that is gone is forwarded to for a minute, and then no more, without any other event", () => {
  const { clock, told, other, unicast, changed, connect, routes } = network();
  const connection = connect();
  expect(routes()).toEqual([[2, THERE]]);
  connection.stop();
  unicast.delete(other.name);
  changed();
  expect(routes()).toEqual([[2, THERE]]);
  clock.advance(MINUTE - 1_000);
  expect(routes()).toEqual([[2, THERE]]);
  clock.advance(2_000);
  expect(routes()).toEqual([]);
  const { length } = told.tables;
  clock.advance(24 * 60 * MINUTE);
  expect(told.tables.length).toBe(length);
});

test("a peer that comes back in time stays, for good", () => {
  const { clock, other, unicast, changed, connect, routes } = network();
  connect().stop();
  unicast.delete(other.name);
  changed();
  clock.advance(30_000);
  connect();
  // Whether frames get through is seen to elsewhere; the route is what the topology says.
  clock.advance(MINUTE);
  changed();
  expect(routes().map(([id]) => id)).toEqual([2]);
});

test("a table that the kernel refuses is written again each second until it is taken, without any other event", () => {
  const { clock, told, kernel, changed } = network();
  clock.advance(10);
  const { length } = told.tables;
  kernel.refusals = 3;
  changed();
  clock.advance(2_900);
  expect(told.tables.length).toBe(length);
  clock.advance(200);
  expect(told.tables.length).toBe(length + 1);
  clock.advance(MINUTE);
  expect(told.tables.length).toBe(length + 1);
});

test("with another short id of ours all that was learned by the old ones is forgotten, at once and once", () => {
  const { clock, told, listeners, ourself } = network();
  clock.advance(10);
  expect(told.forgotten).toEqual([]);
  Object.assign(ourself, { shortId: 9 });
  for (const listener of listeners) listener.shortIdsChanged?.();
  expect([told.attached, told.forgotten.length]).toEqual([[9], 1]);
  expect(told.forgotten[0]).toBeGreaterThan(0n);
});

test("what was not seen for ten minutes is forgotten, looked for every minute, for a day", () => {
  const { clock, told } = network();
  clock.advance(24 * 60 * MINUTE);
  expect(told.forgotten.length).toBe(24 * 60);
  expect(new Set(told.tables.map((table) => JSON.stringify([...table.routes]))).size).toBe(1);
});
